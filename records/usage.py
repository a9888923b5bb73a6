"""What the processes of a run have used since they began, as each counts it for itself."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ProcessUse:
    """What one process has used since it began."""

    cpu_s: float
    """Processor time of all its threads."""
    weight_bytes: int
    """Of weights that it has published or fetched."""

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

    elapsed_s: float
    """Since its loop began."""
    updating_s: float
    """In updates."""
    waiting_s: float | None = None
    """Without a batch; None where learner and actors take turns in one process."""
    loading_s: float = 0.0
    """Of the thread that brings batches to the device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What the processes of a run have used since they began."""

    learner: LearnerUsage | None = None
    """None before it has answered."""
    shards_busy_s: tuple[float, ...] = ()
    """Time that each shard has worked, those that died first."""
    cpu_s: dict[str, float] = field(default_factory=dict)
    """Processor time by role, all processes of the role together."""
    moved_bytes: dict[str, int] = field(default_factory=dict)
    """By kind: `chunks` into replay, `batches` out of it, `weights` to and from Redis."""
    num_cores: int | None = None
    """That all of the run shares; None where it is spread over a cluster."""
