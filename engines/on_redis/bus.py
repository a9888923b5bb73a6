"""What goes through Redis: weights, wanted actors per game, run status, live metrics.

Redis holds what must outlive a process or be seen from outside the job; bulk data never comes here.
Keys of one run start with `am:RUN:`. Every value is msgpack, never pickle, so that whoever can
write to Redis cannot run code in this program; what does not decode is refused and counted.

    am:RUN:weights:newest       encoded version of the newest weights
    am:RUN:weights:versions     list of the stored versions, newest first
    am:RUN:weights:VERSION      one snapshot, for the two newest versions
    am:RUN:weights              channel: each new version, nothing but its number
    am:RUN:wanted               hash: game -> number of actors
    am:RUN:settings             hash: game -> map of settings that it should have
    am:RUN:status               one map
    am:RUN:metrics              list of maps, newest first, capped

Redis may stop, restart or come back empty at any time. Nothing here waits for it for longer than a
socket timeout: after a failure each client leaves Redis alone for a while that grows with every
further failure, readers go on with what they have, and owners rewrite what was lost.
"""

import contextlib
import logging
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import msgpack
import redis

from engines.on_redis.link import RedisLink, RedisUnavailableError
from networks.weights import WeightSnapshot, WeightsVersion

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """Where a run's state is: what the run's processes are given to find it."""

    # Never logged: it may hold a password.
    url: str
    # Name of the run there.
    run: str


# Two, so that a reader that has just read the newest version can still fetch it.
NUM_KEPT_VERSIONS = 2

# A snapshot whose writer died before pointing to it disappears after this time.
_UNFINISHED_TTL_S = 600


class RedisBus:
    """The state of one run in Redis, each call at once and in the caller's thread.

    The one place that knows keys and encodings. Every call raises RedisUnavailableError, and has
    changed nothing, if Redis does not answer. Actors and learner use RedisWeightSource and
    RedisWeightSink, which keep Redis out of their loops.
    """

    def __init__(
        self, url: str, run: str, *, max_metrics: int = 2000, link: RedisLink | None = None
    ) -> None:
        """Connect nothing yet: a process may start while Redis is down.

        A `link` with other pauses than the usual ones replaces that to `url`. ValueError for a
        malformed URL or name.
        """
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,200}", run):
            raise ValueError(
                f"{run!r} cannot be the name of a run: use up to 200 letters, digits, '.', '_', '-'"
            )
        self._link = link or RedisLink(url)
        self._prefix = f"am:{run}:"
        self._max_metrics = max_metrics
        self._lock = threading.Lock()
        self._known_wanted: dict[str, int] = {}
        self._num_damaged = 0
        self._num_refused_publishes = 0
        self._num_weight_bytes = 0

    def publish_weights(self, snapshot: WeightSnapshot) -> bool:
        """Store a snapshot, make it the newest, and drop all but the two newest.

        Nobody sees a version before all of it is stored. False when a newer version is there
        already: then another incarnation of the learner has taken over, and this one should stop.
        After a RedisUnavailableError nothing, or all of it, may have been stored.
        """
        version = snapshot.version.encode()
        data = snapshot.to_bytes()
        self._count_weights(data)
        if self._link.call(lambda client: self._store_weights(client, version, data)):
            return True
        with self._lock:
            self._num_refused_publishes += 1
        return False

    def newest_version(self) -> WeightsVersion | None:
        """The newest published version that can be fetched, None if there is none."""

        def read(client: Any) -> WeightsVersion | None:
            version = self._read_newest(client)
            if version is None or not client.exists(self._weights_key(version.encode())):
                return None
            return version

        return self._link.call(read)

    def fetch_weights(
        self, newer_than: WeightsVersion | None, *, except_for: WeightsVersion | None = None
    ) -> WeightSnapshot | None:
        """The newest snapshot if it is newer (any, for None), else None.

        DamagedWeightsError, which is counted, if what is stored is not the snapshot it should be;
        a version known to be damaged is not fetched again (`except_for`).
        """
        version = self._link.call(self._read_newest)
        if version is None or version == except_for:
            return None
        if newer_than is not None and version <= newer_than:
            return None
        data: bytes | None = self._link.call(
            lambda client: client.get(self._weights_key(version.encode()))
        )
        if data is None:  # Overtaken by two newer versions since; the next call finds those.
            return None
        self._count_weights(data)
        try:
            snapshot = WeightSnapshot.from_bytes(data)
        except ValueError as error:
            self._count_damaged(f"weights {tuple(version)}: {error}")
            raise DamagedWeightsError(version) from error
        if snapshot.version != version:
            self._count_damaged(f"weights {tuple(version)} hold {tuple(snapshot.version)}")
            raise DamagedWeightsError(version)
        return snapshot

    def set_wanted(self, wanted: Mapping[str, int]) -> None:
        """Say how many actors some games should have; the other games keep their numbers."""
        if wanted:
            fields = {game: msgpack.packb(number) for game, number in wanted.items()}
            self._link.call(lambda client: client.hset(self._prefix + "wanted", mapping=fields))
            with self._lock:
                self._known_wanted |= wanted

    def wanted(self) -> dict[str, int]:
        """The wanted number of actors of every game that has one.

        What this object has read or set before is kept: it is the answer while Redis does not, and
        it is written back for games that Redis has lost. A game is never taken off the list; give
        it 0 actors instead.
        """
        key = self._prefix + "wanted"
        with self._lock:
            known = dict(self._known_wanted)
        try:
            fields: dict[bytes, bytes] = self._link.call(lambda client: client.hgetall(key))
            for game in known.keys() - {name.decode(errors="replace") for name in fields}:
                self._restore_wanted(key, game, known[game])
        except RedisUnavailableError:
            return known
        for game_bytes, data in fields.items():
            number = self._unpack(data, key, _is_count)
            if number is not None:
                known[game_bytes.decode(errors="replace")] = number
        with self._lock:
            self._known_wanted |= known
        return known

    def set_settings(self, changes: Mapping[str, Mapping[str, float]]) -> None:
        """Say which settings of replay some games should have; those not named stay."""
        if changes:
            now = self.settings()
            fields = {game: _pack({**now.get(game, {}), **new}) for game, new in changes.items()}
            self._link.call(lambda client: client.hset(self._prefix + "settings", mapping=fields))

    def settings(self) -> dict[str, dict[str, float]]:
        """What somebody has asked for, by game.

        Not kept for a Redis that comes back empty: the run has followed by then.
        """
        key = self._prefix + "settings"
        fields: dict[bytes, bytes] = self._link.call(lambda client: client.hgetall(key))
        asked = {
            game.decode(errors="replace"): self._unpack(data, key, _is_map)
            for game, data in fields.items()
        }
        return {game: change for game, change in asked.items() if change is not None}

    def set_status(self, status: Mapping[str, Any], *, ttl_s: int | None = None) -> None:
        """Replace the run's status. Its owner calls this every few seconds, also unchanged.

        It is gone after `ttl_s`, unless it is set again: a status says that there is an owner.
        """
        data = _pack(status)
        self._link.call(lambda client: client.set(self._prefix + "status", data, ex=ttl_s))

    def status(self) -> dict[str, Any] | None:
        """The run's status; None if there is none or it is damaged."""
        key = self._prefix + "status"
        data: bytes | None = self._link.call(lambda client: client.get(key))
        return None if data is None else self._unpack(data, key, _is_map)

    def status_ttl_s(self) -> float | None:
        """For how long the status will be there unless it is set again; None without one."""
        left: int = self._link.call(lambda client: client.pttl(self._prefix + "status"))
        return left / 1000.0 if left > 0 else None

    def push_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Append one record to the live metrics; the oldest ones beyond the cap fall out."""
        key = self._prefix + "metrics"
        data = _pack(metrics)

        def push(client: Any) -> None:
            with client.pipeline(transaction=True) as pipeline:
                pipeline.lpush(key, data)
                pipeline.ltrim(key, 0, self._max_metrics - 1)
                pipeline.execute()

        self._link.call(push)

    def latest_metrics(self, count: int = 1) -> list[dict[str, Any]]:
        """The newest records, oldest of them first; damaged ones are left out."""
        key = self._prefix + "metrics"
        values: list[bytes] = self._link.call(lambda client: client.lrange(key, 0, count - 1))
        records = [self._unpack(data, key, _is_map) for data in reversed(values)]
        return [record for record in records if record is not None]

    def forget_run(self) -> None:
        """Delete everything this run has in Redis."""
        with self._lock:
            self._known_wanted = {}

        def forget(client: Any) -> None:
            for key in list(client.scan_iter(match=self._prefix + "*", count=1000)):
                client.delete(key)

        self._link.call(forget)

    def counters(self) -> dict[str, int]:
        """Failures and recoveries since the start, for the run's metrics.

        A restart of the server that falls between two calls is neither: the client connects again
        by itself.
        """
        with self._lock:
            return {
                "redis_reconnects": self._link.num_reconnects,
                "redis_failures": self._link.num_failures,
                "redis_damaged_values": self._num_damaged,
                "redis_refused_publishes": self._num_refused_publishes,
                "weight_bytes": self._num_weight_bytes,
            }

    def close(self) -> None:
        """Close the connections."""
        self._link.close()

    def _count_weights(self, data: bytes) -> None:
        with self._lock:
            self._num_weight_bytes += len(data)

    def _restore_wanted(self, key: str, game: str, number: int) -> None:
        # Only if still missing: somebody may have set a new number in between.
        self._link.call(lambda client: client.hsetnx(key, game, msgpack.packb(number)))

    def _weights_key(self, version: int) -> str:
        return f"{self._prefix}weights:{version}"

    def _read_newest(self, client: Any) -> WeightsVersion | None:
        key = self._prefix + "weights:newest"
        data = client.get(key)
        number = None if data is None else self._unpack(data, key, _is_encoded_version)
        return None if number is None else WeightsVersion.decode(number)

    def _store_weights(self, client: Any, version: int, data: bytes) -> bool:
        newest_key = self._prefix + "weights:newest"
        versions_key = self._prefix + "weights:versions"
        weights_key = self._weights_key(version)
        packed_version = msgpack.packb(version)
        while True:
            with client.pipeline(transaction=True) as pipeline:
                # Two learners may publish at once while one replaces the other; the watch makes
                # reading and replacing the newest version one step.
                pipeline.watch(newest_key)
                newest = self._read_newest(pipeline)
                if newest is not None and newest.encode() > version:
                    return False
                # Outside the transaction and before it: nobody looks for it yet.
                pipeline.set(weights_key, data, ex=_UNFINISHED_TTL_S)
                kept, dropped = self._choose_kept(pipeline.lrange(versions_key, 0, -1), version)
                pipeline.multi()
                pipeline.persist(weights_key)
                pipeline.set(newest_key, packed_version)
                pipeline.delete(versions_key, *map(self._weights_key, dropped))
                pipeline.rpush(versions_key, *map(msgpack.packb, kept))
                pipeline.publish(self._prefix + "weights", packed_version)
                with contextlib.suppress(redis.WatchError):
                    pipeline.execute()
                    return True

    def _choose_kept(self, stored: Sequence[bytes], version: int) -> tuple[list[int], list[int]]:
        """(versions to keep, newest first; versions to delete)."""
        known = {self._unpack(data, "versions", _is_encoded_version) for data in stored}
        ordered = sorted((known | {version}) - {None}, reverse=True)
        return ordered[:NUM_KEPT_VERSIONS], ordered[NUM_KEPT_VERSIONS:]

    def _unpack(self, data: bytes, key: str, is_valid: Callable[[Any], bool]) -> Any:
        """What was packed; None, counted, if it does not decode or is not what it should be."""
        try:
            value = msgpack.unpackb(data)
        except (ValueError, TypeError, msgpack.UnpackException) as error:
            self._count_damaged(f"{key}: {error!r}")
            return None
        if is_valid(value):
            return value
        self._count_damaged(f"{key}: unexpected {type(value).__name__}")
        return None

    def _count_damaged(self, what: str) -> None:
        with self._lock:
            self._num_damaged += 1
            first = self._num_damaged == 1
        if first:  # A damaged value that stays is read again and again: once is enough to say so.
            _LOG.warning("refused a damaged value in Redis: %s", what)


class DamagedWeightsError(ValueError):
    """A published snapshot that is not one."""

    def __init__(self, version: WeightsVersion) -> None:
        super().__init__(f"the published weights {tuple(version)} are damaged")
        self.version = version


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_encoded_version(value: object) -> bool:
    return _is_count(value) and value < 2**63


def _is_map(value: object) -> bool:
    return isinstance(value, dict)


def _pack(value: Mapping[str, Any]) -> bytes:
    packed: bytes = msgpack.packb(dict(value), default=_plain)
    return packed


def _plain(value: Any) -> Any:
    """NumPy and torch scalars as Python's."""
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"{value!r} cannot go into Redis: use numbers, strings, lists and maps")
