"""`chaos.py` beside a run of the real command: every role dies by SIGKILL, the launcher first.

One run in two sessions. What is lost is bounded and told, and the run ends with all of its steps.
"""

import json
import math
import os
import sys

import pytest
from runs import command, read_metrics, read_summary, run_command, wait_until

from learner.checkpoint import load_newest
from records.summary import Summary

pytestmark = [
    pytest.mark.ray,
    pytest.mark.redis,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="told apart on Linux only"),
]

KILLING_S = 120.0
"""More than all the kills take, on a fast machine and on a slow one."""
STEPS_PER_UPDATE = 32 // 2
"""Of the smoke preset: batch size over samples per insert."""
RECOVERY_S = 30.0
PATIENCE_S = 240.0
OFTEN = ("--report-period-s", "0.3", "--checkpoint.period-s", "1")
OFTEN += ("--replay.snapshot-period-s", "1")


def is_learning(run, *, after=0):
    return any(row.get("updates", 0) > 5 for row in read_metrics(run)[after:])


def num_steps_for_kills(run, state):
    """So many that the run, at the pace it has had, does not end before it has been hit."""
    learning = [row for row in read_metrics(run) if row.get("updates", 0) > 0]
    played = learning[-1]["steps"] - learning[0]["steps"]
    rate = played / (learning[-1]["seconds"] - learning[0]["seconds"])
    more_updates = math.ceil(KILLING_S * rate / STEPS_PER_UPDATE)
    return STEPS_PER_UPDATE * (state["learner"]["num_updates"] + more_updates)


def kill_roles(run, *roles, cwd):
    words = ["--roles", *roles, "--yes", "--json", "--timeout-s", "120"]
    finished = run_command("chaos.py", run, *words, cwd=cwd, timeout_s=PATIENCE_S)
    assert finished.status == 0, finished.errors
    return json.loads(finished.output)["kills"]  # Nothing else is on standard output.


@pytest.fixture(scope="module")
def killed(quick_options, tmp_path_factory):
    """A run whose launcher was killed: (its folder, what chaos.py said)."""
    folder = tmp_path_factory.mktemp("chaos")
    run = folder / "run"
    words = [*quick_options, *OFTEN, "--num-steps", "10000000", "--run-dir", run]
    with command("multitask.py", *words, cwd=folder) as running:
        running.wait_for(
            lambda: (
                is_learning(run)
                and any((run / "checkpoints").glob("*"))
                and load_newest(run / "checkpoints")["learner"]["num_updates"] > 0
            ),
            timeout_s=PATIENCE_S,
            what="it has learned and written a checkpoint",
        )
        kills = kill_roles(run, "coordinator", cwd=folder)
        assert running.wait(30.0).status == -9
        # chaos.py looks at the roles; Ray's own processes and Redis must go as well.
        wait_until(lambda: not running.pids, timeout_s=60.0, what="no process is left")
    return run, kills


@pytest.fixture(scope="module")
def finished(killed):
    """The same run after a session in which everything else was killed.

    (its folder, kills, the state that it began from, the steps it was to come to)
    """
    run, _ = killed
    state, num_rows = load_newest(run / "checkpoints"), len(read_metrics(run))
    num_steps = num_steps_for_kills(run, state)
    words = ["--resume", run, "--num-steps", num_steps, "--actors", "1", "pong=2"]
    words += ["--replay.num-shards", "2"]
    with command("multitask.py", *map(str, words), cwd=run.parent) as running:
        running.wait_for(
            lambda: is_learning(run, after=num_rows), timeout_s=PATIENCE_S, what="it goes on"
        )
        kills = kill_roles(run, "actor", "shard", "learner", "redis", cwd=run.parent)
        answer = running.wait(PATIENCE_S)
        wait_until(lambda: not running.pids, timeout_s=60.0, what="no process is left")
    assert answer.status == 0, answer.errors
    assert "Traceback" not in answer.errors
    return run, kills, state, num_steps


def test_a_launcher_that_is_killed_leaves_nothing_behind(killed):
    _, (kill,) = killed
    assert kill["role"] == "coordinator"
    assert kill["recovery_s"] < RECOVERY_S


def test_every_role_is_back_within_half_a_minute(finished):
    _, kills, _, _ = finished
    assert [kill["role"] for kill in kills] == ["actor", "shard", "learner", "redis"]
    assert {
        kill["killed"]: kill["recovery_s"] for kill in kills if kill["recovery_s"] is None
    } == {}
    late = {k["killed"]: k["recovery_s"] for k in kills if k["recovery_s"] > RECOVERY_S}
    assert not late


def test_the_run_ends_with_all_of_its_steps(finished):
    run, _, before, num_steps = finished
    summary = read_summary(run)
    Summary.model_validate(summary)
    assert summary["updates"] == num_steps // STEPS_PER_UPDATE
    # Replay's band decides how far the actors are ahead of the learner, or behind.
    assert sum(summary["steps"].values()) >= num_steps - 256
    assert all(summary["steps"][game] > before["steps"][game] for game in before["steps"])
    state = load_newest(run / "checkpoints")
    assert state["learner"]["num_updates"] == summary["updates"]
    assert state["learner"]["incarnation"] == before["learner"]["incarnation"] + 2


def test_what_was_lost_is_bounded_and_told(finished):
    run, kills, _, _ = finished
    faults = read_summary(run)["faults"]
    restarts = {name: n for name, n in faults.items() if name.endswith("restarts")}
    once = ("actor_restarts", "shard_restarts", "learner_restarts", "redis_restarts")
    assert {name: n for name, n in restarts.items() if n} == dict.fromkeys(once, 1)
    assert "redis restarted" in (run / "events.jsonl").read_text()
    assert faults["redis_reconnects"] > 0
    # Of three actors that feed two shards, at most two feed the one that died; four chunks each.
    assert faults["chunks_lost"] <= 2 * 4
    assert faults["transitions_lost"] <= 2_000, "more than a shard holds of its games"
    told = {kind: sum(kill["lost"][kind] for kill in kills) for kind in kills[0]["lost"]}
    assert all(told[kind] <= faults[kind] for kind in told)


def test_a_run_that_has_ended_is_refused(finished, tmp_path):
    run, _, _, _ = finished
    assert not os.path.lexists(run / "redis_url")
    refused = run_command("chaos.py", run, "--yes", cwd=tmp_path)
    assert refused.status == 2
    (line,) = refused.errors.splitlines()
    assert "is not going on" in line
