"""Runs from a program: the same settings, folders and refusals as on the command line."""

import json
from pathlib import Path

import pytest

from actor_mimic import GameEnv, Student, configure, evaluate, resume, train
from recipes.loading import load_config, load_preset

TINY = {
    "engine": "local",
    "num_steps": 400,
    "evaluation.check_teachers": 0,
    "evaluation.num_episodes": 1,
}


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_settings_mean_what_they_mean_on_the_command_line():
    words = ["--replay.batch-size", "64", "--games", "pong", "breakout", "--engine", "local"]
    expected = load_config(words, preset_text=load_preset("smoke"))
    games = ("pong", "breakout")
    nested = {"replay": {"batch_size": 64}, "games": games, "engine": "local"}
    dotted = {"replay.batch_size": 64, "games": list(games), "engine": "local"}
    assert configure("smoke", nested) == configure("smoke", dotted) == expected


@pytest.mark.parametrize(
    ("preset", "settings", "message"),
    [
        ("smokey", {}, "unknown preset 'smokey'"),
        ("smoke", {"replay.batchsize": 3}, "replay.batchsize"),
        ("smoke", {"num_steps": "many"}, "num-steps"),
        ("smoke", {"learner.learning_rate": -1}, "learner.learning_rate must be"),
        ("", {}, "games is missing"),
        ("smoke", {"help": True}, "--help is for commands"),
        ("smoke", {"games": ["-h"]}, "-h is for commands"),
        ("smoke", {"resume": "runs/a"}, "resume is not among"),
    ],
)
def test_what_cannot_be_used_is_a_value_error_of_one_line(preset, settings, message, capsys):
    with pytest.raises(ValueError, match=message) as refused:
        configure(preset, settings)
    assert "\n" not in str(refused.value)
    assert capsys.readouterr() == ("", "")


def test_a_run_is_carried_resumed_played_and_tested_in_silence(tmp_path, capsys):
    folder = tmp_path / "run"
    run = train(configure("smoke", {**TINY, "run_dir": str(folder)}), quiet=True)
    assert run.folder == folder
    assert run.summary == json.loads((folder / "summary.json").read_text())
    assert sum(run.summary["steps"].values()) >= 400
    further = resume(folder, {"num_steps": 700}, quiet=True)
    assert sum(further.summary["steps"].values()) >= 700
    assert capsys.readouterr().out == ""
    assert not (folder / "report.html").exists()

    env, student = GameEnv("boxing"), Student.load(tmp_path / "latest")
    assert student.games == run.student.games == ("pong", "boxing")
    observation, info = env.reset(seed=1)
    for _ in range(20):
        action = student.act(observation, "boxing")
        assert info["action_mask"][action] == 1
        observation, *_, info = env.step(action)

    (row,) = evaluate(tmp_path / "latest", games="pong", episodes=2, num_envs=2).values()
    assert (row["episodes"], row["protocol"]) == (2, "classic")
    assert -21 <= row["mean"] <= 21


def test_settings_that_may_not_differ_are_refused_before_anything_is_written(tmp_path):
    folder = tmp_path / "run"
    train(configure("smoke", {**TINY, "run_dir": str(folder)}), quiet=True)
    before = contents(folder)
    with pytest.raises(ValueError, match="games"):
        resume(folder, {"games": ["pong", "breakout"]}, quiet=True)
    with pytest.raises(ValueError, match="run_dir is not among"):
        resume(folder, {"run_dir": "elsewhere"}, quiet=True)
    assert contents(folder) == before
    (folder / "config.yaml").write_bytes(b"games: [")
    with pytest.raises(ValueError, match=r"config\.yaml is damaged"):
        resume(folder, quiet=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"episodes": 0}, "num_episodes must"),
        ({"num_envs": 0}, "num_envs must"),
        ({"epsilon": 1.5}, "epsilon must lie between 0 and 1"),
        ({"epsilon": float("nan")}, "epsilon must be a finite number"),
    ],
)
def test_a_test_that_cannot_be_played_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        evaluate("pong", **options)
