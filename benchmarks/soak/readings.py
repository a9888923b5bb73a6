"""One look at a run that goes on: processes, Redis, Ray's object store, files, its own metrics."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import redis

from benchmarks.processes import Family
from benchmarks.soak.store import StoreReader, gcs_address
from engines.on_redis.link import connect
from records.machine import title_of
from records.run_dir import RunDir

_RESTARTS = ("actor_restarts", "shard_restarts", "learner_restarts", "inference_restarts")


class Reader:
    """Takes the readings of one run; what cannot be read is left out of a reading."""

    def __init__(
        self, family: Family, *, run_path: Path, scratch: Path, environment: Mapping[str, str]
    ) -> None:
        """Nothing is read yet."""
        self.family = family
        self._run = RunDir(run_path, "", "")
        self._scratch = scratch
        self._environment = environment
        # The moment that `seconds` count from.
        self.started = time.monotonic()
        self._stack = ExitStack()
        self._redis: redis.Redis | None = None
        self._store: StoreReader | None = None
        self._metrics = _Tail(self._run.metrics_path)

    def close(self) -> None:
        """Let go of Redis and the object store."""
        self._stack.close()
        self._redis = self._store = None

    @property
    def looks(self) -> Mapping[str, float]:
        """The newest value of each of the run's own metrics."""
        self._metrics.read()
        return self._metrics.latest

    def read(self) -> dict[str, float]:
        """Everything, as of now."""
        reading = {"seconds": time.monotonic() - self.started}
        reading |= self._read_processes()
        reading |= self._read_redis()
        reading |= self._read_store()
        for name, folder in (("run", self._run.path), ("temporary", self._scratch)):
            files, size = _count_files(folder)
            reading |= {f"{name}_files": files, f"{name}_bytes": size}
        reading["checkpoints"] = _count_files(self._run.checkpoints)[0]
        return reading | _from_looks(self.looks)

    def _read_processes(self) -> dict[str, float]:
        return {
            f"{kind}/{role}": value
            for role, found in self.family.read().items()
            for kind, value in (
                ("memory", found.memory_bytes),
                ("descriptors", found.descriptors),
                ("threads", found.threads),
                ("processes", found.processes),
            )
        }

    def _read_redis(self) -> dict[str, float]:
        try:
            if self._redis is None:
                self._redis = connect(self._run.redis_url_path.read_text())
                self._stack.callback(self._redis.close)
            return read_redis(self._redis)
        except (OSError, ValueError, redis.RedisError):
            return {}  # Not there yet, or restarted just now.

    def _read_store(self) -> dict[str, float]:
        if self._store is None:
            titles = (title_of(process.pid) for process in self.family.living())
            address = next((a for a in map(gcs_address, titles) if a), None)
            if address is None:
                return {}
            self._store = self._stack.enter_context(StoreReader(address, self._environment))
        used = self._store.bytes_used()
        return {} if used is None else {"object_store": used}


def read_redis(client: redis.Redis) -> dict[str, float]:
    """Keys, clients and memory; the list of looks apart, which grows until it is full."""
    information: Any = client.info()
    reading = {
        "redis_keys": float(client.dbsize()),
        "redis_clients": float(information["connected_clients"]),
        "redis_used_memory": float(information["used_memory"]),
    }
    lists: Any = client.keys("am:*:metrics")
    looks = sum(int(client.llen(key)) for key in lists)
    bytes_of_looks = sum(int(client.memory_usage(key, samples=0) or 0) for key in lists)
    reading["redis_looks"] = looks
    reading["redis_memory"] = reading["redis_used_memory"] - bytes_of_looks
    return reading


def _from_looks(latest: Mapping[str, float]) -> dict[str, float]:
    reading = {
        name: latest[name]
        for name in ("steps", "updates", "stale_priorities", "overwritten_unsampled")
        if name in latest
    }
    if latest:
        reading["restarts"] = sum(latest.get(f"faults/{name}", 0) for name in _RESTARTS)
        reading["replay_fill"] = replay_fill(latest)
        reading["snapshot_bytes"] = latest.get("replay/snapshot_bytes", 0.0)
    return reading


def replay_fill(latest: Mapping[str, float]) -> float:
    """Entries held over those that can be, in the game that has the least."""
    end = "/replay_capacity"
    games = [name.removesuffix(end) for name in latest if name.endswith(end)]
    shares = [latest.get(f"{g}/replay_size", 0.0) / latest[f"{g}{end}"] for g in games]
    return min(shares, default=0.0)


class _Tail:
    """The newest value of every key of a file of JSON lines that grows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self.latest: dict[str, float] = {}

    def read(self) -> None:
        with suppress(FileNotFoundError), self._path.open("rb") as file:
            file.seek(self._offset)
            whole, newline, _ = file.read().rpartition(b"\n")
            self._offset += len(whole) + len(newline)
            for line in whole.splitlines():
                row = json.loads(line)
                self.latest |= {key: value for key, value in row.items() if value is not None}


def _count_files(folder: Path) -> tuple[int, int]:
    """How many, and how many bytes; links are not followed."""
    count = size = 0
    for path, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # Removed meanwhile.
                size += os.lstat(os.path.join(path, name)).st_size
                count += 1
    return count, size
