"""What a run looks like from outside, whichever engine carries it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from networks.weights import WeightSnapshot
from replay.shard import ShardStats


@dataclass(frozen=True, slots=True, kw_only=True)
class GameProgress:
    """One game's part of a run, counted from the run's very beginning."""

    steps: int
    """Steps played."""
    episodes: int
    """Games ended."""
    actors: int
    """Actors alive."""
    replay_size: int
    """Entries in replay."""
    sampled: int
    """Transitions drawn for the learner."""
    inserted: int
    """Transitions stored."""
    returns: tuple[tuple[float, float], ...] = ()
    """(raw return, exploration rate) of the episodes that ended since the last look."""


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
    faults: dict[str, int] = field(default_factory=dict)
    """What broke and was mended, by kind."""

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
    """Alive now."""
    returns: tuple[tuple[float, float], ...]


def summarize(
    *,
    updates: int,
    metrics: dict[str, float],
    played: dict[str, Played],
    shards: Sequence[ShardStats],
    faults: dict[str, int],
) -> Progress:
    """Add the shards up, game by game."""
    games = {}
    for game, actors in played.items():
        tables = [shard.tables[game] for shard in shards]
        games[game] = GameProgress(
            steps=actors.steps,
            episodes=actors.episodes,
            actors=actors.actors,
            returns=actors.returns,
            replay_size=sum(table.size for table in tables),
            sampled=sum(table.counts.sampled for table in tables),
            inserted=sum(table.counts.inserted for table in tables),
        )
    counts = [table.counts for shard in shards for table in shard.tables.values()]
    return Progress(
        updates=updates,
        games=games,
        metrics=metrics,
        overwritten_unsampled=sum(count.overwritten_unsampled for count in counts),
        stale_priorities=sum(count.stale_updates for count in counts),
        insert_wait_s=sum(shard.insert_wait_s for shard in shards),
        sample_wait_s=sum(shard.sample_wait_s for shard in shards),
        faults=faults,
    )


def claim_serial(unused: int, *, rank: int, num_shards: int) -> int:
    """The first serial number, from `unused` on, for actor number `rank` of its game.

    Serials decide which shard an actor feeds (replay.client.shard_of). The ranks of a game go to
    the shards in turn, and an actor that replaces another one goes to the same shard, because a
    shard without data of some game never starts.
    """
    return unused + (rank - unused) % num_shards


class Engine(Protocol):
    """Carries a recipe's actors, replay and learner until the learner has made its updates."""

    def advance(self, seconds: float) -> bool:
        """Go on for about this long; False once the run has reached its end."""
        ...

    def progress(self) -> Progress:
        """Counts, and metrics since the last call."""
        ...

    def snapshot(self) -> WeightSnapshot:
        """The acting weights as they are now, in full precision."""
        ...

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        ...

    def close(self) -> None:
        """Stop everything."""
        ...
