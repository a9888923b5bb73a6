"""Which replay shards a game's actors feed, and so what part of the game each shard holds.

Actor number r of game number g feeds shard (g + r) modulo the number of shards. So the games of a
run with few actors each are spread over the shards, and a game with as many actors as there are
shards is in all of them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class GameSlice:
    """A shard's part of one game."""

    # Shards that the game's actors feed.
    num_fed: int
    # Whether this shard is one of them; if not, nothing waits for the game's data here.
    is_fed: bool = True

    def part_of(self, size: int) -> int:
        """What each of the shards that are fed has of `size` transitions, rounded up."""
        return -(-size // self.num_fed)


def shard_of_rank(game_index: int, rank: int, num_shards: int) -> int:
    """The shard that actor number `rank` of game number `game_index` feeds."""
    return (game_index + rank) % num_shards


def slice_of(game_index: int, *, num_actors: int, shard: int, num_shards: int) -> GameSlice:
    """What shard number `shard` has of a game with so many actors."""
    num_fed = min(num_actors, num_shards)
    return GameSlice(num_fed=num_fed, is_fed=(shard - game_index) % num_shards < num_fed)


def slices_of_ranks(
    ranks: Mapping[str, Collection[int]], *, before: Sequence[Mapping[str, GameSlice]]
) -> list[dict[str, GameSlice]]:
    """What each shard has of each game when the games' actors, in the run's order, are just those.

    A shard that none of them feeds keeps what it has: somebody must have the say in its batches.
    """
    slices: list[dict[str, GameSlice]] = [{} for _ in before]
    for game_index, (game, numbers) in enumerate(ranks.items()):
        fed = {shard_of_rank(game_index, rank, len(before)) for rank in numbers}
        for shard, parts in enumerate(slices):
            # Without actors the tables keep their sizes.
            num_fed = len(fed) or before[shard][game].num_fed
            parts[game] = GameSlice(num_fed=num_fed, is_fed=shard in fed)
    return [
        parts if any(part.is_fed for part in parts.values()) else dict(old)
        for parts, old in zip(slices, before, strict=True)
    ]


def check_every_shard_is_fed(num_actors: Mapping[str, int], num_shards: int) -> None:
    """Raises ValueError if a shard would never get any data; games in the order of the run."""
    fed = {
        shard_of_rank(index, rank, num_shards)
        for index, count in enumerate(num_actors.values())
        for rank in range(min(count, num_shards))
    }
    if len(fed) < num_shards:
        raise ValueError(
            f"replay.num_shards is {num_shards}, but the run's {sum(num_actors.values())} actors "
            f"feed only {len(fed)} of them; use more --actors or --replay.num-shards {len(fed)}"
        )
