"""The programs in examples/ and docs/api.md do what they say, in processes of their own."""

import re
import subprocess
import sys

import pytest
from foreign_layouts import random_layers, write_sb3_of_2021
from runs import ROOT, clean_environment

from actor_mimic import configure, train
from games.registry import get_game
from records.run_record import read_config

EXAMPLES = ROOT / "examples"


def run(*words: object, cwd) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=cwd,
        env=clean_environment(cwd),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of the smoke preset, shortened."""
    settings = {
        "engine": "local",
        "num_steps": 300,
        "evaluation.check_teachers": 0,
        "run_dir": str(tmp_path_factory.mktemp("runs") / "run"),
    }
    return train(configure("smoke", settings), quiet=True)


def test_play(trained, tmp_path):
    expert = run(EXAMPLES / "play.py", "pong", cwd=tmp_path)
    score, steps = re.fullmatch(r"pong: (-?\d+) in (\d+) steps\n", expert).groups()
    # The expert's mean is 16; it has never been seen to lose.
    assert int(score) > 0
    assert int(steps) > 500
    student = run(EXAMPLES / "play.py", "pong", trained.folder, cwd=tmp_path)
    assert re.fullmatch(r"pong: -?\d+ in \d+ steps\n", student)


def test_distil_checkpoints(tmp_path):
    words = []
    for game in ("pong", "boxing"):
        path = tmp_path / f"{game}.zip"
        write_sb3_of_2021(path, random_layers(len(get_game(game).legal_actions)), kind="dqn")
        words.append(f"{game}={path}")
    said = run(EXAMPLES / "distil_checkpoints.py", tmp_path / "out", 3_000, 1, *words, cwd=tmp_path)
    assert len(re.findall(r"^(pong|boxing): -?\d+\.\d \+- \d+\.\d$", said, re.MULTILINE)) == 2
    assert (tmp_path / "out/run/summary.json").is_file()


def test_the_loop_of_the_docs(trained, tmp_path):
    text = (ROOT / "docs/api.md").read_text()
    program = re.search(r"## Play\n\n```python\n(.*?)```", text, re.DOTALL)[1]
    program = program.replace("runs/latest", str(trained.folder.parent / "latest"))
    assert "score" in program
    path = tmp_path / "loop.py"
    path.write_text(program + "print(score)\n")
    assert re.fullmatch(r"-?\d+\.0\n", run(path, cwd=tmp_path))


@pytest.mark.slow
def test_sweep_goes_on_with_the_run_that_was_under_way(tmp_path):
    optuna = pytest.importorskip("optuna")
    command = (EXAMPLES / "sweep.py", tmp_path / "out")
    options = (
        "smoke", "num_steps=300", "engine=local", "games=pong", "evaluation.check_teachers=0",
        "evaluation.num_episodes=1",
    )  # fmt: skip
    run(*command, 1, *options, cwd=tmp_path)
    # As a call leaves it that is stopped in its second trial.
    study = optuna.load_study(
        study_name="sweep", storage=f"sqlite:///{tmp_path / 'out' / 'sweep.db'}"
    )
    stopped = study.ask()
    stopped.suggest_float("learner.learning_rate", 1e-4, 3e-3, log=True)
    stopped.suggest_float("mimic.temperature", 0.01, 1.0, log=True)
    stopped.set_user_attr("folder", "stopped")
    said = run(*command, 2, *options, cwd=tmp_path)
    assert re.findall(r"^(\w+): -?\d+\.\d+ with learner", said, re.MULTILINE) == [
        "trial_0",
        "stopped",
    ]
    written = read_config(tmp_path / "out" / "stopped" / "config.yaml")
    assert written["mimic"]["temperature"] == pytest.approx(stopped.params["mimic.temperature"])
    # Enough trials are there: nothing is trained.
    assert run(*command, 2, *options, cwd=tmp_path) == said


def test_sweep_says_how_it_is_called(tmp_path):
    pytest.importorskip("optuna")
    for words in ((), ("out", "0"), ("out", "many")):
        ended = subprocess.run(
            [sys.executable, str(EXAMPLES / "sweep.py"), *words],
            cwd=tmp_path, env=clean_environment(tmp_path), capture_output=True, text=True,
        )  # fmt: skip
        assert (ended.returncode, len(ended.stderr.splitlines())) == (1, 1), ended.stderr
        assert "OUT TRIALS" in ended.stderr
    assert not (tmp_path / "out").exists()
