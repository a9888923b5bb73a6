"""Games of numbers instead of images, in whole runs: CartPole, by an expert and its student."""

import json

import numpy as np
import pytest
from runs import read_summary, run_command

from actor_mimic import GameEnv, Student

GAME = "gym_cart_pole_v1"
# docs/games.md has the same commands.
EXPERT = (
    "--games", "gym:CartPole-v1", "--network.torso", "mlp", "--num-steps", "30000",
    "--actor.anneal-steps", "200", "--replay.min-size-per-game", "1000",
    "--replay.batch-size", "64", "--replay.samples-per-insert", "32",
    "--replay.samples-per-insert-cap", "64",
    "--dqn.target-period", "200", "--learner.learning-rate", "0.0005",
)  # fmt: skip
QUICK = (
    "--replay.min-size-per-game", "200", "--evaluation.num-episodes", "5",
    "--evaluation.check-teachers", "0", "--report-at-end", "False",
)  # fmt: skip
# A pole that is pushed at random falls after 22 steps.
RANDOM = 22.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An expert of CartPole, trained as the page about games says."""
    folder = tmp_path_factory.mktemp("vectors")
    options = (*EXPERT, "--evaluation.period-steps", "0", "--report-at-end", "False")
    finished = run_command("experts.py", *options, "--run-dir", "expert", cwd=folder, timeout_s=900)
    assert finished.status == 0, finished.errors
    return folder


@pytest.mark.slow
def test_an_expert_learns_to_balance(folder):
    card = json.loads((folder / "expert" / GAME / f"{GAME}.json").read_text())
    assert card["architecture"]["observation_shape"] == [4]
    assert card["scores"][0]["mean"] > 4 * RANDOM


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.parametrize("engine", ["local", "ray"])
def test_a_student_plays_as_well_as_its_expert(folder, engine):
    options = (
        "--games", "gym:CartPole-v1", "--teachers", f"{GAME}=expert/{GAME}/{GAME}.safetensors",
        "--network.torso", "mlp", "--num-steps", "10000", "--replay.batch-size", "64",
        "--replay.samples-per-insert", "16", "--replay.samples-per-insert-cap", "32",
        "--learner.learning-rate", "0.001", "--mimic.temperature", "0.3", "--engine", engine,
        "--run-dir", engine, *QUICK,
    )  # fmt: skip
    finished = run_command("multitask.py", *options, cwd=folder, timeout_s=900)
    assert finished.status == 0, finished.errors
    assert read_summary(folder / engine)["games"][GAME]["teacher_ratio"] > 0.6
    # The same in a loop of one's own, in Gymnasium's environment itself.
    student, env = Student.load(folder / engine), GameEnv("gym:CartPole-v1")
    observation, _ = env.reset(seed=1)
    ended, steps = False, 0
    while not ended:
        observation, _, terminated, truncated, _ = env.step(student.act(observation))
        ended, steps = terminated or truncated, steps + 1
    assert steps > 2 * RANDOM


@pytest.mark.slow
def test_an_expert_of_vectors_is_exported_and_filmed(folder, monkeypatch):
    pytest.importorskip("onnxruntime")
    # An expert by itself does not say where its game comes from.
    monkeypatch.setenv("ACTOR_MIMIC_GAMES", "gym:CartPole-v1")
    source = f"expert/{GAME}/{GAME}.safetensors"
    formats = ("--format", "safetensors", "torch-export", "onnx")
    exported = run_command("export.py", source, *formats, "--out", "out", cwd=folder, timeout_s=200)
    assert exported.status == 0, exported.errors
    card = json.loads((folder / "out" / "card.json").read_text())
    assert card["input"]["observations"]["dtype"] == "float32"
    assert card["input"]["observations"]["shape"] == ["batch", 4]
    film = ("play.py", source, "--out", "film.gif", "--steps", "20")
    played = run_command(*film, cwd=folder, timeout_s=200)
    assert played.status == 0, played.errors
    assert (folder / "film.gif").stat().st_size > 1000


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["dqn", "joint", "actor_critic"])
@pytest.mark.parametrize("compression", ["none", "lz4"])
def test_every_objective_learns_from_vectors(folder, objective, compression):
    taught = () if objective == "dqn" else ("--teachers", f"expert/{GAME}/{GAME}.safetensors")
    name = f"{objective}_{compression}"
    options = (
        "--games", "gym:CartPole-v1@stack=2" if objective == "dqn" else "gym:CartPole-v1",
        "--network.torso", "mlp", "--objective", objective, *taught, "--num-steps", "2000",
        "--replay.compression", compression, "--engine", "local", *QUICK, "--run-dir", name,
    )  # fmt: skip
    finished = run_command("multitask.py", *options, cwd=folder, timeout_s=300)
    assert finished.status == 0, finished.errors
    lines = (folder / name / "metrics.jsonl").read_text().splitlines()
    losses = [x for row in map(json.loads, lines) for key, x in row.items() if "loss" in key]
    assert losses
    assert np.isfinite(losses).all()
