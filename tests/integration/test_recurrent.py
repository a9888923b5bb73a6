"""Networks with an LSTM in whole runs: what is stored, what is learned, and who asks the student.

`recall` (tests/support/recall.py) cannot be won by who sees single frames.
"""

import numpy as np
import pytest
import torch
from ray_runs import COUNTING, counting_config, drive, dump_all, started
from runs import read_summary, run_command

from actor_mimic import GameEnv, Student
from actors.config import ActorConfig
from games.registry import get_game
from learner.config import LearnerConfig
from learner.objectives.config import ActorCriticConfig, DistillationConfig
from networks.config import NetworkConfig
from recipes.recipe import Recipe

WIDTH = 8
# The recipe of the two runs below, but for the network and their length.
OPTIONS = (
    "--preset", "smoke", "--games", "recall:spec", "--network.torso", "minatar",
    "--objective", "actor_critic", "--distillation.weight", "0",
    "--actor-critic.sequence-length", "4", "--actor.num-envs", "16",
    "--replay.batch-size", "128", "--replay.samples-per-insert", "8",
    "--replay.samples-per-insert-cap", "32", "--replay.error-buffer", "4096",
    "--learner.learning-rate", "0.003", "--seed", "1", "--report-at-end", "False",
    "--evaluation.num-episodes", "100", "--evaluation.num-envs", "50", "--run-dir", "run",
)  # fmt: skip


def replayed(stream, network, spec):
    """What the network remembers before every entry of one environment, step by step."""
    stack = torch.zeros(1, *spec.observation_shape, dtype=torch.uint8)
    memory, found = None, []
    for frame, is_first in zip(stream["frames"], stream["is_first"].tolist(), strict=True):
        if is_first:
            memory, stack = None, torch.zeros_like(stack)
        stack = torch.cat([stack[:, len(frame) :], torch.from_numpy(frame)[None]], 1)
        found.append(torch.zeros(1, 2 * WIDTH) if memory is None else memory)
        _, memory = network.look(stack, memory)
    return torch.cat(found).numpy()


@pytest.mark.ray
@pytest.mark.redis
@pytest.mark.slow
@pytest.mark.usefixtures("shared_ray")
def test_actors_store_what_the_network_that_plays_remembers(redis_url, tmp_path):
    config = counting_config(
        tmp_path,
        objective="actor_critic",
        teachers=(),
        distillation=DistillationConfig(weight=0.0),
        network=NetworkConfig(torso="minatar", lstm_width=WIDTH),
        actor_critic=ActorCriticConfig(sequence_length=4),
        # So small that all versions of the weights are the same.
        learner=LearnerConfig(learning_rate=1e-12, publish_period=5),
        actor=ActorConfig(num_envs=3, chunk_steps=8),
        num_steps=1_000,
        replay={"capacity_per_game": 5_000},
    )
    with started(config, redis_url, name="recurrent") as engine:
        drive(engine)
        weights = engine.state()["learner"]["network"]
        tables = dump_all(engine)
    for table in tables:
        network = Recipe(config).build_acting_network(table.game)
        # Actors have the weights in half precision.
        network.load_state_dict({name: w.half().float() for name, w in weights.items()})
        num_first = 0
        for number in np.unique(table.streams).tolist():
            rows = np.flatnonzero(table.streams == number)
            # Before the first weights came the actor has played by its own, and nobody knows those.
            known = table.columns["is_first"][rows] & (table.versions[rows] > 0)
            rows = rows[np.flatnonzero(known)[0] :]
            stream = {name: column[rows] for name, column in table.columns.items()}
            with torch.inference_mode():
                expected = replayed(stream, network, get_game(table.game))
            assert np.abs(expected).max() > 0.05
            # Stored in half precision.
            np.testing.assert_allclose(stream["memories"], expected, atol=1e-3)
            num_first += int(stream["is_first"].sum())
        assert num_first > 6
    assert {table.game for table in tables} == set(COUNTING)


@pytest.mark.slow
@pytest.mark.parametrize("width", [32, 0])
def test_what_was_shown_steps_ago_is_learned_with_an_lstm_alone(tmp_path, width):
    options = ("--engine", "local", "--num-steps", "8000", "--network.lstm-width", str(width))
    finished = run_command("multitask.py", *OPTIONS, *options, cwd=tmp_path, timeout_s=300.0)
    assert finished.status == 0, finished.errors
    score = read_summary(tmp_path / "run")["games"]["recall"]["student"]["mean"]
    if width:
        assert score > 0.9
        play_the_student(tmp_path)
    else:
        # Five standard errors of the mean of 100 episodes that are won or lost by chance.
        assert abs(score) < 0.5


def play_the_student(folder):
    """A student that has learned the game plays it well wherever it is asked."""
    played = run_command("evaluate.py", "run", "--episodes", "40", "--epsilon", "0", cwd=folder)
    assert played.status == 0, played.errors
    assert "1.0 +- 0.0" in played.output
    watched = run_command(
        "play.py", "run", "--game", "recall", "--episodes", "9", "--epsilon", "0", cwd=folder
    )
    assert "student 1" in watched.output, watched.errors
    exported = run_command("export.py", "run", "--out", "out", cwd=folder)
    assert exported.status == 0, exported.errors
    assert "forget()" in (folder / "out" / "card.md").read_text()
    refused = run_command(
        "export.py", "run", "--out", "program", "--format", "torch-export", cwd=folder
    )
    assert (refused.status, "safetensors" in refused.errors) == (2, True)
    student = Student.load(folder / "run").playing("recall")
    env, returns = GameEnv("recall"), []
    for seed in range(20):
        observation, _ = env.reset(seed=seed)
        student.forget()
        ended, score = False, 0.0
        while not ended:
            student.policy(observation)  # A look that is not remembered.
            observation, reward, ended, _, _ = env.step(student.act(observation))
            score += float(reward)
        returns.append(score)
    assert returns == [1.0] * 20


@pytest.mark.ray
@pytest.mark.slow
def test_a_run_on_ray_goes_on_with_its_lstm(tmp_path):
    options = ("--engine", "ray", "--num-steps", "200", "--network.lstm-width", str(WIDTH))
    begun = run_command("multitask.py", *OPTIONS, *options, cwd=tmp_path, timeout_s=300.0)
    assert begun.status == 0, begun.errors
    before = read_summary(tmp_path / "run")["updates"]
    resumed = run_command(
        "multitask.py", "--resume", "run", "--num-steps", "300", cwd=tmp_path, timeout_s=300.0
    )
    assert resumed.status == 0, resumed.errors
    assert read_summary(tmp_path / "run")["updates"] > before
