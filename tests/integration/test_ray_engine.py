"""The roles as real processes on a real Ray, with weights through a real Redis."""

import dataclasses
import os
import signal
import time

import numpy as np
import pytest
import ray
import signals
import torch
from counting import SCHEDULES, expected_entries
from counting_checks import check_batch
from ray_runs import (
    COUNTING,
    MadeUpRecipe,
    check_contents,
    counting_config,
    drive,
    dump_all,
    started,
    without_start,
)
from replay_shards import insert_wait_s
from runs import save_network, wait_until

from actors.config import ActorConfig
from engines.local.engine import LocalEngine
from engines.on_ray.replay_reader import RayReplayReader
from learner.config import LearnerConfig
from learner.objectives.config import MimicConfig
from networks.config import NetworkConfig
from networks.masking import legal_matrix, masked_argmax
from networks.snapshots import apply_snapshot
from networks.weights import WeightsVersion
from recipes.config import RunConfig
from replay.config import ReplayConfig
from replay.types import STREAMS_PER_ACTOR_BITS

pytestmark = [
    pytest.mark.ray,
    pytest.mark.redis,
    pytest.mark.slow,
    pytest.mark.usefixtures("shared_ray"),
]

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return counting_config(tmp_path_factory.mktemp("teachers"))


def kill_one(engine, role) -> int:
    """SIGKILL to a process of a role, once it is known."""
    drive(engine, lambda progress: engine.pids(role))
    pid = engine.pids(role)[0]
    os.kill(pid, signal.SIGKILL)
    return pid


def hold_learner_until_actors_wait(engine) -> None:
    """Stop it for so long that every shard has refused chunks."""

    def waited_s() -> float:
        answers = [
            shard.handle.stats.options(concurrency_group="control").remote()
            for shard in engine._fleet.shards
        ]
        return min(insert_wait_s(stats) for _, stats in ray.get(answers, timeout=30.0))

    (pid,) = engine.pids("learner")
    enough_s = waited_s() + 1.0
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_until(lambda: waited_s() > enough_s, timeout_s=60.0, what="the actors wait")
    finally:
        os.kill(pid, signal.SIGCONT)


def incarnations(versions) -> set[int]:
    return {WeightsVersion.decode(int(version)).incarnation for version in np.unique(versions)}


def newest_of(streams) -> WeightsVersion:
    """The newest weights that any actor has played with."""
    return WeightsVersion.decode(max(int(stream.versions[-1]) for stream in streams.values()))


# Nothing is lost


def test_a_run_goes_on_from_a_local_checkpoint_with_more_of_all_and_loses_and_mixes_up_nothing(
    config, redis_url
):
    """The learner comes back as a new incarnation, and the actors follow it."""
    local = LocalEngine(MadeUpRecipe(config), device=CPU)
    while local.progress().updates < 50:
        assert local.advance(0.05)
    state, before = local.state(), local.progress()
    wide = dataclasses.replace(
        config,
        actors=("2", f"{COUNTING[1]}=1"),
        replay=dataclasses.replace(config.replay, num_shards=2),
    )
    with started(wide, redis_url, name="resumed", state=state) as engine:
        first = drive(engine, lambda p: p.updates > state["learner"]["num_updates"])
        assert engine.snapshot().version > (1, state["learner"]["num_updates"] - 1)
        hold_learner_until_actors_wait(engine)
        drive(engine)
        played_before = engine.progress().steps
        tables = dump_all(engine)
        progress, version = engine.progress(), engine.snapshot().version
        batches = [
            RayReplayReader([shard.handle]).sample(timeout_s=10.0) for shard in engine._fleet.shards
        ]
        ray.get([shard.handle.check_valid.remote() for shard in engine._fleet.shards])
    assert first.updates >= before.updates >= 50
    assert version == (1, wide.num_updates)
    assert [game.actors for game in progress.games.values()] == [2, 1]
    streams = check_contents(tables)
    assert len(streams) == 3 * wide.actor.num_envs
    assert min(streams) >> STREAMS_PER_ACTOR_BITS >= state["next_serial"], "a number comes again"
    # At most four chunks of an actor are on their way, and one is being played.
    stored = sum(table.num_inserted for table in tables)
    under_way = 5 * 3 * wide.actor.num_envs * wide.actor.chunk_steps
    assert played_before - before.steps - under_way <= stored <= progress.steps - before.steps
    left = wide.num_steps * (1 - before.updates / wide.num_updates)
    assert stored >= left - wide.replay.error_buffer
    assert progress.updates == wide.num_updates
    assert not any(progress.faults.values())
    assert progress.replay.counts.overwritten_unsampled == 0
    middle = (before.updates + wide.num_updates) // 2
    assert newest_of(streams) > (1, middle), "new weights do not reach the actors"
    for batch in batches:
        tags = check_batch(batch, SCHEDULES, life_loss_ends_return=True)
        assert len(tags.clock) == 32


# Processes that die


def test_actors_and_learners_that_are_killed_are_replaced_and_nothing_that_was_stored_is_lost(
    config, redis_url
):
    notes = []
    # Pinned: the run cannot reach its end without the game whose only actor is killed.
    config = dataclasses.replace(
        config, replay=dataclasses.replace(config.replay, pin_every_game=True)
    )
    with started(config, redis_url, name="deaths", notes=notes) as engine:
        drive(engine, lambda progress: progress.updates > 10)
        killed = kill_one(engine, f"actor/{COUNTING[0]}")
        drive(engine, lambda progress: progress.faults["actor_restarts"] == 1)
        kill_one(engine, "learner")  # Before there is any state to go on from.
        assert engine.state()["learner"]["incarnation"] == 1, "who is asked while dead is replaced"
        assert engine.progress().faults["learner_restarts"] == 1
        drive(engine, lambda progress: engine.snapshot().version > (1, 20))
        saved = engine.state()["learner"]["num_updates"]
        kill_one(engine, "learner")
        kill_time = time.monotonic()
        after = drive(engine, lambda progress: progress.faults["learner_restarts"] == 2)
        assert engine.snapshot().version >= (2, saved)
        progress = drive(engine)
        restart_s = time.monotonic() - kill_time
        replaced = engine.pids(f"actor/{COUNTING[0]}")
        tables = dump_all(engine)
        version = engine.snapshot().version
    assert restart_s < 60.0
    assert killed not in replaced
    assert after.faults["learner_restarts"] == progress.faults["learner_restarts"] == 2
    assert (progress.faults["actor_restarts"], progress.faults["shard_restarts"]) == (1, 0)
    assert version == (2, config.num_updates)
    first, *learners = without_start(notes)
    assert first == f"an actor of {COUNTING[0]} died; starting another"
    assert learners[-1] == f"the learner died; going on from update {saved}"
    assert len(learners) == 2
    streams = check_contents(tables)
    # The new actor has streams of its own, which begin at their beginning.
    assert len(streams) == 3 * config.actor.num_envs
    stored = sum(table.num_inserted for table in tables)
    assert stored >= config.num_steps - config.replay.error_buffer
    # What the dead one had played since it was last asked is not counted.
    assert progress.steps >= 0.8 * stored
    versions = np.concatenate([stream.versions for stream in streams.values()])
    assert incarnations(versions) == {0, 1, 2}, "actors must follow every incarnation"
    assert newest_of(streams) > (2, saved)


def num_transitions_missing(game, stream, steps) -> int:
    """In the gaps between the steps that are there of a stream."""
    env = stream % (1 << STREAMS_PER_ACTOR_BITS)
    entries = expected_entries(SCHEDULES[game], env, num_rows=2 * int(steps[-1]) + 2)
    gone = set(range(int(steps[-1]))) - set(steps.tolist())
    return sum(entries[step].is_transition for step in gone)


@pytest.fixture
def saving_config(config):
    """Snapshots as often as they can be written."""
    replay = dataclasses.replace(config.replay, snapshot_period_s=0.05)
    return dataclasses.replace(config, replay=replay)


def test_a_shard_that_is_killed_and_a_run_that_is_resumed_go_on_with_the_newest_snapshot(
    saving_config, redis_url, tmp_path
):
    notes = []
    with started(
        saving_config, redis_url, name="saved", notes=notes, replay_dir=tmp_path
    ) as engine:
        drive(engine, lambda progress: progress.updates > 10)
        drive(engine, lambda progress: progress.snapshots.num_written > 1)
        killed = kill_one(engine, "shard")
        after = drive(engine, lambda progress: progress.faults["shard_restarts"] == 1)
        progress = drive(engine)
        assert killed not in engine.pids("shard")
        state, tables = engine.state(), dump_all(engine)
        ray.get([shard.handle.check_valid.remote() for shard in engine._fleet.shards])
    (note,) = (line for line in notes if "goes on with" in line)
    lost = progress.faults["transitions_lost"]
    assert f"; {lost} transitions stored since are gone" in note
    assert after.faults["transitions_lost"] == lost
    assert progress.updates == saving_config.num_updates
    missing = 0
    for table in tables:
        # From the beginning of the run, which only the snapshot has, with one gap at most where the
        # process died.
        for number in np.unique(table.streams).tolist():
            steps = table.steps[table.streams == number]
            assert steps[0] == 0
            assert np.count_nonzero(np.diff(steps) != 1) <= 1
            assert (np.diff(steps) >= 1).all()
            missing += num_transitions_missing(table.game, number, steps)
    # What is gone is what was reported, and what actors had sent that was never stored.
    per_chunk = saving_config.actor.num_envs * saving_config.actor.chunk_steps
    assert lost <= missing <= lost + progress.faults["chunks_lost"] * per_chunk

    longer = dataclasses.replace(saving_config, num_steps=saving_config.num_steps + 1_000)
    notes = []
    with started(
        longer, redis_url, name="again", notes=notes, replay_dir=tmp_path, state=state
    ) as engine:
        again = drive(engine, lambda progress: progress.games[COUNTING[0]].replay.size > 0)
        for table in tables:
            assert again.games[table.game].replay.size >= len(table.steps)
        last = drive(engine)
        resumed = dump_all(engine)
    assert last.updates == longer.num_updates > progress.updates
    assert any("goes on with" in line for line in notes)
    for old, new in zip(tables, resumed, strict=True):
        np.testing.assert_array_equal(new.streams[: len(old.streams)], old.streams)
        np.testing.assert_array_equal(new.steps[: len(old.steps)], old.steps)
        for number in np.unique(new.streams):
            assert (np.diff(new.steps[new.streams == number]) >= 1).all()


def test_settings_of_a_game_change_while_a_run_goes_on_and_survive_its_shards(
    saving_config, redis_url, tmp_path
):
    quick, slow = COUNTING
    with started(saving_config, redis_url, name="set", replay_dir=tmp_path) as engine:
        drive(engine, lambda progress: progress.updates > 10)
        settings = engine.configure(quick, share=3.0, quota=2_000, samples_per_insert_cap=5.0)
        assert (settings.share, settings.quota) == (3.0, 2_000)
        for bad, message in (({"quota": 20}, "quota"), ({"samples_per_insert_cap": 1.0}, "cap")):
            with pytest.raises(ValueError, match=message):
                engine.configure(quick, **bad)
        with pytest.raises(ValueError, match="not 'seaquest'"):
            engine.configure("seaquest", share=1.0)
        drive(engine, lambda progress: progress.games[quick].replay.share == 3.0)
        kill_one(engine, "shard")
        drive(engine, lambda progress: progress.faults["shard_restarts"] == 1)
        progress = drive(
            engine, lambda progress: progress.games[quick].replay.samples_per_insert_cap == 5.0
        )
    assert progress.games[quick].replay.capacity == 2_000
    assert progress.games[slow].replay.capacity == saving_config.replay.capacity_per_game
    assert progress.games[slow].replay.share == 1.0


def test_an_error_in_the_learner_ends_the_run_with_its_cause(config, redis_url):
    diverging = dataclasses.replace(config, learner=LearnerConfig(learning_rate=1e30))
    with started(diverging, redis_url, name="error") as engine:
        with pytest.raises(ValueError, match="diverged"):
            drive(engine)
        begun = time.monotonic()
        assert 0 < engine.state()["learner"]["num_updates"] < config.num_updates
        assert time.monotonic() - begun < 10.0, "nobody may wait for a loop that has ended"


def test_a_role_that_cannot_even_start_ends_the_run_at_once(config, redis_url):
    """Starting it again would end the same way."""
    impossible = dataclasses.replace(
        config, teachers=(f"{COUNTING[0]}=nowhere/x.safetensors", config.teachers[1])
    )
    with (
        started(impossible, redis_url, name="impossible") as engine,
        pytest.raises(ray.exceptions.RayActorError, match="nowhere"),
    ):
        drive(engine)


# It learns


@pytest.fixture(scope="module")
def signal_config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("signal_teachers")
    games = tuple(spec.name for spec in signals.GAMES)
    teachers = [
        f"{spec.name}={save_network(folder, spec.name, signals.fit_best_policy(spec, seed=seed))}"
        for seed, spec in enumerate(signals.GAMES)
    ]
    return RunConfig(
        games=games,
        num_steps=12_000,
        teachers=tuple(teachers),
        actor=ActorConfig(num_envs=8, chunk_steps=8, epsilon=0.2),
        replay=ReplayConfig(
            batch_size=64,
            capacity_per_game=4_000,
            min_size_per_game=200,
            samples_per_insert=2.0,
            samples_per_insert_cap=8.0,
            error_buffer=500.0,
        ),
        learner=LearnerConfig(learning_rate=2e-3, precision="float32", publish_period=10),
        mimic=MimicConfig(temperature=0.2),
        network=NetworkConfig(torso="minatar"),
    )


def agreement(config, snapshot) -> float:
    """Share of fresh states in which student and teacher would play the same."""
    recipe = MadeUpRecipe(config)
    legal = legal_matrix(signals.GAMES)
    rng = np.random.default_rng(77)
    shares = []
    for index, spec in enumerate(signals.GAMES):
        student = recipe.build_acting_network(spec.name).eval()
        apply_snapshot(student, snapshot)
        states = torch.from_numpy(signals.random_observations(spec, 2_000, rng))
        mask = legal[index].expand(2_000, -1)
        with torch.no_grad():
            ours = masked_argmax(student(states), mask)
            theirs = masked_argmax(recipe.load_teacher(spec.name)(states), mask)
        shares.append(float((ours == theirs).float().mean()))
    return float(np.mean(shares))


def test_processes_learn_what_one_process_learns(signal_config, redis_url):
    local = LocalEngine(MadeUpRecipe(signal_config), device=CPU)
    untrained = agreement(signal_config, local.snapshot())
    while local.advance(0.5):
        local_loss = local.progress().metrics["policy_loss"]
    with started(signal_config, redis_url, name="signals") as engine:
        losses = []

        def look(progress):
            losses.extend(
                [progress.metrics["policy_loss"]] if "policy_loss" in progress.metrics else []
            )
            return False

        progress = drive(engine, look)
        snapshot = engine.snapshot()
    here, there = agreement(signal_config, local.snapshot()), agreement(signal_config, snapshot)
    assert progress.updates == local.progress().updates == signal_config.num_updates
    assert untrained < 0.6
    assert here > 0.95
    assert there > 0.95
    assert abs(here - there) < 0.03
    assert losses[-1] == pytest.approx(local_loss, rel=0.2)
