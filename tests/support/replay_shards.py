"""Small shards that can be filled, saved and compared."""

from __future__ import annotations

import numpy as np
from replay_chunks import EpisodeWriter, chunk_of, make_settings, make_spec

from replay.config import ReplayConfig
from replay.shard import ReplayShard
from replay.stats import ShardStats
from replay.types import SampleBatch

WIDE = 1e6
GAMES = ("pong", "boxing")


def make_config(**overrides) -> ReplayConfig:
    """Small, and so lenient that nothing waits unless a test makes it."""
    values = {
        "batch_size": 12,
        "capacity_per_game": 64,
        "min_size_per_game": 4,
        "samples_per_insert": 1.0,
        "samples_per_insert_cap": WIDE,
        "error_buffer": WIDE,
    }
    return ReplayConfig(**(values | overrides))


def make_shard(
    games=GAMES, *, seed=0, shares=None, shard=0, spec=None, slices=None, **config
) -> ReplayShard:
    specs = [make_spec(game=game, **(spec or {})) for game in games]
    settings = make_settings(make_config(**config), specs, shares)
    return ReplayShard(
        make_config(**config), specs, settings=settings, slices=slices, shard=shard, seed=seed
    )


class Players:
    """One actor for each game, which feed the same shard."""

    def __init__(self, shard: ReplayShard, *, first_actor: int = 0, seed: int = 0) -> None:
        self.shard = shard
        self._rng = np.random.default_rng(seed)
        self._writers = [
            EpisodeWriter(actor=first_actor + index) for index in range(len(shard.games))
        ]

    def play(self, num_chunks: int, *, games=None) -> None:
        """So many chunks of some steps of two environments, of each of the games."""
        for _ in range(num_chunks):
            for game in games or self.shard.games:
                assert self.shard.add(self.chunk(game))

    def chunk(self, game: str):
        writer = self._writers[self.shard.games.index(game)]
        entries = []
        for env in range(2):
            events = "".join(self._rng.choice(list("......let"), 3))
            entries += writer.play(env, events, priority=float(self._rng.random()))
        return chunk_of(entries, game=game)


def contents(shard: ReplayShard) -> dict[str, dict[str, np.ndarray]]:
    """All entries of each game by column, oldest first, with what is known of each."""
    found = {}
    with shard.locked() as parts:
        for game, table in zip(shard.games, parts.tables, strict=True):
            slots = table.ring.held_slots()
            found[game] = dict(table.ring.columns(slots)) | {
                "is_ready": table._is_ready[slots],
                "times_sampled": table.times_sampled(slots),
            }
    return found


def assert_same_contents(first: ReplayShard, second: ReplayShard, *, but=()) -> None:
    """Both hold the same entries, with the same generations unless these are left out."""
    ours, theirs = contents(first), contents(second)
    assert ours.keys() == theirs.keys()
    for game in ours:
        for name in ours[game].keys() - set(but):
            np.testing.assert_array_equal(ours[game][name], theirs[game][name], err_msg=name)


def keys_of(batch: SampleBatch) -> list[tuple[int, int]]:
    return list(zip(batch.game_index.tolist(), batch.keys.generations.tolist(), strict=True))


def waiting_actors(stats: ShardStats) -> int:
    """Callers of `add` that wait now, with chunks of any game."""
    return sum(table.waiting_actors for table in stats.tables.values())


def insert_wait_s(stats: ShardStats) -> float:
    """Time that callers of `add` have waited, summed over callers."""
    return sum(table.insert_wait_s for table in stats.tables.values())
