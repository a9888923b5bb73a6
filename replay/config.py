"""Settings of replay: sampling, pacing and sizes."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, Literal, TypeAlias

from annotated_types import Ge, Gt, Interval

from replay.storage.frame_store import Compression

SamplerKind: TypeAlias = Literal["uniform", "proportional", "rank", "hierarchical", "recent"]
PartitionDraw: TypeAlias = Literal["size", "uniform"]
PartitionEdges: TypeAlias = Literal["width", "quantile"]
PartitionOrder: TypeAlias = Literal["rank", "proportional"]
PartitionCorrection: TypeAlias = Literal["within", "full"]


# A cap so high that it never binds; far beyond it, allowed samples are no finite number.
MAX_SAMPLES_PER_INSERT = 1e15


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayConfig:
    """Sampling and pacing; sizes are for the whole run and are divided among the shards."""

    batch_size: Annotated[int, Ge(1)] = 128
    """Transitions the learner gets at once, all games together."""
    batch_size_per_game: Annotated[int, Ge(0)] = 0
    """Transitions of each game in a batch, for constants that go by the number of games; it takes
    the place of `batch_size` unless it is 0."""
    capacity_per_game: Annotated[int, Ge(1)] = 100_000
    """Transitions kept of each game without a quota of its own (paper: 100,000)."""
    min_size_per_game: Annotated[int, Ge(1)] = 2_000
    """Learning starts when every game has this many transitions, or can hold no more (paper:
    10,000)."""
    samples_per_insert: Annotated[float, Gt(0)] = 2.0
    """Transitions drawn per transition stored, all games together (paper: 2; Nature DQN: 8)."""
    samples_per_insert_cap: Annotated[float, Interval(gt=0, le=MAX_SAMPLES_PER_INSERT)] = 8.0
    """The most a game's transitions are drawn, on average, however short of data it is, unless it
    has a cap of its own; without meaning when every game is pinned."""
    error_buffer: Annotated[float, Gt(0)] = 8_192.0
    """Samples that the learner may be ahead or behind before it, or the actors, must wait; of each
    replay process, and of each game when every game is pinned."""
    pin_every_game: bool = False
    """Hold each game by itself to `samples_per_insert` instead of only their sum (the paper's
    lock-step)."""
    sampler: SamplerKind = "proportional"
    """How a game's transitions are drawn: all alike, in proportion to priority, by its rank, by the
    teacher's value first and priority second, or most of them from the newest (docs/replay.md)."""
    priority_exponent: Annotated[float, Interval(ge=0, le=1)] = 0.6
    """Between 0, which draws uniformly, and 1 (paper: uniform; Ape-X: 0.6); unused by the sampler
    `uniform`."""
    num_partitions: Annotated[int, Interval(ge=1, le=100)] = 5
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
    recent_size: Annotated[int, Ge(1)] = 4_096
    """`recent`: newest transitions of each game, in each replay process, that most draws are
    from."""
    recent_older_share: Annotated[float, Interval(ge=0, le=1)] = 0.25
    """`recent`: share of the draws that are from all transitions, whatever their age."""
    num_shards: Annotated[int, Ge(1)] = 1
    """Replay processes; each holds a slice of the tables of the games whose actors feed it."""
    spread: bool = False
    """Whether a cluster puts the replay processes on many nodes instead of the learner's, for more
    memory than one node has; batches go over the network then."""
    compression: Compression = "none"
    """How frames in replay are compressed: `lz4` takes a fraction of the memory and some of the
    processor's time for every batch (docs/replay.md)."""
    num_batch_slots: Annotated[int, Interval(ge=0, le=64)] = 3
    """Batches in the memory that each replay process shares with a learner on the same machine;
    0: batches always go through Ray's object store."""
    snapshot_period_s: Annotated[float, Ge(0)] = 30.0
    """Seconds from the end of one snapshot of replay in the run's folder to the next; 0: none. A
    replay process that is killed loses what came since its newest one was begun: as much and what
    came during two writes, more where a write takes over a ninth of this, and anything while writes
    fail (docs/replay.md)."""

    def __post_init__(self) -> None:
        """Refuse settings that contradict each other; each one's own range is recipes/ranges.py's.

        Written so that nan is refused as well, which compares as False with everything.
        """
        if not self.samples_per_insert <= self.samples_per_insert_cap:
            raise ValueError(
                f"replay.samples_per_insert_cap ({self.samples_per_insert_cap}) must not be below "
                f"replay.samples_per_insert ({self.samples_per_insert})"
            )
        if self.min_size_per_game > self.capacity_per_game:
            raise ValueError(
                f"replay.min_size_per_game ({self.min_size_per_game}) must not exceed "
                f"replay.capacity_per_game ({self.capacity_per_game})"
            )
        if self.sampler != "hierarchical":
            self._check_left_alone("partition", "no partitions", "hierarchical")
        if self.sampler != "recent":
            self._check_left_alone("recent_", "no newest transitions", "recent")

    def _check_left_alone(self, part: str, lack: str, sampler: SamplerKind) -> None:
        for field in fields(self):
            if part in field.name and getattr(self, field.name) != field.default:
                raise ValueError(
                    f"replay.{field.name} is {getattr(self, field.name)}, but the sampler "
                    f"{self.sampler} has {lack}; set replay.sampler to {sampler}"
                )
