"""Ray itself dies under a run: its node manager, or its control store."""

import sys

import pytest
from runs import command, kill, read_metrics, title_of, wait_until

from learner.checkpoint import list_checkpoints

pytestmark = [
    pytest.mark.ray,
    pytest.mark.redis,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc"),
]

END_S = 60.0
"""A bound for what takes a few seconds on an idle machine."""


@pytest.mark.parametrize(
    ("program", "said"),
    [("raylet", "node manager (raylet)"), ("gcs_server", "control store (gcs_server)")],
)
def test_a_ray_that_dies_is_named_and_what_is_known_is_saved(
    quick_options, tmp_path, program, said
):
    run = tmp_path / "run"
    often = ["--report-period-s", "0.3", "--checkpoint.period-s", "1"]
    words = [*quick_options, *often, "--num-steps", "10000000", "--run-dir", run]
    with command("multitask.py", *words, cwd=tmp_path) as running:
        running.wait_for(
            lambda: (
                any(row.get("updates", 0) > 5 for row in read_metrics(run))
                and list_checkpoints(run / "checkpoints")
            ),
            timeout_s=240.0,
            what="it has learned and written a checkpoint",
        )
        student = run / "student" / "weights.safetensors"
        student.unlink(missing_ok=True)
        (pid,) = (pid for pid in running.pids if f"/{program} " in f"{title_of(pid)} ")
        kill(pid)
        ended = running.wait(END_S)
        wait_until(lambda: not running.pids, timeout_s=60.0, what="no process is left")
    assert ended.status == 2, ended.errors
    # Ray's own libraries may have a word of their own, but the run ends with one line.
    assert "Traceback" not in ended.errors
    (line,) = (line for line in ended.errors.splitlines() if line.startswith("error: "))
    assert f"its {said} has died" in line
    assert "--resume" in line
    assert student.exists(), "the newest weights are lost"
    assert "(raylet)" not in ended.output
