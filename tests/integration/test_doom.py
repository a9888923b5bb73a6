"""A student of two scenarios of Doom from two experts that were trained with this project."""

from pathlib import Path

import pytest
from runs import read_summary, run_command

EXPERTS = Path(__file__).parent / "golden"
GAMES = ("doom_defend_the_center_size42", "doom_defend_the_line_size42")
OPTIONS = (
    "--games", *GAMES, "--teachers", f"{EXPERTS}/{{game}}.safetensors", "--num-steps", "12000",
    "--network.torso", "nature_quarter", "--actor.num-envs", "8", "--device", "cpu",
    "--replay.min-size-per-game", "500", "--replay.batch-size", "64",
    "--replay.samples-per-insert", "16", "--replay.samples-per-insert-cap", "32",
    "--learner.learning-rate", "0.001", "--evaluation.num-episodes", "10",
    "--evaluation.check-teachers", "0", "--report-at-end", "False", "--run-dir", "run",
)  # fmt: skip


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("engine", ["ray", "local"])
def test_a_student_of_two_scenarios_learns_from_their_experts(tmp_path, engine):
    pytest.importorskip("vizdoom")
    options = (*OPTIONS, "--engine", engine)
    finished = run_command("multitask.py", *options, cwd=tmp_path, timeout_s=900.0)
    assert finished.status == 0, finished.errors
    games = read_summary(tmp_path / "run")["games"]
    for game in GAMES:
        # Half of the way from random play to the expert; a student that has learned nothing has
        # none of it.
        assert games[game]["teacher_normalized"] > 0.5, game
    left = {path.name for path in tmp_path.iterdir()}
    assert left <= {"run", "latest"}, "the engine has left files where it was started"
