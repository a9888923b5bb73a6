"""Real play for the benchmarks of replay: recorded once, then given again and again.

Frames decide what compression does, so they come from real games and from their middle: where the
package has an expert it plays, epsilon-greedily; in other games every action is random. Labels are
those of an expert of the paper's size.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from actors.actor import Actor
from actors.inference import OwnInference
from benchmarks.memory import num_bytes
from benchmarks.setup import NoReplay
from networks.weights import LocalWeights
from recipes.recipe import Recipe
from recipes.roles import build_env
from replay.types import STREAMS_PER_ACTOR_BITS, Chunk
from teachers.expert import load_expert
from teachers.shipped import shipped_experts

# Steps of a game left out before the record: the beginnings of a game look all alike.
_SKIPPED_STEPS = 2_048
_RECORDED_STEPS = 4_096
_EXPERT_EPSILON = 0.1


@dataclass(frozen=True, slots=True)
class RecordedPlay:
    """Chunks as a production actor sends them, of each game."""

    chunks: dict[str, list[Chunk]]
    # Who played each game: expert or random.
    players: dict[str, str]

    def entries_per_chunk(self) -> int:
        """The most in one chunk."""
        return max(chunk.num_entries for chunks in self.chunks.values() for chunk in chunks)

    def bytes_per_chunk(self) -> int:
        """The most in one chunk, frames and labels."""
        return max(num_bytes(chunk) for chunks in self.chunks.values() for chunk in chunks)

    def endless(self, rank: int) -> Iterator[Chunk]:
        """All games in turn without end, with stream numbers that no other rank has."""
        first = rank * len(self.chunks)
        games = [endless_play(c, serial=first + i) for i, c in enumerate(self.chunks.values())]
        while True:
            yield from map(next, games)


def endless_play(chunks: Sequence[Chunk], *, serial: int) -> Iterator[Chunk]:
    """Chunks that one actor has played in a row, again and again as if its streams went on."""
    base = serial << STREAMS_PER_ACTOR_BITS
    lengths = sum(chunk.lengths for chunk in chunks)
    for repeats in itertools.count():
        for chunk in chunks:
            first_steps = chunk.first_steps - chunks[0].first_steps + repeats * lengths
            streams = base + np.arange(len(chunk.lengths))
            yield replace(chunk, streams=streams, first_steps=first_steps)


def record_play(recipe: Recipe, *, serial: int = 0) -> RecordedPlay:
    """Play all games; takes some seconds for each."""
    chunks, players = {}, {}
    for game in recipe.games:
        is_expert = game in shipped_experts()
        players[game] = "expert" if is_expert else "random"
        chunks[game] = _play(recipe, game, serial=serial, is_expert=is_expert)
    return RecordedPlay(chunks, players)


def _play(recipe: Recipe, game: str, *, serial: int, is_expert: bool) -> list[Chunk]:
    config = recipe.config.actor
    epsilon = _EXPERT_EPSILON if is_expert else 1.0
    network = load_expert(game, game) if is_expert else recipe.build_acting_network(game)
    actor = Actor(
        config,
        env=build_env(recipe.config, game, num_envs=config.num_envs, seed=recipe.config.seed),
        inference=OwnInference(network, LocalWeights()),
        teachers=(recipe.load_teacher(game),),
        store_features=bool(recipe.table_spec(game, 1).entry.num_teacher_features),
        priority_rule=recipe.build_priority_rule(game),
        epsilons=np.full(config.num_envs, epsilon, np.float32),
        life_loss_ends_return=True,
        replay=NoReplay(),
        serial=serial,
        seed=recipe.config.seed,
    )
    steps_per_chunk = config.num_envs * config.chunk_steps
    try:
        for _ in range(-(-_SKIPPED_STEPS // steps_per_chunk)):
            actor.collect()
        return [actor.collect() for _ in range(-(-_RECORDED_STEPS // steps_per_chunk))]
    finally:
        actor.close()
