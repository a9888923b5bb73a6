"""What the processes of a run have used since they began, as each counts it for itself."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ProcessUse:
    """What one process has used since it began."""

    # Processor time of all its threads.
    cpu_s: float
    # Of weights that it has published or fetched.
    weight_bytes: int

    @classmethod
    def of_this(cls, *, weight_bytes: int = 0) -> ProcessUse:
        """Usage of the calling process."""
        return cls(time.process_time(), weight_bytes)


class RoleUse:
    """What all processes of a role have used, those that are gone among them."""

    def __init__(self) -> None:
        """None has reported."""
        self._by_process: dict[str, ProcessUse] = {}

    def take(self, process: str, use: ProcessUse) -> None:
        """Take in a process's newest report; `process` is a name that no other one has had."""
        self._by_process[process] = use

    @property
    def cpu_s(self) -> float:
        """Processor time."""
        return sum(use.cpu_s for use in self._by_process.values())

    @property
    def weight_bytes(self) -> int:
        """Bytes of weights fetched or published, as ProcessUse counts them."""
        return sum(use.weight_bytes for use in self._by_process.values())


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
