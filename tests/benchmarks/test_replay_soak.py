"""The soak of replay: what passes, what fails, and the command."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.soak.replay import build_result

SECONDS = 600.0


def reading(second, **changed):
    memcpy = changed.get("memcpy_bytes_per_second", 4e9)
    rates = {
        name: changed.get(name, value)
        for name, value in (("inserts_per_second", 50_000.0), ("samples_per_second", 60_000.0))
    }
    return {
        "seconds": second,
        "memcpy_bytes_per_second": memcpy,
        "insert_pace": rates["inserts_per_second"] / memcpy,
        "sample_pace": rates["samples_per_second"] / memcpy,
        "memory/shard": 1e9,
        "descriptors/shard": 40.0,
        "threads/shard": 90.0,
        **rates,
        **changed,
    }


def steady_readings(change=lambda second: {}):
    return [reading(float(s), **change(s)) for s in range(5, 601, 5)]


def result_of(readings, seconds=SECONDS):
    return build_result(readings, seconds=seconds, bytes_per_sample=30_000.0, settings={})


def failures(readings, seconds=SECONDS):
    result = result_of(readings, seconds)
    failed = [name for name, passed in result.further["checks"].items() if not passed]
    assert result.further["passed"] == (not failed)
    return failed


def test_a_steady_shard_passes_and_its_ratio_is_that_to_memcpy():
    result = result_of(steady_readings())
    assert result.further["passed"]
    assert result.ratio == pytest.approx(60_000 * 30_000 / 4e9)
    assert result.table.endswith("passed\n")


def test_memory_that_grows_slowly_but_steadily_fails():
    # 50 kB a second from second 60 to second 600.
    assert failures(steady_readings(lambda s: {"memory/shard": 1e9 + 5e4 * s})) == ["memory/shard"]


@pytest.mark.parametrize("name", ["descriptors/shard", "threads/shard"])
def test_descriptors_and_threads_must_not_pile_up(name):
    start = reading(0.0)[name]
    assert failures(steady_readings(lambda s: {name: start + s // 60})) == [name]


@pytest.mark.parametrize(
    ("name", "pace"),
    [("inserts_per_second", "insert_pace"), ("samples_per_second", "sample_pace")],
)
def test_a_replay_that_becomes_slower_fails(name, pace):
    usual = reading(0.0)[name]
    slower = steady_readings(lambda s: {name: usual * (0.89 if s > 450 else 1.0)})
    assert failures(slower) == [pace]


def test_a_machine_that_becomes_slower_is_not_held_against_replay():
    halved = {
        "inserts_per_second": 25_000.0,
        "samples_per_second": 30_000.0,
        "memcpy_bytes_per_second": 2e9,
    }
    assert failures(steady_readings(lambda s: halved if s > 300 else {})) == []


@pytest.mark.ray
@pytest.mark.soak
def test_twenty_seconds_of_replay_at_full_rate_leave_the_shard_as_it_was():
    command = [sys.executable, "launch/bench.py", "replay-soak", "--preset", "smoke"]
    options = ["--games", "pong", "--num-envs", "8", "--seconds", "20"]
    done = subprocess.run(
        [*command, *options],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=300,
    )
    report = json.loads(done.stdout.splitlines()[-1])
    # The pace is left out: on a machine that does other things, twenty seconds are no measure.
    for name in ("memory/shard", "descriptors/shard", "threads/shard"):
        assert report["checks"][name], report["series"][name]
    assert done.returncode == (0 if report["passed"] else 1)
    assert report["points"][-1]["samples_per_second"] > 0
