"""Actors that come and go while a run goes on: nothing is lost, and nobody waits for them."""

import dataclasses
import os
import signal
import time
from contextlib import contextmanager

import counting
import numpy as np
import pytest
import ray
import torch
from ray_runs import (
    MadeUpRecipe,
    RemoteOpenShard,
    check_contents,
    drive,
    dump_all,
    private_ray,
    without_start,
)
from runs import save_random_expert, wait_until

from actors.config import ActorConfig
from actors.policy import epsilon_ladder
from engines.on_ray.engine import RayEngine
from engines.on_redis.bus import RedisAddress
from engines.on_redis.server import PrivateRedis
from learner.config import LearnerConfig
from networks.config import NetworkConfig
from recipes.config import RunConfig
from replay.config import ReplayConfig

pytestmark = [pytest.mark.ray, pytest.mark.redis, pytest.mark.slow]

GAMES = (counting.CUTS.name, counting.LIVES.name)
FIRST, SECOND = GAMES
NUM_CPUS = 8
"""Room for a learner, two shards and five actors."""


@pytest.fixture(scope="module", autouse=True)
def ray_here():
    with private_ray(num_cpus=NUM_CPUS):
        yield


@pytest.fixture(scope="module")
def redis_url():
    with PrivateRedis() as server:
        yield server.url


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """Two counting games, one actor each, a shard that forgets nothing, no end."""
    folder = tmp_path_factory.mktemp("teachers")
    teachers = [f"{game}={save_random_expert(folder, game, torso='minatar')}" for game in GAMES]
    return RunConfig(
        games=GAMES,
        num_steps=10_000_000,
        teachers=tuple(teachers),
        actor=ActorConfig(num_envs=3, chunk_steps=7, exploration="ladder"),
        replay=ReplayConfig(
            batch_size=32,
            capacity_per_game=400_000,
            min_size_per_game=100,
            samples_per_insert=2.0,
            samples_per_insert_cap=8.0,
            error_buffer=300.0,
            snapshot_period_s=0.0,
        ),
        learner=LearnerConfig(publish_period=5),
        network=NetworkConfig(torso="minatar"),
    )


@contextmanager
def started(config, url, monkeypatch, *, name, notes=None):
    monkeypatch.setattr("engines.on_ray.shard_fleet.RemoteShard", RemoteOpenShard)
    engine = RayEngine(
        MadeUpRecipe(config),
        redis=RedisAddress(url, name),
        device=torch.device("cpu"),
        note=(lambda text: None) if notes is None else notes.append,
    )
    try:
        yield engine
    finally:
        engine.close()


def has(game, number):
    """Until a game has so many actors that play."""
    return lambda progress: progress.games[game].actors == number


def play_on(engine, *, updates=20):
    """Until the learner has gone on; the last look."""
    before = engine.progress().updates
    return drive(engine, lambda progress: progress.updates >= before + updates)


def finish(engine, game, *, keep):
    """Scale down, and wait until those that leave have gone."""
    engine.scale(game, keep)
    drive(engine, lambda progress: not engine._actors._retiring and has(game, keep)(progress))


def test_actors_come_and_go_and_nothing_is_lost(config, redis_url, monkeypatch):
    """1 -> 4 -> 1 of one game; the other one does not notice."""
    with started(config, redis_url, monkeypatch, name="one-four-one") as engine:
        drive(engine, lambda progress: progress.updates > 10)
        others = engine.pids(f"actor/{SECOND}")
        engine.scale(FIRST, 4)
        drive(engine, has(FIRST, 4))
        grown = play_on(engine, updates=80)  # The chunks on their way are of before.
        wide = dump_all(engine)
        finish(engine, FIRST, keep=1)
        shrunk = play_on(engine, updates=80)
        assert engine.pids(f"actor/{SECOND}") == others, "an actor of the other game was touched"
        # Everybody leaves and hands over all that was played.
        for game in GAMES:
            finish(engine, game, keep=0)
        last = engine.progress()
        tables = dump_all(engine)
        ray.get([shard.handle.check_valid.remote() for shard in engine._fleet.shards])
    assert (grown.games[FIRST].wanted, grown.games[SECOND].wanted) == (4, 1)
    assert (shrunk.games[FIRST].wanted, shrunk.games[FIRST].actors) == (1, 1)
    streams = check_contents(tables)
    by_game = {t.game: {s: streams[s] for s in np.unique(t.streams).tolist()} for t in tables}
    num_envs = config.actor.num_envs
    assert len(by_game[FIRST]) == 4 * num_envs
    assert len(by_game[SECOND]) == num_envs
    # Exactly once, and all of it: what was played is what is stored.
    for table in tables:
        assert table.num_inserted == last.games[table.game].steps
    assert not any(last.faults.values())
    # The ladder is spread over all that play, and again over those that are left.
    widest = epsilon_ladder(4 * num_envs)
    seen = np.concatenate([t.columns["epsilons"] for t in wide if t.game == FIRST])
    assert set(widest.tolist()) <= set(seen.tolist())
    longest = max(by_game[FIRST].values(), key=lambda stream: int(stream.tags.clock[-1]))
    rates = [
        float(stream.columns["epsilons"][-1])
        for stream in by_game[FIRST].values()
        if abs(int(stream.tags.clock[-1]) - int(longest.tags.clock[-1])) < 10
    ]
    assert sorted(rates) == sorted(epsilon_ladder(num_envs).tolist())
    first_rates = np.concatenate([t.columns["epsilons"] for t in tables if t.game == SECOND])
    assert set(first_rates.tolist()) == set(epsilon_ladder(num_envs).tolist())


def rates(engine, games, *, seconds):
    """Steps/s of each game from now on."""
    before, start = engine.progress(), time.monotonic()
    engine.advance(seconds)
    after, elapsed = engine.progress(), time.monotonic() - start
    return [(after.games[g].steps - before.games[g].steps) / elapsed for g in games]


def test_more_actors_play_more_and_take_nothing_from_the_other_game(
    config, redis_url, monkeypatch, tmp_path
):
    """Where nobody has to share: these games take their time without a processor."""
    games = (counting.SLOWLY.name, counting.SLOWLY_TOO.name)
    teachers = [f"{game}={save_random_expert(tmp_path, game, torso='minatar')}" for game in games]
    # The learner waits for the actors, not they for it.
    replay = dataclasses.replace(config.replay, samples_per_insert=0.5)
    slow = dataclasses.replace(config, games=games, teachers=tuple(teachers), replay=replay)
    with started(slow, redis_url, monkeypatch, name="slow") as engine:
        drive(engine, lambda progress: progress.updates > 10)
        alone = rates(engine, games, seconds=4.0)
        engine.scale(games[0], 4)
        drive(engine, has(games[0], 4))
        play_on(engine)
        beside = rates(engine, games, seconds=4.0)
        finish(engine, games[0], keep=1)
        again = rates(engine, games, seconds=4.0)
    assert beside[0] > 2.5 * alone[0], "four actors hardly play more than one"
    assert beside[1] > 0.75 * alone[1], "the other game is played less"
    assert again[0] < 0.5 * beside[0]
    assert again[1] > 0.75 * alone[1]


def test_an_actor_that_waits_for_room_holds_up_nobody(config, redis_url, monkeypatch):
    with started(config, redis_url, monkeypatch, name="full") as engine:
        drive(engine, lambda progress: progress.updates > 10)
        engine.scale(FIRST, NUM_CPUS)  # A learner, a shard and the other game leave room for five.
        full = drive(
            engine,
            lambda progress: has(FIRST, 5)(progress) and progress.games[FIRST].pending == 3,
        )
        monkeypatch.setattr("engines.on_ray.actor_fleet.REPORT_PATIENCE_S", 200.0)
        begun = time.monotonic()
        on = play_on(engine)
        assert on.games[FIRST].pending == 3
        assert time.monotonic() - begun < 180.0, "the launcher waits for what is not there"
        playing = set(engine.pids(f"actor/{FIRST}"))
        # Those that wait go first: nobody who plays is touched.
        engine.scale(FIRST, 5)
        calm = engine.progress()
        assert calm.games[FIRST].pending == 0
        assert set(engine.pids(f"actor/{FIRST}")) == playing
        # What one game gives up, the other gets.
        engine.scale(SECOND, 2)
        drive(engine, lambda progress: progress.games[SECOND].pending == 1)
        engine.scale(FIRST, 4)
        drive(engine, has(SECOND, 2))
        play_on(engine)
        last = engine.progress()
    assert full.games[FIRST].wanted == NUM_CPUS
    assert not any(last.faults.values())


def test_a_game_may_do_without_actors_and_get_them_back(config, redis_url, monkeypatch):
    # Pinned: a game that replay counted on would hold up the learner for ever.
    config = dataclasses.replace(
        config, replay=dataclasses.replace(config.replay, pin_every_game=True)
    )
    with started(config, redis_url, monkeypatch, name="none") as engine:
        drive(engine, lambda progress: progress.updates > 10)
        finish(engine, FIRST, keep=0)
        before = engine.progress()
        without = play_on(engine, updates=100)
        assert without.games[FIRST].steps == before.games[FIRST].steps
        assert without.games[SECOND].steps > before.games[SECOND].steps
        engine.scale(FIRST, 1)
        drive(engine, lambda p: p.games[FIRST].steps > before.games[FIRST].steps)
        play_on(engine)
        tables = dump_all(engine)
    check_contents(tables)


def test_shards_count_on_the_actors_that_are_there(config, redis_url, monkeypatch):
    """One actor feeds one shard of two; with the second one, each has half of the game."""
    config = dataclasses.replace(
        config, replay=dataclasses.replace(config.replay, num_shards=2, pin_every_game=True)
    )
    with started(config, redis_url, monkeypatch, name="shards") as engine:
        drive(engine, lambda progress: progress.updates > 10)
        engine.scale(FIRST, 2)
        drive(engine, has(FIRST, 2))
        play_on(engine)
        wide = engine._fleet._slices
        # A shard that comes back must not wait for what nobody sends, nor begin with old slices.
        finish(engine, FIRST, keep=1)
        play_on(engine)
        narrow = engine._fleet._slices
        tables = dump_all(engine)
    assert [part[FIRST].is_fed for part in wide] == [True, True]
    assert [part[FIRST].num_fed for part in wide] == [2, 2]
    assert [part[FIRST].is_fed for part in narrow] == [True, False]
    assert sum(table.num_inserted > 0 for table in tables if table.game == FIRST) == 2
    check_contents(tables)


def test_a_shard_that_dies_comes_back_with_the_slices_of_now(config, redis_url, monkeypatch):
    config = dataclasses.replace(
        config, replay=dataclasses.replace(config.replay, num_shards=2, pin_every_game=True)
    )
    with started(config, redis_url, monkeypatch, name="slices") as engine:
        drive(engine, lambda progress: progress.updates > 10)
        engine.scale(FIRST, 2)
        drive(engine, has(FIRST, 2))
        play_on(engine)
        for pid in drive_pids(engine, "shard"):
            os.kill(pid, signal.SIGKILL)
        drive(engine, lambda progress: progress.faults["shard_restarts"] == 2)
        # With the slices of the beginning both would hold the whole quota of the game.
        quota = config.replay.capacity_per_game
        drive(engine, lambda progress: progress.games[FIRST].replay.capacity == quota)
        play_on(engine)


def drive_pids(engine, role):
    drive(engine, lambda progress: progress.updates > 0)
    return engine.pids(role)


def test_an_actor_that_leaves_waits_for_the_learner_and_is_ended_if_it_waits_too_long(
    config, redis_url, monkeypatch
):
    notes = []
    with started(config, redis_url, monkeypatch, name="stuck", notes=notes) as engine:
        drive(engine, lambda progress: progress.updates > 10)
        engine.scale(FIRST, 2)
        drive(engine, has(FIRST, 2))
        (learner,) = drive_pids(engine, "learner")
        os.kill(learner, signal.SIGSTOP)
        try:
            wait_until(
                lambda: engine.progress().games[FIRST].replay.waiting_actors > 1,
                timeout_s=60.0,
                what="both actors wait for the learner",
            )
            monkeypatch.setattr("engines.on_ray.actor_fleet.RETIRING_PATIENCE_S", 0.5)
            engine.scale(FIRST, 1)
            wait_until(
                lambda: engine.progress() and not engine._actors._retiring,
                timeout_s=60.0,
                what="it is ended",
            )
        finally:
            os.kill(learner, signal.SIGCONT)
        play_on(engine)
    assert [note for note in notes if "could not hand over" in note]


def test_an_added_actor_that_cannot_start_is_left_out(config, redis_url, monkeypatch, tmp_path):
    """As on a node that lacks something: the run must not end with it."""
    teacher = save_random_expert(tmp_path, FIRST, torso="minatar")
    config = dataclasses.replace(config, teachers=(f"{FIRST}={teacher}", config.teachers[1]))
    notes = []
    with started(config, redis_url, monkeypatch, name="broken", notes=notes) as engine:
        drive(engine, lambda progress: progress.updates > 10)
        teacher.unlink()
        engine.scale(FIRST, 3)
        drive(engine, lambda progress: progress.games[FIRST].wanted == 1)
        last = play_on(engine)
    assert last.games[FIRST].actors == 1
    assert not any(last.faults.values())
    notes = without_start(notes)
    assert len(notes) == 2
    assert all("an added actor of counting_cuts could not start (ValueError" in n for n in notes)


def test_what_cannot_be_is_refused_and_changes_nothing(config, redis_url, monkeypatch):
    with started(config, redis_url, monkeypatch, name="refused") as engine:
        for game, number, message in (
            ("seaquest", 1, "'seaquest' is not a game of this run; it plays counting_cuts"),
            (FIRST, -1, "counting_cuts cannot have -1 actors: give a whole number from 0 to 1,024"),
            (FIRST, 1.5, "cannot have 1.5 actors"),
            (FIRST, 5_000, "cannot have 5000 actors"),
        ):
            with pytest.raises(ValueError, match=message):
                engine.scale(game, number)
        assert [engine._actors.wanted(game) for game in GAMES] == [1, 1]
