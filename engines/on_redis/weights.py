"""Weights through Redis, kept out of the roles' loops: each side has a thread of its own."""

import logging
import threading

from engines.on_redis.bus import DamagedWeightsError, RedisBus
from engines.on_redis.link import RedisUnavailableError
from networks.weights import WeightSnapshot, WeightsVersion

_LOG = logging.getLogger(__name__)


class RedisWeightSource:
    """Follows the newest published weights in a thread; implements networks.weights.WeightSource.

    The version never decreases: a snapshot of a newer incarnation is followed even with fewer
    updates, an older one never. While Redis is away, `poll` keeps giving what was fetched last.
    """

    def __init__(self, url: str, run: str, *, poll_period_s: float = 0.2) -> None:
        """Start to look, once in `poll_period_s`, at the newest version, which is a few bytes."""
        self._bus = RedisBus(url, run)
        self._poll_period_s = poll_period_s
        self._changed = threading.Condition()
        self._newest: WeightSnapshot | None = None
        self._damaged: WeightsVersion | None = None
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="redis-weights", daemon=True)
        self._thread.start()

    def poll(self, newer_than: WeightsVersion | None) -> WeightSnapshot | None:
        """The newest snapshot if it is newer (any, for None), else None. Never blocks."""
        with self._changed:
            return self._newest if self._has_newer(newer_than) else None

    def wait(self, newer_than: WeightsVersion | None, timeout_s: float) -> WeightSnapshot | None:
        """Like `poll`, but waits for a newer one; ended by its arrival, the timeout, or `close`."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._has_newer(newer_than) or self._closed.is_set(), timeout_s
            )
            return self._newest if self._has_newer(newer_than) else None

    def counters(self) -> dict[str, int]:
        """The bus's counters of reconnections and bytes."""
        return self._bus.counters()

    def close(self, timeout_s: float = 10.0) -> None:
        """Stop following; the last snapshot stays available."""
        self._closed.set()
        with self._changed:
            self._changed.notify_all()
        self._thread.join(timeout_s)
        self._bus.close()

    def _has_newer(self, newer_than: WeightsVersion | None) -> bool:
        if self._newest is None:
            return False
        return newer_than is None or self._newest.version > newer_than

    def _follow(self) -> None:
        while not self._closed.is_set():
            self._fetch()
            self._closed.wait(self._poll_period_s)

    def _fetch(self) -> None:
        held = None if self._newest is None else self._newest.version
        reconnects_before = self._bus.counters()["redis_reconnects"]
        try:
            snapshot = self._bus.fetch_weights(held, except_for=self._damaged)
        except RedisUnavailableError:
            return
        except DamagedWeightsError as error:
            # Fetching the same bytes again would not mend them.
            self._damaged = error.version
            return
        if self._bus.counters()["redis_reconnects"] > reconnects_before:
            self._damaged = None  # Whoever owns the weights may have rewritten them since.
        if snapshot is not None:
            with self._changed:
                self._newest = snapshot
                self._changed.notify_all()


class RedisWeightSink:
    """Publishes weights from a thread; implements networks.weights.WeightSink.

    The learner never waits for Redis. Only the newest snapshot is kept for publishing: while Redis
    is slow or away, the ones in between are skipped. When Redis has lost the weights, by a restart
    for instance, the newest snapshot is written again.
    """

    def __init__(self, url: str, run: str, *, check_period_s: float = 0.5) -> None:
        """Start the thread, which looks every `check_period_s` whether the weights are there."""
        self._bus = RedisBus(url, run)
        self._check_period_s = check_period_s
        self._changed = threading.Condition()
        self._newest: WeightSnapshot | None = None
        self._settled: WeightsVersion | None = None
        self._closed = False
        self._overtaken = False
        self._num_rewrites = 0
        self._thread = threading.Thread(target=self._serve, name="redis-publish", daemon=True)
        self._thread.start()

    def publish(self, snapshot: WeightSnapshot) -> None:
        """Hand over the newest snapshot; one that is not newer is dropped. Never blocks."""
        with self._changed:
            if self._newest is None or snapshot.version > self._newest.version:
                self._newest = snapshot
                self._changed.notify_all()

    def flush(self, timeout_s: float) -> bool:
        """Wait until the newest snapshot is stored, or refused as overtaken; whether it is.

        Ended by that, by the timeout, or by `close`.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._is_settled() or self._closed, timeout_s)
            return self._is_settled()

    @property
    def is_overtaken(self) -> bool:
        """Whether a newer incarnation of the learner publishes: then this one should stop."""
        with self._changed:
            return self._overtaken

    def counters(self) -> dict[str, int]:
        """The bus's counters, and how often lost weights were written again."""
        return self._bus.counters() | {"redis_rewrites": self._num_rewrites}

    def close(self, timeout_s: float = 5.0) -> None:
        """Publish what is left if Redis takes it in time, then stop."""
        self.flush(timeout_s)
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(timeout_s)
        self._bus.close()

    def _is_settled(self) -> bool:
        return self._newest is None or self._settled == self._newest.version

    def _serve(self) -> None:
        while True:
            with self._changed:
                # Unpublished weights do not wait, except for a Redis that is away.
                self._changed.wait_for(
                    lambda: self._closed or not self._is_settled(), self._check_period_s
                )
                if self._closed:
                    return
                snapshot, settled = self._newest, self._is_settled()
            if snapshot is None:
                continue
            try:
                self._publish_or_check(snapshot, settled)
            except RedisUnavailableError:
                self._wait_for_redis()

    def _publish_or_check(self, snapshot: WeightSnapshot, settled: bool) -> None:
        if settled:
            stored = self._bus.newest_version()
            if stored is not None and stored >= snapshot.version:
                return
            self._num_rewrites += 1
        stored_it = self._bus.publish_weights(snapshot)
        if not stored_it and not self._overtaken:
            _LOG.warning(
                "weights %s are not published: a newer learner has taken over",
                tuple(snapshot.version),
            )
        with self._changed:
            self._overtaken = not stored_it
            self._settled = snapshot.version
            self._changed.notify_all()

    def _wait_for_redis(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed, min(self._check_period_s, 0.1))
