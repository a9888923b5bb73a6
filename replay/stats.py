"""What a replay shard tells of itself."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from replay.pace.game_settings import GameSettings
from replay.pace.pacing import Waits
from replay.storage.table import ReplayTable, TableCounts


@dataclass(frozen=True, slots=True, kw_only=True)
class TableStats:
    """One game's slice in one shard; without arguments, an empty one."""

    # Entries held.
    size: int = 0
    # Entries that can be held: this shard's part of the game's quota.
    capacity: int = 0
    # Transitions that can be drawn.
    ready: int = 0
    counts: TableCounts = field(default_factory=TableCounts)
    # Memory of the entries held.
    num_bytes: int = 0
    # The same, were every frame stored as it is.
    num_raw_bytes: int = 0
    # replay.storage.table.QUANTILES of the priorities held; empty without any.
    priority_quantiles: tuple[float, ...] = ()
    # The same quantiles of recent draws' ages: entries stored since the one that was drawn.
    age_quantiles: tuple[float, ...] = ()
    # Relative part of the game in every batch of the run, as now in force.
    share: float = 1.0
    # The most its transitions are drawn on average, as now in force.
    samples_per_insert_cap: float = 0.0
    # Time that callers of `add` have waited with chunks of this game, summed over callers.
    insert_wait_s: float = 0.0
    # Callers of `add` that wait now with chunks of this game.
    waiting_actors: int = 0


def stats_of_table(table: ReplayTable, settings: GameSettings, waits: Waits) -> TableStats:
    """One game's table, what is in force for it, and the callers that wait to add to it."""
    return TableStats(
        size=table.ring.num_entries,
        capacity=table.spec.capacity,
        ready=table.num_ready,
        counts=replace(table.counts),
        num_bytes=table.ring.num_bytes,
        num_raw_bytes=table.ring.num_entries * table.spec.raw_bytes_per_entry,
        priority_quantiles=table.priority_quantiles(),
        age_quantiles=table.age_quantiles(),
        share=settings.share,
        samples_per_insert_cap=settings.samples_per_insert_cap,
        insert_wait_s=waits.total_s,
        waiting_actors=waits.num_waiting,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotStats:
    """A shard's snapshots on disk."""

    # Since the newest one was taken; None before the first.
    age_s: float | None = None
    # Size of all files that the newest one needs.
    num_bytes: int = 0
    # Bytes that this process has written for all snapshots together.
    num_bytes_written: int = 0
    # Time that writing the newest one took.
    duration_s: float = 0.0
    # The longest time that inserting and sampling stood still for a part of a snapshot.
    longest_hold_s: float = 0.0
    # Snapshots that this process has written.
    num_written: int = 0
    # Snapshots that could not be written.
    failures: int = 0
    # Whether the shard began from one, and its counts with it.
    has_restored: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardStats:
    """What a shard has done since it began, and where its limiter stands."""

    tables: dict[str, TableStats]
    # Samples that the learner is behind (positive) or ahead (negative).
    limiter_error: float
    # Time that callers of `sample` have waited.
    sample_wait_s: float
    # Callers of `sample` that wait now.
    waiting_requests: int
    # Time spent storing, drawing and setting priorities, one caller at a time.
    busy_s: float = 0.0
    # Processor time of the shard's process; 0 where it has none of its own.
    cpu_s: float = 0.0
    # Size of all chunks stored.
    chunk_bytes: int = 0
    # Size of all batches drawn.
    batch_bytes: int = 0
    snapshots: SnapshotStats = SnapshotStats()
    # Stored by this shard's process before this one, and not in the snapshot it began from.
    transitions_lost: int = 0
    # The newest lines that the shard has to say of its snapshots.
    notes: tuple[str, ...] = ()
    # Lines that it has said so far.
    num_notes: int = 0


class NoteReader:
    """Picks the lines that were not there the last time, from one shard's process."""

    def __init__(self) -> None:
        """Nothing was read yet."""
        self._num_read = 0

    def new(self, stats: ShardStats) -> tuple[str, ...]:
        """Lines since the last call, as far as they are still there."""
        num_new = stats.num_notes - self._num_read
        self._num_read = stats.num_notes
        return stats.notes[-num_new:] if num_new > 0 else ()
