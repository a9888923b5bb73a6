"""What the processes of a run have used since they began, as each counts it for itself."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import astuple, dataclass, field


@dataclass(frozen=True, slots=True)
class ProcessUse:
    """What one process has used since it began."""

    # Processor time of all its threads.
    cpu_s: float = 0.0
    # Of weights that it has published or fetched.
    weight_bytes: int = 0
    # Connections to Redis that were lost and opened again.
    redis_reconnects: int = 0
    # Chunks given up because their shard had died.
    chunks_lost: int = 0

    @classmethod
    def of_this(cls, redis: Mapping[str, int], *, chunks_lost: int = 0) -> ProcessUse:
        """Usage of the calling process, whose connection to Redis has counted `redis`."""
        return cls(
            cpu_s=time.process_time(),
            weight_bytes=redis.get("weight_bytes", 0),
            redis_reconnects=redis.get("redis_reconnects", 0),
            chunks_lost=chunks_lost,
        )


class RoleUse:
    """What all processes of a role have used, those that are gone among them."""

    def __init__(self) -> None:
        """None has reported."""
        self._by_process: dict[str, ProcessUse] = {}

    def take(self, process: str, use: ProcessUse) -> None:
        """Take in a process's newest report; `process` is a name that no other one has had."""
        self._by_process[process] = use

    @property
    def total(self) -> ProcessUse:
        """The sum over all of them."""
        columns = zip(*map(astuple, self._by_process.values()), strict=True)
        return ProcessUse(*map(sum, columns))


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnerUsage:
    """The time of the learner, or of the first of several, since its process began."""

    # Since its loop began.
    elapsed_s: float
    # In updates.
    updating_s: float
    # Without a batch; None where learner and actors take turns in one process.
    waiting_s: float | None = None
    # Of the thread that brings batches to the device.
    loading_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What the processes of a run have used since they began."""

    # None before it has answered.
    learner: LearnerUsage | None = None
    # Time that each shard has worked, those that died first.
    shards_busy_s: tuple[float, ...] = ()
    # Processor time by role, all processes of the role together.
    cpu_s: dict[str, float] = field(default_factory=dict)
    # By kind: `chunks` into replay, `batches` out of it, `weights` to and from Redis.
    moved_bytes: dict[str, int] = field(default_factory=dict)
    # That all of the run shares; None where it is spread over a cluster.
    num_cores: int | None = None
