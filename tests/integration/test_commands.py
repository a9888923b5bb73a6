"""launch/multitask.py on Ray as a user starts it: to the end, resumed, interrupted, killed."""

import contextlib
import json
import os
import re
import signal
import time

import pytest
import torch
from runs import (
    command,
    kill,
    read_metrics,
    read_summary,
    title_of,
    wait_until,
)

from engines.local.engine import LocalEngine
from learner.checkpoint import list_checkpoints, load_newest
from networks.student_file import load_student
from networks.weights import WeightsVersion
from recipes.loading import load_config
from recipes.recipe import Recipe
from records.run_dir import RunDir
from records.summary import Summary

pytestmark = [pytest.mark.ray, pytest.mark.redis, pytest.mark.slow]

GAMES = ("pong", "boxing")


SOON_S = 45.0
"""Bound for what takes a few seconds on an idle machine: this one may be busy."""


@contextlib.contextmanager
def gone_within(running, seconds, *, but=()):
    """The command's processes must all be gone in so many seconds from the block's beginning."""
    deadline = time.monotonic() + seconds
    yield

    def left():
        return [pid for pid in running.pids if title_of(pid) not in ("", *but)]

    remaining_s = deadline - time.monotonic()
    wait_until(lambda: not left(), timeout_s=remaining_s, what="all its processes are gone")


@pytest.fixture(scope="module")
def smoke(smoke_options, tmp_path_factory):
    """The smoke preset, run to its end."""
    folder = tmp_path_factory.mktemp("smoke")
    with command("multitask.py", *smoke_options, "--run-dir", "run", cwd=folder) as running:
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


def test_a_finished_run_is_resumed_with_more_steps_and_other_actors(smoke, smoke_options, tmp_path):
    run, _, _ = smoke
    before, state = read_summary(run), load_newest(run / "checkpoints")
    num_rows = len(read_metrics(run))
    words = ["--resume", run, "--num-steps", "2500", "--actors", "1", "pong=2"]
    words += ["--evaluation.period-steps", "0", "--evaluation.num-episodes", "1"]
    with command("multitask.py", *words, cwd=tmp_path) as running:
        finished = running.wait(240.0)
        assert running.pids == []
    assert (finished.status, finished.errors) == (0, "")
    summary = read_summary(run)
    Summary.model_validate(summary)
    assert summary["updates"] == 157  # 2,500 x 2 / 32
    assert summary["preset"] == "smoke"
    assert summary["wall_seconds"] > before["wall_seconds"]
    assert all(summary["steps"][game] > before["steps"][game] for game in GAMES)
    rows = read_metrics(run)[num_rows:]
    looks = [row for row in rows if "game/pong/steps" in row]
    assert all(94 <= row["updates"] <= 157 or row["updates"] == 0 for row in looks)
    assert looks[-1]["game/pong/actors"] == 2
    assert looks[-1]["game/boxing/actors"] == 1
    resumed = load_newest(run / "checkpoints")
    assert resumed["learner"]["num_updates"] == 157
    assert resumed["learner"]["incarnation"] == state["learner"]["incarnation"] + 1
    assert resumed["next_serial"] >= state["next_serial"] + 3
    assert WeightsVersion(resumed["learner"]["incarnation"], 157) > WeightsVersion(0, 94)


def is_learning(run):
    return any(row["updates"] > 5 for row in read_metrics(run))


def test_ctrl_c_leaves_a_checkpoint_and_a_summary_and_no_process(smoke_options, tmp_path):
    run = tmp_path / "run"
    words = [*smoke_options, "--num-steps", "1000000", "--run-dir", run]
    with command("multitask.py", *words, cwd=tmp_path) as running:
        running.wait_for(lambda: is_learning(run), timeout_s=120.0, what="it learns")
        assert len(running.pids) >= 9
        with gone_within(running, SOON_S):
            running.interrupt()
            finished = running.wait(SOON_S)
    assert finished.status == 130
    assert finished.errors == ""
    assert "interrupted" in finished.output
    summary = read_summary(run)
    Summary.model_validate(summary)
    state = load_newest(run / "checkpoints")
    assert state["learner"]["num_updates"] >= summary["updates"] > 5
    assert state["steps"] == summary["steps"]
    assert load_student(run / "student").games == GAMES
    assert RunDir.open_existing(run).preset == "smoke"


def test_ctrl_c_while_the_roles_start_is_no_error_either(smoke_options, tmp_path):
    run = tmp_path / "run"
    with command("multitask.py", *smoke_options, "--run-dir", run, cwd=tmp_path) as running:
        bound_s = 2 * SOON_S
        running.wait_for(lambda: len(running.pids) >= 7, timeout_s=bound_s, what="Ray is starting")
        with gone_within(running, bound_s):
            running.interrupt()
            finished = running.wait(bound_s)
    assert finished.status == 130
    assert "Traceback" not in finished.errors
    assert "Traceback" not in finished.output


def test_a_launcher_that_is_killed_takes_everything_along_and_can_be_resumed(
    smoke_options, tmp_path
):
    run = tmp_path / "run"
    checkpoints = run / "checkpoints"
    words = [*smoke_options, "--num-steps", "1000000", "--checkpoint.period-s", "0.5"]
    with command("multitask.py", *words, "--run-dir", run, cwd=tmp_path) as running:
        running.wait_for(
            lambda: any("_000000000000" not in path.name for path in list_checkpoints(checkpoints)),
            timeout_s=120.0,
            what="it has learned and written a checkpoint",
        )
        # These two try for a minute to report that their Ray has gone.
        agents = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")
        with gone_within(running, SOON_S, but=agents):
            kill(running.process.pid)
    assert not (run / "summary.json").exists()
    state = load_newest(checkpoints)
    folder = RunDir.open_existing(run)
    config = load_config([], preset_text=folder.config_path.read_text())
    with folder.locked():
        engine = LocalEngine(Recipe(config), device=torch.device("cpu"), state=state)
        progress = engine.progress()
        engine.close()
    assert progress.updates == state["learner"]["num_updates"] > 0
    assert progress.steps == sum(state["steps"].values())


def test_a_signal_to_every_process_of_a_job_ends_a_run_with_its_newest_weights(
    smoke_options, tmp_path
):
    """What batch systems do; without Ray, Redis or replay the learner could not be asked."""
    run = tmp_path / "run"
    words = [*smoke_options, "--num-steps", "1000000", "--report-period-s", "0.3"]
    with command("multitask.py", *words, "--run-dir", run, cwd=tmp_path) as running:
        running.wait_for(lambda: is_learning(run), timeout_s=120.0, what="it learns")
        learned = read_metrics(run)[-1]["updates"]
        with gone_within(running, SOON_S):
            # The launcher last, so that the others have had time to die of it.
            others = [pid for pid in running.pids if pid != running.process.pid]
            for number in (signal.SIGUSR1, signal.SIGTERM):
                for pid in others:
                    os.kill(pid, number)
            os.kill(running.process.pid, signal.SIGTERM)
            finished = running.wait(SOON_S)
    assert finished.status == 130
    assert "no newer checkpoint" not in finished.output + finished.errors
    Summary.model_validate(read_summary(run))
    assert load_newest(run / "checkpoints")["learner"]["num_updates"] >= learned > 0


def test_training_that_diverges_on_ray_is_one_clear_line(smoke_options, tmp_path):
    words = [*smoke_options, "--learner.learning-rate", "1e30", "--run-dir", "run"]
    with command("multitask.py", *words, cwd=tmp_path) as running:
        finished = running.wait(120.0)
        assert running.pids == []
    assert finished.status == 2
    (line,) = finished.errors.splitlines()
    assert re.match(r"error: .*diverged.*learning.rate", line)
    assert not list_checkpoints(tmp_path / "run" / "checkpoints")


def test_nothing_secret_is_written_into_a_run(smoke):
    run, _, _ = smoke
    meta = json.loads((run / "meta.json").read_text())
    assert os.environ["PATH"] not in json.dumps(meta)
