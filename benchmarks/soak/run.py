"""A whole run for a long time: nothing grows, and nothing is left when it is stopped.

    python launch/bench.py soak --minutes 30 --output DIR -- [options of launch/multitask.py]

starts `launch/multitask.py` with these options as a person would (processes on a Ray of its own, a
private Redis), looks at it from outside every few seconds, and stops it with Ctrl-C. The run goes
on for as long as asked from its first update, whatever its preset's number of steps; it needs
Linux. Into DIR, which must be new or empty, go

    series.csv    every reading
    verdict.json  the same object as the last line on standard output
    run/          the run's folder
    run.log       what the run has said

What is allowed to grow, and by how much, is in benchmarks/soak/judge.py; docs/cluster.md ("A long
run that must not grow") tells how to read the result. Exit status: 0 if everything passed, 1 if
not, 2 for a mistake of the user's.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from benchmarks.options import SoakOptions
from benchmarks.processes import Family, shared_files
from benchmarks.soak.ending import Ending, look_at_the_end
from benchmarks.soak.judge import Reading, warm_up_end
from benchmarks.soak.readings import Reader
from benchmarks.soak.reporting import build_report, format_report, write_series
from engines.on_redis.asking import REDIS_URL_VARIABLE
from networks.atomic_file import write_atomically

_ROOT = Path(__file__).resolve().parents[2]
_MARK = "ACTOR_MIMIC_SOAK"
_ENDLESS_STEPS = "1000000000000"
# Longest wait from the start of the command to its first update.
_START_TIMEOUT_S = 300.0
# Longest wait from Ctrl-C to the end of the command, which writes replay and a checkpoint.
_END_TIMEOUT_S = 180.0
_FORBIDDEN = ("--run-dir", "--resume", "--redis-url")


def run(options: SoakOptions, run_options: Sequence[str]) -> tuple[dict[str, Any], str]:
    """Soak and judge; returns the report, whose `passed` is all that counts, and it in words."""
    words = complete(run_options)
    _check_machine()
    _make_output(options.output)
    load_before = os.getloadavg()[0]
    # A shell starts what it runs in the background with Ctrl-C ignored, and the run would inherit
    # that; a handler of one's own is not inherited.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    readings: list[Reading] = []
    try:
        ending = _soak(options, words, readings)
    finally:
        write_series(options.output / "series.csv", readings)
    warm = warm_up_end(readings, seconds=options.seconds)
    report = build_report(
        [reading for reading in readings if reading["seconds"] >= warm],
        ending,
        settings={
            "minutes": options.minutes,
            "interval_s": options.interval_s,
            "options": words,
            "warm_up_s": round(warm, 1),
        },
        load_before=load_before,
    )
    text = json.dumps(report, allow_nan=False)
    write_atomically(options.output / "verdict.json", text.encode() + b"\n")
    return report, format_report(report)


def complete(run_options: Sequence[str]) -> list[str]:
    """The run's options with an end far away; ValueError for what the soak must set itself."""
    words = list(run_options)
    names = [word.split("=")[0].replace("_", "-") for word in words]
    for name in _FORBIDDEN:
        if name in names:
            raise ValueError(f"leave {name} out: the run gets a folder and a Redis of its own")
    if "--engine=local" in words or ("--engine" in words and "local" in words):
        raise ValueError("a soak is of a run on Ray; leave --engine local out")
    return words if "--num-steps" in names else [*words, "--num-steps", _ENDLESS_STEPS]


def _check_machine() -> None:
    """Raises ValueError where processes cannot be looked at, or would be on other machines."""
    if not Path("/proc/self/smaps_rollup").exists():
        raise ValueError("a soak reads /proc/PID/smaps_rollup, which this system does not have")
    if os.environ.get("RAY_ADDRESS"):
        raise ValueError("a soak watches this machine alone; unset RAY_ADDRESS")


def _make_output(folder: Path) -> None:
    """Raises ValueError if it cannot be made or has something in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        is_used = any(folder.iterdir())
    except OSError as error:
        raise ValueError(f"cannot make {folder}: {error.strerror}") from error
    if is_used:
        raise ValueError(f"{folder} has something in it already; choose another --output")


def _soak(options: SoakOptions, words: Sequence[str], readings: list[Reading]) -> Ending:
    """Start the run, watch it, stop it."""
    before = shared_files()
    run_path = (options.output / "run").resolve()
    with _scratch() as scratch, (options.output / "run.log").open("w") as log:
        environment = run_environment(scratch)
        command = [sys.executable, str(_ROOT / "launch" / "multitask.py"), *words]
        # In a session of its own, as from a terminal.
        process = subprocess.Popen(
            [*command, "--run-dir", str(run_path)],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        family = Family(process.pid, (_MARK, str(scratch)))
        reader = Reader(family, run_path=run_path, scratch=scratch, environment=environment)
        try:
            with closing(reader):
                _watch(process, reader, options, readings)
            return look_at_the_end(
                process,
                family,
                run=run_path,
                scratch=scratch,
                shared_before=before,
                timeout_s=_END_TIMEOUT_S,
            )
        finally:
            _kill_all(process, family)


def _watch(
    process: subprocess.Popen[bytes], reader: Reader, options: SoakOptions, readings: list[Reading]
) -> None:
    """Read until the time is over; seconds count from the first update."""
    log = options.output / "run.log"
    deadline = time.monotonic() + _START_TIMEOUT_S
    while not reader.looks.get("updates"):
        _check_running(process, log)
        if time.monotonic() > deadline:
            raise ValueError(f"the run made no update within {_START_TIMEOUT_S:.0f} s")
        time.sleep(0.2)
    reader.started = begun = time.monotonic()
    next_s = 0.0
    while time.monotonic() - begun < options.seconds:
        _check_running(process, log)
        readings.append(reader.read())
        next_s = max(next_s + options.interval_s, time.monotonic() - begun)
        time.sleep(max(0.0, begun + next_s - time.monotonic()))


def _check_running(process: subprocess.Popen[bytes], log: Path) -> None:
    if process.poll() is not None:
        lines = log.read_text(errors="replace").strip().splitlines()
        raise ValueError(
            f"the run ended by itself with status {process.returncode}; it said: "
            f"{lines[-1] if lines else 'nothing'}"
        )


def run_environment(scratch: Path) -> dict[str, str]:
    """This process's environment, with everything temporary in one place and a token for Ray."""
    # In a Redis of the user's there may be others, too.
    kept = {name: value for name, value in os.environ.items() if name != REDIS_URL_VARIABLE}
    environment = {
        **kept,
        _MARK: str(scratch),
        "TMPDIR": str(scratch),
        "RAY_TMPDIR": str(scratch),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    if environment.get("RAY_AUTH_MODE") != "disabled":
        environment["RAY_AUTH_MODE"] = "token"
        environment.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    return environment


@contextmanager
def _scratch() -> Iterator[Path]:
    """A folder with a short path: those of Ray's sockets would be too long elsewhere."""
    path = Path(tempfile.mkdtemp(prefix="amsoak", dir="/tmp"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _kill_all(process: subprocess.Popen[bytes], family: Family) -> None:
    """Kill whatever is left, after it has been counted."""
    with suppress(ProcessLookupError):
        process.kill()
    process.wait()
    for left in family.living():
        with suppress(psutil.Error):
            left.kill()
