"""How far a run has come: what its actors, shards and learner have counted, added up.

A counter of a game is declared once, where it is counted: in actors.actor.ActorCounts what an actor
counts, in replay.storage.table.TableCounts what a replay table counts. `add_up` adds those of all
processes by one rule, the recorder writes every one of them under `game/GAME/NAME`, and the pages
read them by that name. docs/architecture.md has the way of a figure in one line.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, TypeVar

from actors.actor import ActorCounts
from records.usage import Usage
from replay.stats import ShardStats, SnapshotStats, TableStats

Part = TypeVar("Part")

# Settings among the fields of a table: every shard has the same.
_IN_FORCE = ("share", "samples_per_insert_cap")


@dataclass(frozen=True, slots=True, kw_only=True)
class GameProgress:
    """One game's part of a run."""

    # Actors that play now.
    actors: int = 0
    # Actors that the game is to have.
    wanted: int = 0
    # Actors among those wanted that wait for room in the cluster; the rest is about to start.
    pending: int = 0
    # Sum over all actors that ever lived; `steps` are counted from the run's very beginning.
    played: ActorCounts = field(default_factory=ActorCounts)
    # (raw return, exploration rate) of the episodes that ended since the last look.
    returns: tuple[tuple[float, float], ...] = ()
    # Sum over all shards.
    replay: TableStats = field(default_factory=TableStats)

    @property
    def steps(self) -> int:
        """Steps played since the run's beginning."""
        return self.played.steps

    @property
    def sampled(self) -> int:
        """Transitions drawn for the learner."""
        return self.replay.counts.sampled

    @property
    def inserted(self) -> int:
        """Transitions stored in replay."""
        return self.replay.counts.inserted


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a run stands."""

    # Learner updates made since the run's beginning.
    updates: int
    games: dict[str, GameProgress]
    # The learner's means since the last look.
    metrics: dict[str, float] = field(default_factory=dict)
    # Time the learner has waited for the actors, summed over shards.
    sample_wait_s: float = 0.0
    # Samples that the learner is behind (positive) or ahead (negative), all shards together.
    limiter_error: float = 0.0
    # Requests for a batch that wait now.
    waiting_requests: int = 0
    # Replay on disk: sums over the shards; age, duration and hold of the worst one.
    snapshots: SnapshotStats = field(default_factory=SnapshotStats)
    # What broke and was mended, and what was lost by it, by kind.
    faults: dict[str, int] = field(default_factory=dict)
    # Where time and bytes have gone.
    usage: Usage = field(default_factory=Usage)
    # Names of the processes that have counted updates and transitions; empty for one that has not
    # answered yet. What a counter has gained between two looks with different owners was not done
    # in between.
    owners: tuple[str, ...] = ()

    @property
    def steps(self) -> int:
        """Steps of all games together."""
        return sum(game.steps for game in self.games.values())

    @property
    def sampled(self) -> int:
        """Transitions of all games drawn for the learner."""
        return sum(game.sampled for game in self.games.values())

    @property
    def inserted(self) -> int:
        """Transitions of all games stored in replay."""
        return sum(game.inserted for game in self.games.values())

    @property
    def replay(self) -> TableStats:
        """All games' replay together."""
        return add_up([game.replay for game in self.games.values()] or [TableStats()])


def add_up(parts: Sequence[Part]) -> Part:
    """One dataclass for several of a kind, field by field.

    Numbers are added, and dataclasses likewise. Tuples hold quantiles: they are averaged column by
    column over the parts that have any. Settings are the last part's.
    """
    kind: Any = type(parts[0])
    columns = {f.name: [getattr(part, f.name) for part in parts] for f in fields(kind)}
    added: Part = kind(**{name: _add_field(name, values) for name, values in columns.items()})
    return added


def _add_field(name: str, values: Sequence[Any]) -> Any:
    if name in _IN_FORCE:
        return values[-1]
    if isinstance(values[0], tuple):
        return _means(values)
    return add_up(values) if is_dataclass(values[0]) else sum(values)


def _means(rows: Sequence[tuple[float, ...]]) -> tuple[float, ...]:
    rows = [row for row in rows if row]
    return tuple(sum(column) / len(rows) for column in zip(*rows, strict=True))


def whole_counts(counts: object) -> Iterator[tuple[str, int]]:
    """(name, value) of a dataclass's counters; times and shares, which are no counts, are left."""
    for declared in fields(counts):  # type: ignore[arg-type]
        value = getattr(counts, declared.name)
        if isinstance(value, int):
            yield declared.name, value


def summarize(
    *,
    updates: int,
    metrics: dict[str, float],
    games: dict[str, GameProgress],
    shards: Sequence[ShardStats],
    faults: dict[str, int],
    owners: Sequence[str] = (),
    usage: Usage,
) -> Progress:
    """Put a run's parts together; dead shards, whose tables are empty, are among `shards`.

    `games` is what the engine knows of each game's actors, `usage` that of all roles but the
    shards.
    """
    return Progress(
        updates=updates,
        games={
            name: replace(game, replay=add_up([shard.tables[name] for shard in shards]))
            if shards
            else game
            for name, game in games.items()
        },
        metrics=metrics,
        sample_wait_s=sum(shard.sample_wait_s for shard in shards),
        limiter_error=sum(shard.limiter_error for shard in shards),
        waiting_requests=sum(shard.waiting_requests for shard in shards),
        snapshots=_worst_snapshots([shard.snapshots for shard in shards]),
        faults=faults,
        usage=_with_shards(usage, shards),
        owners=tuple(owners),
    )


def _with_shards(usage: Usage, shards: Sequence[ShardStats]) -> Usage:
    cpu_s = sum(shard.cpu_s for shard in shards)
    return replace(
        usage,
        shards_busy_s=tuple(shard.busy_s for shard in shards),
        cpu_s=usage.cpu_s | ({"shards": cpu_s} if cpu_s else {}),
        moved_bytes={
            **usage.moved_bytes,
            "chunks": sum(shard.chunk_bytes for shard in shards),
            "batches": sum(shard.batch_bytes for shard in shards),
        },
    )


def _worst_snapshots(shards: Sequence[SnapshotStats]) -> SnapshotStats:
    ages = [stats.age_s for stats in shards if stats.age_s is not None]
    return SnapshotStats(
        age_s=max(ages, default=None),
        num_bytes=sum(stats.num_bytes for stats in shards),
        num_bytes_written=sum(stats.num_bytes_written for stats in shards),
        duration_s=max((stats.duration_s for stats in shards), default=0.0),
        longest_hold_s=max((stats.longest_hold_s for stats in shards), default=0.0),
        num_written=sum(stats.num_written for stats in shards),
        failures=sum(stats.failures for stats in shards),
    )
