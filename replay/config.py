"""Settings of replay: sampling, pacing and sizes."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Literal, TypeAlias

from replay.storage.frame_store import Compression

SamplerKind: TypeAlias = Literal["uniform", "proportional", "rank", "hierarchical"]
PartitionDraw: TypeAlias = Literal["size", "uniform"]
PartitionEdges: TypeAlias = Literal["width", "quantile"]
PartitionOrder: TypeAlias = Literal["rank", "proportional"]
PartitionCorrection: TypeAlias = Literal["within", "full"]


MAX_SAMPLES_PER_INSERT = 1e15
"""As good as no cap; far beyond it, samples that are allowed are no finite number any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayConfig:
    """Sampling and pacing; sizes are for the whole run and are divided among the shards."""

    batch_size: int = 128
    """Transitions the learner gets at once, all games together."""
    capacity_per_game: int = 100_000
    """Transitions kept of each game without a quota of its own (paper: 100,000)."""
    min_size_per_game: int = 2_000
    """Learning starts when every game has this many transitions, or can hold no more (paper:
    10,000)."""
    samples_per_insert: float = 2.0
    """Transitions drawn per transition stored, all games together (paper: 2; Nature DQN: 8)."""
    samples_per_insert_cap: float = 8.0
    """The most a game's transitions are drawn, on average, however short of data it is, unless it
    has a cap of its own; without meaning when every game is pinned."""
    error_buffer: float = 8_192.0
    """Samples that the learner may be ahead or behind before it, or the actors, must wait; of each
    replay process, and of each game when every game is pinned."""
    pin_every_game: bool = False
    """Hold each game by itself to `samples_per_insert` instead of only their sum (the paper's
    lock-step)."""
    sampler: SamplerKind = "proportional"
    """How a game's transitions are drawn: all alike, in proportion to priority, by its rank, or by
    the teacher's value first and priority second (docs/replay.md)."""
    priority_exponent: float = 0.6
    """Between 0, which draws uniformly, and 1 (paper: uniform; Ape-X: 0.6); unused by the sampler
    `uniform`."""
    num_partitions: int = 5
    """`hierarchical`: partitions of a game's transitions by the teacher's value."""
    partition_draw: PartitionDraw = "size"
    """`hierarchical`: partitions are drawn in proportion to their sizes, or all alike."""
    partition_edges: PartitionEdges = "width"
    """`hierarchical`: partitions cover equal stretches of the value, or are equally large."""
    partition_order: PartitionOrder = "rank"
    """`hierarchical`: sampler within a partition."""
    partition_correction: PartitionCorrection = "within"
    """`hierarchical`: importance weights correct the draw within the partition, as in the paper, or
    the full probability; they differ only where partitions are drawn all alike."""
    num_shards: int = 1
    """Replay processes; each holds a slice of the tables of the games whose actors feed it."""
    spread: bool = False
    """Whether a cluster puts the replay processes on many nodes instead of the learner's, for more
    memory than one node has; batches go over the network then."""
    compression: Compression = "none"
    """Of frames in replay: `lz4` takes a fraction of the memory and some of the processor's time
    for every batch (docs/replay.md)."""
    num_batch_slots: int = 3
    """Batches in the memory that each replay process shares with a learner on the same machine;
    0: batches always go through Ray's object store."""
    snapshot_period_s: float = 30.0
    """Seconds from the end of one snapshot of replay in the run's folder to the next; 0: none. A
    replay process that is killed loses what came since its newest one was begun: as much and what
    came during two writes, more where a write takes over a ninth of this, and anything while writes
    fail (docs/replay.md)."""

    def __post_init__(self) -> None:
        """Refuse values that make no sense, naming them."""
        self._check_sampler()
        for name in ("batch_size", "capacity_per_game", "min_size_per_game", "num_shards"):
            if getattr(self, name) < 1:
                raise ValueError(f"replay.{name} must be at least 1, got {getattr(self, name)}")
        for name in ("samples_per_insert", "error_buffer"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(
                    f"replay.{name} must be positive and finite, got {getattr(self, name)}"
                )
        if self.num_batch_slots < 0:
            raise ValueError(
                f"replay.num_batch_slots must not be negative, got {self.num_batch_slots}"
            )
        if not 0 <= self.snapshot_period_s < math.inf:
            raise ValueError(
                f"replay.snapshot_period_s must be 0 (off) or positive, got "
                f"{self.snapshot_period_s}"
            )
        if not self.samples_per_insert <= self.samples_per_insert_cap <= MAX_SAMPLES_PER_INSERT:
            raise ValueError(
                f"replay.samples_per_insert_cap ({self.samples_per_insert_cap}) must be at most "
                f"{MAX_SAMPLES_PER_INSERT:g} and not below replay.samples_per_insert "
                f"({self.samples_per_insert})"
            )
        if not 0.0 <= self.priority_exponent <= 1.0:
            raise ValueError(
                f"replay.priority_exponent must lie between 0 and 1, got {self.priority_exponent}"
            )
        if self.min_size_per_game > self.capacity_per_game:
            raise ValueError(
                f"replay.min_size_per_game ({self.min_size_per_game}) must not exceed "
                f"replay.capacity_per_game ({self.capacity_per_game})"
            )

    def _check_sampler(self) -> None:
        """Raises ValueError for partitions that are none, or that no sampler would make."""
        if not 1 <= self.num_partitions <= 100:
            raise ValueError(
                f"replay.num_partitions must lie between 1 and 100, got {self.num_partitions}"
            )
        if self.sampler == "hierarchical":
            return
        for field in fields(self):
            if "partition" in field.name and getattr(self, field.name) != field.default:
                raise ValueError(
                    f"replay.{field.name} is {getattr(self, field.name)}, but the sampler "
                    f"{self.sampler} has no partitions; set replay.sampler to hierarchical"
                )
