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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import tyro

from benchmarks.processes import Family, shared_files
from benchmarks.soak.ending import Ending, look_at_the_end
from benchmarks.soak.judge import Reading, warm_up_end
from benchmarks.soak.readings import Reader
from benchmarks.soak.reporting import build_report, format_report, write_series
from engines.opening import REDIS_URL_VARIABLE
from networks.atomic_file import write_atomically
from recipes.errors import parse_or_fail

_PROG = "bench.py soak"
_ROOT = Path(__file__).resolve().parents[2]
_MARK = "ACTOR_MIMIC_SOAK"
_ENDLESS_STEPS = "1000000000000"
# Longest wait from the start of the command to its first update.
_START_TIMEOUT_S = 300.0
# Longest wait from Ctrl-C to the end of the command, which writes replay and a checkpoint.
_END_TIMEOUT_S = 180.0
_FORBIDDEN = ("--run-dir", "--resume", "--redis-url")


@dataclass(frozen=True, slots=True, kw_only=True)
class SoakOptions:
    """Watch a run for growth; the run's own options follow after `--`."""

    output: Path
    """Folder of the results; new or empty."""
    minutes: float = 30.0
    """Length of the soak, from the run's first update."""
    period_s: float = 5.0
    """Seconds between two readings; less where a short soak would have less than sixty."""

    def __post_init__(self) -> None:
        """Refuse out-of-range values."""
        for name in ("minutes", "period_s"):
            if not 0 < getattr(self, name) < 1e6:
                raise ValueError(f"{name} must be a positive number, got {getattr(self, name)}")

    @property
    def seconds(self) -> float:
        """Length of the soak."""
        return 60.0 * self.minutes

    @property
    def interval_s(self) -> float:
        """Seconds between two readings."""
        return min(self.period_s, self.seconds / 60)


def main(argv: Sequence[str]) -> None:
    """Soak, judge, print; status 1 if something grew or was left."""
    own, run_options = split_options(argv)
    options = parse_or_fail(lambda: tyro.cli(SoakOptions, args=own, prog=_PROG), prog=_PROG)
    check_machine()
    make_output(options.output)
    load_before = os.getloadavg()[0]
    soak = Soak()
    # A shell starts what it runs in the background with Ctrl-C ignored, and the run would inherit
    # that; a handler of one's own is not inherited.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        run_soak(options, run_options, soak)
    finally:
        write_series(options.output / "series.csv", soak.readings)
    warm = warm_up_end(soak.readings, seconds=options.seconds)
    report = build_report(
        [reading for reading in soak.readings if reading["seconds"] >= warm],
        soak.ending,
        settings={
            "minutes": options.minutes,
            "interval_s": options.interval_s,
            "options": run_options,
            "warm_up_s": round(warm, 1),
        },
        load_before=load_before,
    )
    text = json.dumps(report, allow_nan=False)
    write_atomically(options.output / "verdict.json", text.encode() + b"\n")
    print(format_report(report))
    print(text)
    if not report["passed"]:
        raise SystemExit(1)


def split_options(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """(options of the soak, options of the run); ValueError for what the soak must set itself."""
    words = list(argv)
    cut = words.index("--") if "--" in words else len(words)
    own, run = words[:cut], words[cut + 1 :]
    for option in (word.split("=")[0] for word in run):
        if option.replace("_", "-") in _FORBIDDEN:
            raise ValueError(f"leave {option} out: the run gets a folder and a Redis of its own")
    if "--engine=local" in run or ("--engine" in run and "local" in run):
        raise ValueError("a soak is of a run on Ray; leave --engine local out")
    if not any(word.replace("_", "-").split("=")[0] == "--num-steps" for word in run):
        run += ["--num-steps", _ENDLESS_STEPS]
    return own, run


def check_machine() -> None:
    """Raises ValueError where processes cannot be looked at, or would be on other machines."""
    if not Path("/proc/self/smaps_rollup").exists():
        raise ValueError("a soak reads /proc/PID/smaps_rollup, which this system does not have")
    if os.environ.get("RAY_ADDRESS"):
        raise ValueError("a soak watches this machine alone; unset RAY_ADDRESS")


def make_output(folder: Path) -> None:
    """Raises ValueError if it cannot be made or has something in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        is_used = any(folder.iterdir())
    except OSError as error:
        raise ValueError(f"cannot make {folder}: {error.strerror}") from error
    if is_used:
        raise ValueError(f"{folder} has something in it already; choose another --output")


@dataclass(slots=True)
class Soak:
    """What was seen."""

    # Seconds are since the first update.
    readings: list[Reading] = field(default_factory=list)
    ending: Ending = field(default_factory=Ending)


def run_soak(options: SoakOptions, run_options: Sequence[str], soak: Soak) -> None:
    """Start the run, watch it, stop it; what is seen goes into `soak` at once.

    Raises:
        ValueError: the run did not begin, or ended by itself; with what it said last.
    """
    before = shared_files()
    with _scratch() as scratch, (options.output / "run.log").open("w") as log:
        environment = run_environment(scratch)
        process = _start(run_options, options.output / "run", environment, log.fileno())
        family = Family(process.pid, (_MARK, str(scratch)))
        try:
            reader = Reader(
                family,
                run_path=(options.output / "run").resolve(),
                scratch=scratch,
                environment=environment,
                started=time.monotonic(),
            )
            try:
                _watch(process, reader, options, soak.readings)
            finally:
                reader.close()
            soak.ending = look_at_the_end(
                process,
                family,
                run=options.output / "run",
                scratch=scratch,
                shared_before=before,
                timeout_s=_END_TIMEOUT_S,
            )
        finally:
            _kill_all(process, family)


def _watch(
    process: subprocess.Popen[bytes],
    reader: Reader,
    options: SoakOptions,
    readings: list[Reading],
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Read until the time is over."""
    deadline = clock() + _START_TIMEOUT_S
    while not reader.looks.get("updates"):
        _check_running(process, options.output / "run.log")
        if clock() > deadline:
            raise ValueError(f"the run made no update within {_START_TIMEOUT_S:.0f} s")
        time.sleep(0.2)
    reader.started = begun = clock()
    next_s = 0.0
    while clock() - begun < options.seconds:
        _check_running(process, options.output / "run.log")
        readings.append(reader.read())
        next_s = max(next_s + options.interval_s, clock() - begun)
        time.sleep(max(0.0, begun + next_s - clock()))


def _check_running(process: subprocess.Popen[bytes], log: Path) -> None:
    if process.poll() is not None:
        lines = log.read_text(errors="replace").strip().splitlines()
        said = lines[-1] if lines else "nothing"
        raise ValueError(
            f"the run ended by itself with status {process.returncode}; it said: {said}"
        )


def _start(
    run_options: Sequence[str], run_path: Path, environment: dict[str, str], log: int
) -> subprocess.Popen[bytes]:
    """Start the command in a session of its own, as from a terminal."""
    command = [sys.executable, str(_ROOT / "launch" / "multitask.py"), *run_options]
    return subprocess.Popen(
        [*command, "--run-dir", str(run_path)],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
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
