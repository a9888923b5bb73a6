"""Actors that come and go while a run goes on: nothing is lost, and nobody waits for them.

Tests with the same settings go on with one run, which each of them begins with one actor a game.
"""

import dataclasses
import os
import signal
import time
from contextlib import ExitStack
from pathlib import Path

import counting
import numpy as np
import pytest
import ray
from ray_runs import (
    COUNTING,
    check_contents,
    counting_config,
    cpus_taken,
    drive,
    dump_all,
    started,
    without_start,
)
from runs import save_random_expert, wait_until

from actors.config import ActorConfig
from actors.policy import epsilon_ladder

pytestmark = [
    pytest.mark.ray,
    pytest.mark.redis,
    pytest.mark.slow,
    pytest.mark.usefixtures("shared_ray"),
]

FIRST, SECOND = COUNTING


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """No end, and a shard that forgets nothing."""
    return counting_config(
        tmp_path_factory.mktemp("teachers"),
        num_steps=10_000_000,
        actor=ActorConfig(num_envs=3, chunk_steps=7, exploration="ladder"),
        replay={"capacity_per_game": 400_000, "error_buffer": 300.0, "snapshot_period_s": 0.0},
    )


@pytest.fixture(scope="module")
def pinned(config):
    """One actor feeds one shard of two; a game that replay counts on could hold up the learner."""
    replay = dataclasses.replace(config.replay, num_shards=2, pin_every_game=True)
    return dataclasses.replace(config, replay=replay)


@pytest.fixture(scope="module")
def learning(redis_url):
    """A run that is learning, with its notes; the one before ends when it has other settings."""
    running = {}
    with ExitStack() as stack:

        def get(name, config):
            if name not in running:
                running.clear()
                stack.close()
                notes = []
                engine = stack.enter_context(started(config, redis_url, name=name, notes=notes))
                running[name] = engine, notes
                drive(engine, lambda progress: progress.updates > 10)
            engine, _ = running[name]
            for game in config.games:
                finish(engine, game, keep=1)
            return running[name]

        yield get


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


def test_what_cannot_be_is_refused_and_changes_nothing(config, learning):
    engine, _ = learning("plain", config)
    for game, number, message in (
        ("seaquest", 1, f"'seaquest' is not a game of this run; it plays {FIRST}"),
        (FIRST, -1, f"{FIRST} cannot have -1 actors: give a whole number from 0 to 1,024"),
        (FIRST, 1.5, "cannot have 1.5 actors"),
        (FIRST, 5_000, "cannot have 5000 actors"),
    ):
        with pytest.raises(ValueError, match=message):
            engine.scale(game, number)
    assert [engine._actors.wanted(game) for game in COUNTING] == [1, 1]


def test_an_added_actor_that_cannot_start_is_left_out(config, learning):
    """As on a node that lacks something: the run must not end with it."""
    engine, notes = learning("plain", config)
    before = len(notes)
    teacher = Path(config.teachers_of[FIRST][0])
    weights = teacher.read_bytes()
    teacher.unlink()
    try:
        engine.scale(FIRST, 3)
        drive(engine, lambda progress: progress.games[FIRST].wanted == 1)
    finally:
        teacher.write_bytes(weights)
    last = play_on(engine)
    assert last.games[FIRST].actors == 1
    assert not any(last.faults.values())
    told = without_start(notes[before:])
    assert len(told) == 2
    assert all(f"an added actor of {FIRST} could not start (ValueError" in n for n in told)


def test_an_actor_that_waits_for_room_holds_up_nobody(config, learning, monkeypatch):
    engine, _ = learning("plain", config)
    # Of eight; a learner, a shard and the other game leave room for two.
    with cpus_taken(3):
        engine.scale(FIRST, 4)
        full = drive(
            engine,
            lambda progress: has(FIRST, 2)(progress) and progress.games[FIRST].pending == 2,
        )
        monkeypatch.setattr("engines.on_ray.actor_fleet.REPORT_PATIENCE_S", 200.0)
        begun = time.monotonic()
        on = play_on(engine)
        assert on.games[FIRST].pending == 2
        assert time.monotonic() - begun < 180.0, "the launcher waits for what is not there"
        playing = set(engine.pids(f"actor/{FIRST}"))
        # Those that wait go first: nobody who plays is touched.
        engine.scale(FIRST, 2)
        calm = engine.progress()
        assert calm.games[FIRST].pending == 0
        assert set(engine.pids(f"actor/{FIRST}")) == playing
        # What one game gives up, the other gets.
        engine.scale(SECOND, 2)
        drive(engine, lambda progress: progress.games[SECOND].pending == 1)
        engine.scale(FIRST, 1)
        drive(engine, has(SECOND, 2))
        play_on(engine)
        last = engine.progress()
    assert full.games[FIRST].wanted == 4
    assert not any(last.faults.values())


def test_an_actor_that_leaves_waits_for_the_learner_and_is_ended_if_it_waits_too_long(
    config, learning, monkeypatch
):
    engine, notes = learning("plain", config)
    engine.scale(FIRST, 2)
    drive(engine, has(FIRST, 2))
    (learner,) = engine.pids("learner")
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


def test_a_game_may_do_without_actors_and_get_them_back(pinned, learning):
    engine, _ = learning("pinned", pinned)
    finish(engine, FIRST, keep=0)
    before = engine.progress()
    without = play_on(engine, updates=100)
    assert without.games[FIRST].steps == before.games[FIRST].steps
    assert without.games[SECOND].steps > before.games[SECOND].steps
    engine.scale(FIRST, 1)
    drive(engine, lambda p: p.games[FIRST].steps > before.games[FIRST].steps)
    play_on(engine)
    check_contents(dump_all(engine))


def test_shards_count_on_the_actors_that_are_there(pinned, learning):
    """With a second actor, each shard has half of the game."""
    engine, _ = learning("pinned", pinned)
    engine.scale(FIRST, 2)
    drive(engine, has(FIRST, 2))
    play_on(engine)
    wide = engine._fleet._slices
    finish(engine, FIRST, keep=1)
    play_on(engine)
    narrow = engine._fleet._slices
    tables = dump_all(engine)
    assert [part[FIRST].is_fed for part in wide] == [True, True]
    assert [part[FIRST].num_fed for part in wide] == [2, 2]
    assert sorted(part[FIRST].is_fed for part in narrow) == [False, True]
    assert sum(table.num_inserted > 0 for table in tables if table.game == FIRST) == 2
    check_contents(tables)


def test_a_shard_that_dies_comes_back_with_the_slices_of_now(pinned, learning):
    """It must not wait for what nobody sends, nor begin with the slices of the beginning."""
    engine, notes = learning("pinned", pinned)
    engine.scale(FIRST, 2)
    drive(engine, has(FIRST, 2))
    before = play_on(engine)
    killed = engine.pids("shard")
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    drive(engine, lambda progress: progress.faults["shard_restarts"] == 2)
    # With the slices of the beginning both would hold the whole quota of the game.
    quota = pinned.replay.capacity_per_game
    drive(engine, lambda progress: progress.games[FIRST].replay.capacity == quota)
    after = play_on(engine)
    assert notes.count("a replay shard died and came back empty") == 2
    assert not set(killed) & set(engine.pids("shard"))
    assert after.faults["actor_restarts"] == after.faults["learner_restarts"] == 0
    tables = dump_all(engine)
    ray.get([shard.handle.check_valid.remote() for shard in engine._fleet.shards])
    for game in COUNTING:
        assert after.games[game].inserted > before.games[game].inserted
        assert after.games[game].sampled > before.games[game].sampled
    # Each stream goes on in the new shard where the old one ended, with a gap at most.
    for table in tables:
        for number in np.unique(table.streams):
            assert (np.diff(table.steps[table.streams == number]) >= 1).all()


def test_actors_come_and_go_and_nothing_is_lost(config, learning):
    """1 -> 4 -> 1 of one game; the other one does not notice."""
    engine, _ = learning("one-four-one", config)
    others = engine.pids(f"actor/{SECOND}")
    engine.scale(FIRST, 4)
    drive(engine, has(FIRST, 4))
    grown = play_on(engine, updates=80)  # The chunks on their way are of before.
    wide = dump_all(engine)
    finish(engine, FIRST, keep=1)
    shrunk = play_on(engine, updates=80)
    assert engine.pids(f"actor/{SECOND}") == others, "an actor of the other game was touched"
    # Everybody leaves and hands over all that was played.
    for game in COUNTING:
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


@pytest.mark.soak
def test_more_actors_play_more_and_take_nothing_from_the_other_game(config, learning, tmp_path):
    """Where nobody has to share: these games take their time without a processor."""
    games = (counting.SLOWLY.name, counting.SLOWLY_TOO.name)
    teachers = [f"{game}={save_random_expert(tmp_path, game, torso='minatar')}" for game in games]
    # The learner waits for the actors, not they for it.
    replay = dataclasses.replace(config.replay, samples_per_insert=0.5)
    slow = dataclasses.replace(config, games=games, teachers=tuple(teachers), replay=replay)
    engine, _ = learning("slow", slow)
    alone = rates(engine, games, seconds=4.0)
    engine.scale(games[0], 4)
    drive(engine, has(games[0], 4))
    play_on(engine)
    beside = rates(engine, games, seconds=4.0)
    assert beside[0] > 2.5 * alone[0], "four actors hardly play more than one"
    assert beside[1] > 0.75 * alone[1], "the other game is played less"
