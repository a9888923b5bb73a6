"""Actors that come and go in one process: the same rules as on Ray, and the same at every time."""

import dataclasses

import counting
import numpy as np
import pytest
import torch
from counting_checks import check_stream, stream_number, streams_of
from runs import save_random_expert

from actors.config import ActorConfig
from actors.policy import epsilon_ladder
from engines.local.engine import LocalEngine
from learner.config import LearnerConfig
from networks.config import NetworkConfig
from recipes.config import RunConfig
from recipes.recipe import Recipe
from replay.config import ReplayConfig

GAMES = (counting.CUTS.name, counting.LIVES.name)
FIRST, SECOND = GAMES
NUM_ENVS = 2


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teachers")
    teachers = [f"{game}={save_random_expert(folder, game, torso='minatar')}" for game in GAMES]
    return RunConfig(
        games=GAMES,
        num_steps=2_000,
        engine="local",
        teachers=tuple(teachers),
        actor=ActorConfig(num_envs=NUM_ENVS, chunk_steps=5, exploration="ladder"),
        replay=ReplayConfig(
            batch_size=16,
            capacity_per_game=20_000,
            min_size_per_game=40,
            samples_per_insert=1.0,
            samples_per_insert_cap=4.0,
            error_buffer=100.0,
            num_shards=2,
        ),
        learner=LearnerConfig(),
        network=NetworkConfig(torso="minatar"),
    )


class Recording(LocalEngine):
    """Keeps every chunk that replay takes."""

    def __init__(self, recipe):
        super().__init__(recipe, device=torch.device("cpu"))
        self.chunks = []
        add = self._replay.add

        def keep(chunk):
            taken = add(chunk)
            if taken:
                self.chunks.append(chunk)
            return taken

        self._replay.add = keep

    def play(self, num_updates):
        self.advance_to(self._learner.num_updates + num_updates)


@pytest.fixture
def engine(config):
    engine = Recording(Recipe(config))
    yield engine
    engine.close()


def rates_of(engine, game):
    return {e for chunk in engine.chunks if chunk.game == game for e in chunk["epsilons"].tolist()}


def test_one_to_three_to_one_loses_nothing(engine, config):
    engine.play(10)
    engine.scale(FIRST, 3)
    assert engine.progress().games[FIRST].actors == 3
    engine.play(20)
    assert set(epsilon_ladder(3 * NUM_ENVS).tolist()) <= rates_of(engine, FIRST)
    while not any(local.game == FIRST and local.chunk for local in engine._actors[1:]):
        engine._act()  # Until one that will leave holds a chunk that replay does not take yet.
    engine.scale(FIRST, 1)
    grown = len(engine.chunks)
    engine.play(60)  # The first of them live on what replay has.
    rates = {
        e for c in engine.chunks[grown + 6 :] if c.game == FIRST for e in c["epsilons"].tolist()
    }
    assert rates == set(epsilon_ladder(NUM_ENVS).tolist())
    for game in GAMES:
        engine.scale(game, 0)
    while engine._left_over and engine.advance(0.1):
        pass  # Chunks that replay had not taken yet.
    progress = engine.progress()
    streams = streams_of(engine.chunks)
    for game, num_actors in ((FIRST, 3), (SECOND, 1)):
        numbers = {int(n) for c in engine.chunks if c.game == game for n in c.streams}
        assert len(numbers) == num_actors * NUM_ENVS
        stored = sum(int(streams[number].is_transition.sum()) for number in numbers)
        assert stored == progress.games[game].steps == progress.games[game].inserted
        for number in numbers:
            check(streams[number], game, env=number % NUM_ENVS)
    assert progress.games[FIRST].wanted == progress.games[FIRST].actors == 0


def check(stream, game, *, env):
    check_stream(
        stream,
        counting.SCHEDULES[game],
        game=game,
        seed=int(stream.tags.seed[0]),
        env=env,
        num_rows=int(stream.tags.clock[-1]) + 1,
        life_loss_ends_return=True,
    )


def test_the_same_changes_at_the_same_time_are_the_same_run(config):
    def played():
        engine = Recording(Recipe(config))
        engine.play(10)
        engine.scale(SECOND, 3)
        engine.play(10)
        engine.scale(SECOND, 2)
        engine.play(10)
        engine.close()
        return [
            (chunk.game, chunk.streams.tolist(), chunk["actions"].tolist())
            for chunk in engine.chunks
        ]

    first, second = played(), played()
    assert first == second


def test_replay_counts_on_the_actors_that_are_there(engine):
    """Each game's only actor feeds one of the two shards; a second one feeds the other."""
    assert [shard.slices[FIRST].is_fed for shard in engine._shards] == [True, False]
    engine.scale(FIRST, 2)
    assert [shard.slices[FIRST].is_fed for shard in engine._shards] == [True, True]
    engine.scale(FIRST, 0)
    # The first shard would have nothing left: it keeps what it has.
    assert [shard.slices[FIRST].is_fed for shard in engine._shards] == [True, False]
    assert [shard.slices[SECOND].is_fed for shard in engine._shards] == [False, True]


def test_what_replay_refuses_is_not_done(engine, monkeypatch):
    def refuse(parts):
        raise ValueError("replay could wait for ever")

    monkeypatch.setattr(engine._shards[1], "check_assign", refuse)
    with pytest.raises(ValueError, match="wait for ever"):
        engine.scale(FIRST, 2)
    assert engine.progress().games[FIRST].actors == 1


@pytest.mark.parametrize(("game", "number"), [("seaquest", 1), (FIRST, -1), (FIRST, True)])
def test_what_cannot_be_is_refused(engine, game, number):
    with pytest.raises(ValueError, match=f"{game}"):
        engine.scale(game, number)
    assert [p.wanted for p in engine.progress().games.values()] == [1, 1]


def test_new_actors_go_on_with_the_exploration_of_the_others(config):
    """They must not begin with random actions in a game that has long been learned."""

    config = dataclasses.replace(
        config, actor=dataclasses.replace(config.actor, anneal_steps=20, exploration="constant")
    )
    engine = Recording(Recipe(config))
    engine.play(40)
    known = len(engine.chunks)
    engine.scale(FIRST, 4)
    engine.play(20)
    engine.close()
    late = np.concatenate([c["epsilons"] for c in engine.chunks[known + 3 :] if c.game == FIRST])
    assert np.unique(late).tolist() == [np.float32(config.actor.epsilon)]


def test_stream_numbers_are_those_of_actors():
    assert stream_number(3, 1) % NUM_ENVS == 1
