"""Ray itself dies under a run, or kills its processes because a machine's memory is full."""

import subprocess
import sys

import psutil
import pytest
from ray_runs import drive, private_ray
from runs import command, kill, read_metrics, title_of, wait_until
from team_runs import counting_config, started

from engines.on_redis.server import PrivateRedis
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
    smoke_options, tmp_path, program, said
):
    run = tmp_path / "run"
    often = ["--report-period-s", "0.3", "--checkpoint.period-s", "1"]
    words = [*smoke_options, *often, "--num-steps", "10000000", "--run-dir", run]
    with command("multitask.py", *words, cwd=tmp_path) as running:
        running.wait_for(
            lambda: (
                any(row.get("updates", 0) > 5 for row in read_metrics(run))
                and list_checkpoints(run / "checkpoints")
            ),
            timeout_s=240.0,
            what="it has learned and written a checkpoint",
        )
        student = run / "student.safetensors"
        student.unlink(missing_ok=True)
        (pid,) = (pid for pid in running.pids if f"/{program} " in f"{title_of(pid)} ")
        kill(pid)
        ended = running.wait(END_S)
        wait_until(lambda: not running.pids, timeout_s=60.0, what="no process is left")
    assert ended.status == 2, ended.errors
    (line,) = ended.errors.splitlines()
    assert f"its {said} has died" in line
    assert "--resume" in line
    assert student.exists(), "the newest weights are lost"
    assert "(raylet)" not in ended.output


HOARD = """
import sys, time
hoard = []
for _ in range(int(sys.argv[1])):
    hoard.append(bytearray(b"x") * (100 << 20))
    time.sleep(0.02)
time.sleep(1000)
"""
"""Takes 100 MiB at a time, as often as it is told, and keeps it."""


def test_a_machine_whose_memory_is_full_for_a_while_does_not_end_the_run(tmp_path, monkeypatch):
    """Ray kills one process after the other meanwhile; all of them come back."""
    memory = psutil.virtual_memory()
    room = 3 << 30
    if memory.available < 2 * room:
        pytest.skip("this machine has no memory to fill")
    threshold = (memory.total - memory.available + room) / memory.total
    monkeypatch.setenv("RAY_memory_usage_threshold", f"{threshold:.4f}")
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "250")
    notes = []
    config = counting_config(tmp_path, num_steps=10_000_000)
    with (
        private_ray(num_cpus=8),
        PrivateRedis() as redis,
        started(config, redis.url, name="full", notes=notes) as engine,
    ):
        drive(engine, lambda progress: progress.updates > 5)
        hoarder = subprocess.Popen([sys.executable, "-c", HOARD, str(room // (100 << 20) + 4)])
        try:
            drive(engine, lambda progress: any("memory monitor" in note for note in notes))
        finally:
            hoarder.kill()
            hoarder.wait()
        before = engine.progress().updates
        progress = drive(engine, lambda progress: progress.updates > before + 5)
    assert progress.faults["actor_restarts"] + progress.faults["learner_restarts"] > 0
    assert any("was killed by Ray's memory monitor" in note for note in notes)
