"""Objectives that learn from rewards, on Ray: what comes through, and roles that die."""

import os
import signal

import numpy as np
import pytest
from ray_runs import COUNTING, counting_config, drive, started, without_start
from runs import save_random_expert

from actors.config import ActorConfig
from engines.on_ray.replay_reader import RayReplayReader
from games.registry import get_game
from learner.objectives.config import ActorCriticConfig, DistillationConfig
from networks.config import NetworkConfig

pytestmark = [
    pytest.mark.ray,
    pytest.mark.redis,
    pytest.mark.slow,
    pytest.mark.usefixtures("shared_ray"),
]


@pytest.fixture(scope="module")
def teachers(tmp_path_factory):
    """Two of the first game, none of the second, which learns from its rewards alone."""
    folder = tmp_path_factory.mktemp("teachers")
    paths = []
    for seed in (1, 2):
        (folder / str(seed)).mkdir()
        path = save_random_expert(folder / str(seed), COUNTING[0], torso="minatar", seed=seed)
        paths.append(f"{COUNTING[0]}={path}")
    return tuple(paths)


@pytest.fixture
def config_of(tmp_path):
    def build(objective, **settings):
        return counting_config(
            tmp_path,
            objective=objective,
            num_steps=2_000,
            actor=ActorConfig(num_envs=3, chunk_steps=8),
            # Pinned: the run cannot reach its end without either game.
            replay={"capacity_per_game": 5_000, "pin_every_game": True},
            **settings,
        )

    return build


def kill(engine, role):
    drive(engine, lambda progress: progress.updates > 5 and bool(engine.pids(role)))
    os.kill(engine.pids(role)[0], signal.SIGKILL)


def policy_of(logits, game):
    legal = list(get_game(game).legal_actions)
    powers = np.exp(logits[legal].astype(np.float64))
    return dict(zip(legal, powers / powers.sum(), strict=True))


def test_an_actor_of_an_actor_critic_is_replaced_and_its_probabilities_are_those_of_its_draws(
    redis_url, config_of, teachers
):
    config = config_of(
        "actor_critic",
        teachers=teachers,
        actor_critic=ActorCriticConfig(sequence_length=4),
        distillation=DistillationConfig(weights=(f"{COUNTING[0]}=1.0,0.5",)),
    )
    notes = []
    with started(config, redis_url, name="actor", notes=notes) as engine:
        kill(engine, f"actor/{COUNTING[0]}")
        progress = drive(engine)
        (shard,) = engine._fleet.shards
        batch = RayReplayReader([shard.handle]).sample(timeout_s=10.0)
    assert progress.updates == config.num_updates
    assert progress.faults["actor_restarts"] == 1
    assert without_start(notes) == [f"an actor of {COUNTING[0]} died; starting another"]
    found = batch.columns["behaviour_probabilities"]
    expected = [
        policy_of(batch.columns["student_logits"][row], batch.games[game])[action]
        for row, (game, action) in enumerate(
            zip(batch.game_index, batch.columns["actions"].tolist(), strict=True)
        )
    ]
    # Logits are stored in half precision, probabilities are not.
    np.testing.assert_allclose(found, expected, rtol=5e-3)
    width = get_game(COUNTING[0]).num_actions
    labels = batch.columns["teacher_logits"].reshape(len(found), 2, width)
    is_first_game = batch.game_index == 0
    assert labels[is_first_game].any(axis=2).all()
    assert not labels[~is_first_game].any()


def test_a_shard_of_a_multitask_dqn_comes_back_and_the_run_reaches_its_end(redis_url, config_of):
    network = NetworkConfig(torso="minatar", heads="per_game")
    config, notes = config_of("dqn", teachers=(), network=network), []
    with started(config, redis_url, name="shard", notes=notes) as engine:
        kill(engine, "shard")
        progress = drive(engine)
    assert progress.updates == config.num_updates
    assert progress.faults["shard_restarts"] == 1
    assert without_start(notes) == ["a replay shard died and came back empty"]


def test_a_learner_of_both_goes_on_with_its_schedule(redis_url, config_of, teachers):
    falling = DistillationConfig(schedule="linear", steps=100_000)
    config, notes = config_of("joint", teachers=teachers[:1], distillation=falling), []
    with started(config, redis_url, name="learner", notes=notes) as engine:
        drive(engine, lambda progress: progress.updates > 20)
        saved = engine.state()["learner"]
        kill(engine, "learner")
        drive(engine, lambda progress: progress.faults["learner_restarts"] == 1)
        restored = engine.state()["learner"]
        progress = drive(engine)
    assert without_start(notes) == [
        f"the learner died; going on from update {saved['num_updates']}"
    ]
    assert progress.updates == config.num_updates
    schedule = "teachers.num_updates"
    assert restored["objective"][schedule] >= saved["objective"][schedule] > 20
