"""The soak of a whole run: what grows is found, and so is what is left; then the command itself."""

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from runs import clean_environment, wait_until

from benchmarks.processes import Family, abandoned_shared_files, shared_files
from benchmarks.soak.ending import Ending, look_at_the_end
from benchmarks.soak.judge import (
    MIN_READINGS,
    increase,
    judge,
    pace,
    warm_up_end,
)
from benchmarks.soak.readings import Reader
from benchmarks.soak.reporting import build_report, format_report

ROOT = Path(__file__).parents[2]
MIB = 1 << 20
STEADY = {
    "memory/actors": 500.0 * MIB,
    "descriptors/actors": 90.0,
    "threads/actors": 60.0,
    "processes/actors": 3.0,
    "redis_keys": 6.0,
    "redis_memory": 4.0 * MIB,
    "redis_clients": 6.0,
    "object_store": 3.0 * MIB,
    "run_files": 13.0,
}
ENDED_WELL = Ending(status=130, seconds=5.0)


def steady_readings(count=100, every_s=15.0):
    """Half an hour in which everything varies a little and nothing grows."""
    return [
        {
            "seconds": every_s * n,
            **{name: value * (1 + 0.001 * (n % 7)) for name, value in STEADY.items()},
            "steps": 900.0 * every_s * n,
            "stale_priorities": 3.0 * n,
            "restarts": 0.0,
            "replay_fill": 1.0,
        }
        for n in range(count)
    ]


def changed(name, change):
    """Steady readings with one value changed by a function of its number and the value."""
    readings = steady_readings()
    return [{**r, name: change(n, r[name])} for n, r in enumerate(readings)]


def grown(readings):
    return [name for name, verdict in judge(readings).items() if not verdict.passed]


def report_of(readings, ending=ENDED_WELL):
    settings = {"minutes": 30.0, "warm_up_s": 120.0}
    return build_report(readings, ending, settings=settings, load_before=0.1)


def test_a_steady_run_passes():
    report = report_of(steady_readings())
    assert report["passed"]
    assert report["grew"] == []
    assert report["stale_priorities"] == 297
    assert report["steps_per_second"] == pytest.approx(900)
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert format_report(report).splitlines()[-1] == "passed"


@pytest.mark.parametrize("name", STEADY)
def test_what_grows_slowly_and_steadily_is_found(name):
    allowed = judge(steady_readings())[name].allowed
    # As much again as is allowed, over the whole time.
    leaking = changed(name, lambda n, value: value + 2 * allowed * n / 100)
    assert grown(leaking) == [name]
    report = report_of(leaking)
    assert not report["passed"]
    assert "GREW" in format_report(report)
    assert format_report(report).splitlines()[-1].startswith(f"FAILED: {name}, series")


def test_restarts_and_a_pace_that_drops_fail():
    restarted = changed("restarts", lambda n, x: float(n > 33))
    assert report_of(restarted)["checks"]["restarts"] is False
    in_the_warm_up = changed("restarts", lambda n, x: 1.0)
    assert report_of(in_the_warm_up)["checks"]["restarts"] is False
    unread = [{k: v for k, v in r.items() if k != "restarts"} for r in steady_readings()]
    assert report_of(unread)["checks"]["restarts"] is False
    assert "None restarts" in format_report(report_of(unread))
    slower = changed("steps", lambda n, x: min(x, 900.0 * 15 * 80 + 1350.0 * (n - 80)))
    assert pace(slower) == pytest.approx(0.1, rel=0.02)
    assert not report_of(slower)["passed"]
    assert pace(changed("steps", lambda n, x: 7.0)) == 0
    assert increase([], "steps") == 0


def filling(full_s, *, saved_s=None, checkpoint_s=None, seconds=300):
    return [
        {
            "seconds": float(s),
            "replay_fill": min(1.0, s / full_s),
            "snapshot_bytes": float(saved_s is not None and s >= saved_s),
            "checkpoints": float(checkpoint_s is not None and s >= checkpoint_s),
        }
        for s in range(0, seconds, 5)
    ]


def test_the_warm_up_ends_a_tenth_after_replay_is_full_and_saved():
    assert warm_up_end(filling(100), seconds=300) == pytest.approx(100 + 30)
    assert warm_up_end(filling(100, saved_s=140), seconds=300) == pytest.approx(140 + 30)
    assert warm_up_end(filling(100, saved_s=30), seconds=300) == pytest.approx(100 + 30)
    late = filling(100, saved_s=30, checkpoint_s=145)
    assert warm_up_end(late, seconds=300) == pytest.approx(145 + 30)
    # One that comes in the second half of the soak is growth like any other.
    assert warm_up_end(filling(100, saved_s=200), seconds=300) == pytest.approx(100 + 30)


LEAK = """
import threading, time
kept = []
print("ready", flush=True)
while True:
    kept += [bytearray(1 << 20), open("/dev/null")]
    kept[-2][::4096] = b"x" * 256
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    time.sleep(0.04)
"""


@contextmanager
def family_of(code, tmp_path, **popen):
    """A launcher that runs this code, with the mark of the soak."""
    name, value = "ACTOR_MIMIC_SOAK", str(tmp_path)
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, name: value},
        stdout=subprocess.PIPE,
        start_new_session=True,
        **popen,
    )
    family = Family(process.pid, (name, value))
    try:
        assert process.stdout.readline() == b"ready\n"
        yield process, family
    finally:
        process.kill()
        for left in family.living():
            with suppress(psutil.Error):
                left.kill()
        process.wait(10)
        process.stdout.close()


def test_a_process_that_really_leaks_is_found(tmp_path):
    with family_of(LEAK, tmp_path) as (_, family):
        reader = Reader(family, run_path=tmp_path / "run", scratch=tmp_path, environment={})
        readings = []
        for _ in range(30):
            readings.append(reader.read())
            time.sleep(0.03)
        reader.close()
    assert {"memory/launcher", "descriptors/launcher", "threads/launcher"} <= set(grown(readings))
    assert readings[-1]["processes/all"] == 1


# Its child asks for a session of its own, ignores Ctrl-C and keeps a port.
LEAVES_EVERYTHING = """
import os, signal, socket, subprocess, sys, time
from pathlib import Path
child = subprocess.Popen(
    [sys.executable, "-c", '''
import signal, socket, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
listening = socket.create_server(("127.0.0.1", 0))
print("ready", flush=True)
time.sleep(60)
'''], start_new_session=True)
Path(os.environ["ACTOR_MIMIC_SOAK"], "core").touch()
Path("/dev/shm", "soak-test-" + str(os.getpid())).touch()
try:
    time.sleep(60)
except KeyboardInterrupt:
    sys.exit(3)
"""


def test_everything_that_is_left_is_found(tmp_path):
    before = shared_files()
    (tmp_path / "ray").mkdir()
    run = tmp_path / "run-elsewhere"
    run.mkdir()
    (run / "redis_url").touch()
    with family_of(LEAVES_EVERYTHING, tmp_path) as (process, family):
        name = f"soak-test-{process.pid}"
        wait_until(lambda: name in shared_files(), timeout_s=10, what="the file is there")
        family.read()
        ending = look_at_the_end(
            process,
            family,
            run=run,
            scratch=tmp_path,
            shared_before=before,
            timeout_s=10.0,
            afterwards_s=0.3,
        )
    (Path("/dev/shm") / name).unlink()
    assert ending.status == 3
    assert len(ending.processes) == 1
    assert ending.shared_files == [name]
    assert ending.temporary_files == ["core", "run-elsewhere"]
    assert ending.secrets == ["redis_url"]
    assert "summary.json" in ending.missing_files
    assert ending.judge() == {
        "status": False,
        "seconds": True,
        "processes": False,
        "shared_files": False,
        "temporary_files": False,
        "missing_files": False,
        "secrets": False,
    }
    report = report_of(steady_readings(), ending)
    assert not report["passed"]
    assert "shared_files: " + name in format_report(report)


def test_shared_memory_that_somebody_uses_is_not_left_behind():
    before = shared_files()
    path = Path("/dev/shm") / f"soak-test-used-{os.getpid()}"
    try:
        with path.open("w"):
            assert path.name in shared_files()
            assert path.name not in abandoned_shared_files(before)
        assert path.name in abandoned_shared_files(before)
    finally:
        path.unlink()


def soak(tmp_path, *words):
    return subprocess.run(
        [sys.executable, "launch/bench.py", "soak", "--output", str(tmp_path / "out"), *words],
        cwd=ROOT,
        env=clean_environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=240,
    )


@pytest.mark.ray
@pytest.mark.soak
def test_a_real_run_is_watched_and_stopped(tmp_path):
    run = ["--preset", "smoke", "--games", "pong", "--replay.capacity-per-game", "600"]
    more = ["--replay.snapshot-period-s", "3", "--evaluation.check-teachers", "0"]
    more += ["--checkpoint.period-s", "4"]
    done = soak(tmp_path, "--minutes", "0.33", "--", *run, *more)
    assert done.stdout, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == (0 if report["passed"] else 1)
    assert report["end"]["status"] == 130
    assert {name: ok for name, ok in report["checks"].items() if name.startswith("end_")} == {
        f"end_{name}": True for name in Ending(status=130).judge()
    }
    # Memory is left out: ten seconds are no measure for it.
    series = report["series"]
    for name in ("descriptors/all", "threads/all", "redis_keys", "object_store", "run_files"):
        assert series[name]["passed"], series[name]
    assert {"memory/learner", "memory/shards", "memory/redis", "memory/launcher"} <= set(series)
    assert series["memory/actors"]["first"] > 10 * MIB
    assert series["object_store"]["first"] >= 0
    assert report["steps"] > 0
    assert report["restarts"] == 0
    assert report["readings"] >= MIN_READINGS
    lines = (tmp_path / "out" / "series.csv").read_text().splitlines()
    assert len(lines) > report["readings"]
    assert json.loads((tmp_path / "out" / "verdict.json").read_text()) == report
