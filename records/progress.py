"""How far a run has come: its counters, added up over roles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from records.usage import Usage
from replay.stats import ShardStats, SnapshotStats, TableStats


@dataclass(frozen=True, slots=True, kw_only=True)
class GameReplay:
    """One game's replay, all shards together."""

    ready: int = 0
    """Transitions that can be drawn."""
    capacity: int = 0
    """Entries that can be held."""
    num_bytes: int = 0
    """Memory of the entries held."""
    num_raw_bytes: int = 0
    """The same, were every frame stored as it is."""
    share: float = 1.0
    """Relative part of every batch, as now in force."""
    samples_per_insert_cap: float = 0.0
    """As now in force."""
    overwritten_unsampled: int = 0
    """Transitions overwritten before they were ever drawn."""
    stale_priorities: int = 0
    """Priority updates dropped because their transition was overwritten."""
    yielded: int = 0
    """Transitions of its part of the batches that other games gave in its place."""
    insert_wait_s: float = 0.0
    """Time that its actors have waited for the learner, summed over actors."""
    waiting_actors: int = 0
    """Its actors that wait now."""
    priority_quantiles: tuple[float, ...] = ()
    """The QUANTILES of replay.storage.quantiles, averaged over the shards that have any."""
    age_quantiles: tuple[float, ...] = ()
    """Of drawn transitions: entries of the game that their shard had stored since."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GameProgress:
    """One game's part of a run, counted from the run's very beginning."""

    steps: int
    """Steps played."""
    episodes: int
    """Games ended."""
    actors: int
    """Actors that play."""
    wanted: int = 0
    """Actors that it is to have."""
    waiting: int = 0
    """Those of them that wait for room in the cluster; the rest is about to start."""
    replay_size: int
    """Entries in replay."""
    sampled: int
    """Transitions drawn for the learner."""
    inserted: int
    """Transitions stored."""
    returns: tuple[tuple[float, float], ...] = ()
    """(raw return, exploration rate) of the episodes that ended since the last look."""
    replay: GameReplay = GameReplay()
    """More of its replay."""
    stepping_s: float = 0.0
    """Time that its actors have spent in environments, summed over actors."""
    network_s: float = 0.0
    """In networks."""
    waiting_s: float = 0.0
    """Until replay had taken their chunks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a run stands."""

    updates: int
    """Learner updates made."""
    games: dict[str, GameProgress]
    metrics: dict[str, float] = field(default_factory=dict)
    """Means since the last look, from the learner."""
    overwritten_unsampled: int = 0
    """Transitions overwritten before they were ever drawn."""
    stale_priorities: int = 0
    """Priority updates dropped because their transition was overwritten."""
    insert_wait_s: float = 0.0
    """Time actors have waited for the learner, summed over actors."""
    sample_wait_s: float = 0.0
    """Time the learner has waited for the actors."""
    limiter_error: float = 0.0
    """Samples that the learner is behind (positive) or ahead (negative), all shards together."""
    waiting_requests: int = 0
    """Requests for a batch that wait now."""
    snapshots: SnapshotStats = field(default_factory=SnapshotStats)
    """Of replay on disk: sums over the shards; age, duration and hold of the worst one."""
    faults: dict[str, int] = field(default_factory=dict)
    """What broke and was mended, by kind."""
    usage: Usage = field(default_factory=Usage)
    """Where time and bytes have gone."""

    @property
    def steps(self) -> int:
        """Of all games."""
        return sum(game.steps for game in self.games.values())


@dataclass(frozen=True, slots=True)
class Played:
    """What the actors of one game have done, all of them that ever lived."""

    steps: int
    episodes: int
    actors: int
    """That play now."""
    wanted: int
    """That the game is to have."""
    returns: tuple[tuple[float, float], ...]
    waiting: int = 0
    """For room in the cluster."""
    stepping_s: float = 0.0
    """Time that its actors have spent in environments, summed over actors."""
    network_s: float = 0.0
    """In networks."""
    waiting_s: float = 0.0
    """Until replay had taken their chunks."""


def summarize(
    *,
    updates: int,
    metrics: dict[str, float],
    played: dict[str, Played],
    shards: Sequence[ShardStats],
    faults: dict[str, int],
    usage: Usage,
) -> Progress:
    """Add the shards up, game by game; `usage` of the other roles."""
    games = {}
    for game, actors in played.items():
        tables = [shard.tables[game] for shard in shards]
        games[game] = GameProgress(
            steps=actors.steps,
            episodes=actors.episodes,
            actors=actors.actors,
            wanted=actors.wanted,
            waiting=actors.waiting,
            returns=actors.returns,
            stepping_s=actors.stepping_s,
            network_s=actors.network_s,
            waiting_s=actors.waiting_s,
            replay_size=sum(table.size for table in tables),
            sampled=sum(table.counts.sampled for table in tables),
            inserted=sum(table.counts.inserted for table in tables),
            replay=_add_up(tables),
        )
    counts = [table.counts for shard in shards for table in shard.tables.values()]
    return Progress(
        updates=updates,
        games=games,
        metrics=metrics,
        overwritten_unsampled=sum(count.overwritten_unsampled for count in counts),
        stale_priorities=sum(count.stale_priorities for count in counts),
        insert_wait_s=sum(shard.insert_wait_s for shard in shards),
        sample_wait_s=sum(shard.sample_wait_s for shard in shards),
        limiter_error=sum(shard.limiter_error for shard in shards),
        waiting_requests=sum(shard.waiting_requests for shard in shards),
        snapshots=_worst_snapshots([shard.snapshots for shard in shards]),
        faults=faults,
        usage=_with_shards(usage, shards),
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


def _add_up(tables: Sequence[TableStats]) -> GameReplay:
    """One game in all shards; the dead ones, whose tables are empty, among them."""
    newest = tables[-1] if tables else None
    return GameReplay(
        ready=sum(table.ready for table in tables),
        capacity=sum(table.capacity for table in tables),
        num_bytes=sum(table.num_bytes for table in tables),
        num_raw_bytes=sum(table.num_raw_bytes for table in tables),
        share=newest.share if newest else 1.0,
        samples_per_insert_cap=newest.samples_per_insert_cap if newest else 0.0,
        overwritten_unsampled=sum(table.counts.overwritten_unsampled for table in tables),
        stale_priorities=sum(table.counts.stale_priorities for table in tables),
        yielded=sum(table.counts.yielded for table in tables),
        insert_wait_s=sum(table.insert_wait_s for table in tables),
        waiting_actors=sum(table.waiting_actors for table in tables),
        priority_quantiles=_means([table.priority_quantiles for table in tables]),
        age_quantiles=_means([table.age_quantiles for table in tables]),
    )


def _means(rows: Sequence[tuple[float, ...]]) -> tuple[float, ...]:
    """Column by column, over the rows that are not empty."""
    rows = [row for row in rows if row]
    return tuple(sum(column) / len(rows) for column in zip(*rows, strict=True))


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
