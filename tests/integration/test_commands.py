"""launch/multitask.py on Ray as a user starts it: to the end, and stopped by a scheduler."""

import os
import signal

import pytest
from runs import command, read_metrics, read_summary, wait_until

from learner.checkpoint import load_newest
from networks.student_file import load_student
from records.run_dir import RunDir
from records.summary import Summary

pytestmark = [pytest.mark.ray, pytest.mark.redis, pytest.mark.slow]

GAMES = ("pong", "boxing")


SOON_S = 45.0
"""Bound for what takes a few seconds on an idle machine: this one may be busy."""


@pytest.fixture(scope="module")
def smoke(smoke_options, tmp_path_factory):
    """The smoke preset, run to its end."""
    folder = tmp_path_factory.mktemp("smoke")
    words = [*smoke_options, "--report-at-end", "False", "--run-dir", "run"]
    with command("multitask.py", *words, cwd=folder) as running:
        running.wait_for(
            lambda: len(running.pids) >= 9, timeout_s=60.0, what="its processes are found"
        )
        finished = running.wait(240.0)
        # Nobody waits for them: they must have gone before the command itself.
        left = running.pids
    return folder / "run", finished, left


def test_a_run_on_ray_reaches_its_end(smoke):
    run, finished, _ = smoke
    assert (finished.status, finished.errors) == (0, "")
    summary = read_summary(run)
    Summary.model_validate(summary)
    assert (summary["preset"], summary["updates"]) == ("smoke", 94)  # 1,500 steps x 2 / 32
    assert not any(summary["faults"].values())
    for game in GAMES:
        assert summary["steps"][game] > 500
        assert summary["games"][game]["student"]["episodes"] == 1
        assert summary["games"][game]["teacher"]["mean"] == 3.0


def test_a_run_on_ray_leaves_no_process_behind(smoke):
    _, _, left = smoke
    assert left == []


def test_a_run_on_ray_leaves_metrics_checkpoint_and_student(smoke):
    run, finished, _ = smoke
    rows = read_metrics(run)
    looks = [row for row in rows if "game/pong/steps" in row]
    assert [row["updates"] for row in looks] == sorted(row["updates"] for row in looks)
    assert looks[-1]["updates"] == 94
    assert any(row.get("steps_per_second", 0) > 0 for row in looks)
    assert {game for row in rows for game in GAMES if f"test/{game}/mean" in row} == set(GAMES)
    state = load_newest(run / "checkpoints")
    assert state["learner"]["num_updates"] == 94
    assert state["steps"] == read_summary(run)["steps"]
    assert load_student(run / "student").games == GAMES
    assert "94/94 updates (100%)" in finished.output


def is_learning(run):
    return any(row["updates"] > 5 for row in read_metrics(run))


def test_ctrl_c_while_the_roles_start_is_no_error_either(quick_options, tmp_path):
    run = tmp_path / "run"
    with command("multitask.py", *quick_options, "--run-dir", run, cwd=tmp_path) as running:
        bound_s = 2 * SOON_S
        running.wait_for(lambda: len(running.pids) >= 7, timeout_s=bound_s, what="Ray is starting")
        running.interrupt()
        finished = running.wait(bound_s)
        wait_until(lambda: not running.pids, timeout_s=bound_s, what="no process is left")
    assert finished.status == 130
    assert "Traceback" not in finished.errors
    assert "Traceback" not in finished.output


def test_a_signal_to_every_process_of_a_job_ends_a_run_with_its_newest_weights(
    quick_options, tmp_path
):
    """What batch systems do; without Ray, Redis or replay the learner could not be asked."""
    run = tmp_path / "run"
    words = [*quick_options, "--num-steps", "1000000", "--report-period-s", "0.3"]
    with command("multitask.py", *words, "--run-dir", run, cwd=tmp_path) as running:
        running.wait_for(lambda: is_learning(run), timeout_s=120.0, what="it learns")
        learned = read_metrics(run)[-1]["updates"]
        # The launcher last, so that the others have had time to die of it.
        others = [pid for pid in running.pids if pid != running.process.pid]
        for number in (signal.SIGUSR1, signal.SIGTERM):
            for pid in others:
                os.kill(pid, number)
        os.kill(running.process.pid, signal.SIGTERM)
        finished = running.wait(SOON_S)
        wait_until(lambda: not running.pids, timeout_s=SOON_S, what="no process is left")
    assert finished.status == 130
    assert "no newer checkpoint" not in finished.output + finished.errors
    assert "interrupted" in finished.output
    summary = read_summary(run)
    Summary.model_validate(summary)
    state = load_newest(run / "checkpoints")
    assert state["learner"]["num_updates"] >= max(learned, summary["updates"]) > 5
    assert state["steps"] == summary["steps"]
    assert load_student(run / "student").games == GAMES
    assert RunDir.open_existing(run).preset == "smoke"
