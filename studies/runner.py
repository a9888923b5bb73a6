"""Carries the units of a study: each a process of the ordinary command, several side by side.

Any number of launchers may work at one study; a unit belongs to whoever holds its lock. A unit that
fails is remembered and does not stop the others; one that was cut off goes on from its checkpoint.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TextIO

from studies.records import UnitFiles, UnitRecord
from studies.study import Unit
from views.words import duration

# Program and words for a unit with these arguments.
CommandLine = Callable[[Unit, Sequence[str]], list[str]]

_POLL_S = 0.2
# Seconds between two lines about units that are under way.
_PROGRESS_S = 60.0
# Longest wait for an interrupted unit, which writes its checkpoint first.
_SHUTDOWN_S = 180.0


def launch_command(unit: Unit, arguments: Sequence[str]) -> list[str]:
    """The script in launch/, by this interpreter."""
    script = Path(__file__).resolve().parent.parent / "launch" / f"{unit.command}.py"
    return [sys.executable, str(script), *arguments]


def job_command(address: str, study_dir: Path) -> CommandLine:
    """Commands that run a unit as a job of the Ray cluster at an address and wait for its end.

    The waiting process holds the unit's lock and stops its job when it is stopped itself. The
    cluster's head must have this program and the study's folder under the same paths.
    """

    def command(unit: Unit, arguments: Sequence[str]) -> list[str]:
        digest = hashlib.sha256(f"{study_dir}/{unit.name}".encode()).hexdigest()[:16]
        return through_jobs(address, f"study-{digest}", launch_command(unit, arguments))

    return command


def through_jobs(address: str, name: str, words: Sequence[str]) -> list[str]:
    """The command that runs another one as a job of a Ray cluster and waits for its end."""
    return [sys.executable, "-m", "engines.on_ray.jobs", address, name, *words]


@dataclass(slots=True)
class _Running:
    files: UnitFiles
    record: UnitRecord
    process: subprocess.Popen[bytes]
    lock: TextIO
    started: float
    steps_before: int


class Runner:
    """Runs what is left of a study."""

    def __init__(
        self,
        units: Sequence[Unit],
        study_dir: Path,
        *,
        jobs: int,
        pace_steps_per_s: float | None = None,
        command_line: CommandLine = launch_command,
        tell: Callable[[str], None] = print,
    ) -> None:
        """Prepare; nothing runs yet."""
        self._files = [UnitFiles.of(unit, study_dir) for unit in units]
        self._steps = {unit.name: unit.num_steps() for unit in units}
        self._jobs = jobs
        self._given_pace = pace_steps_per_s
        self._command_line = command_line
        self._tell = tell
        self._running: list[_Running] = []
        self._begun = time.time()
        self._has_told_of_others = False
        self._told = time.monotonic()

    def run(self) -> list[Unit]:
        """Carry every unit to its end and return those that failed.

        Units in other launchers' hands are waited for. Ctrl-C interrupts this launcher's units as
        Ctrl-C does (they keep a checkpoint) and is raised again once they have ended.
        """
        try:
            while self._running or self._has_work():
                self._finish_ended()
                self._begin_more()
                self._maybe_tell_progress()
                time.sleep(_POLL_S)
        except BaseException:
            self._interrupt()
            raise
        records = [(files.unit, files.read()) for files in self._files]
        return [unit for unit, record in records if record is None or not record.is_done]

    def pace(self) -> float | None:
        """Steps per second of a unit, measured over those that are done, or as given."""
        known = [(files, files.read()) for files in self._files]
        done = [(files, record) for files, record in known if record and record.is_done]
        seconds = sum(record.wall_s for _, record in done)
        if seconds > 0:
            return sum(self._steps[files.unit.name] for files, _ in done) / seconds
        # Of those under way; a unit's first steps come after half a minute of preparation.
        under_way = [(r.files.played_steps() - r.steps_before, r) for r in self._running]
        playing = [(steps, time.monotonic() - r.started) for steps, r in under_way if steps > 0]
        if playing and self._given_pace is None:
            return sum(steps / seconds for steps, seconds in playing) / len(playing)
        return self._given_pace

    def seconds_left(self) -> float | None:
        """At the pace so far, with as many units side by side as asked for; None if unknown."""
        pace = self.pace()
        if pace is None:
            return None
        left = [self._steps_left(files) for files in self._files]
        units = sum(steps > 0 for steps in left)
        return sum(left) / pace / max(1, min(self._jobs, units))

    def _steps_left(self, files: UnitFiles) -> int:
        record = files.read()
        if record is not None and record.is_done:
            return 0
        return max(0, self._steps[files.unit.name] - files.played_steps())

    def _has_work(self) -> bool:
        return any(self._is_open(files) for files in self._files)

    def _is_open(self, files: UnitFiles) -> bool:
        """Neither done nor failed since this launcher began; failures of earlier ones try again."""
        record = files.read()
        return record is None or not (
            record.is_done or (record.status is not None and record.ended >= self._begun)
        )

    def _begin_more(self) -> None:
        for files in self._files:
            if len(self._running) >= self._jobs:
                return
            if not self._is_open(files) or any(r.files == files for r in self._running):
                continue
            if (lock := files.try_lock()) is not None:
                # Between the look and the lock another launcher may have brought it to its end.
                if self._is_open(files):
                    self._begin(files, lock)
                else:
                    lock.close()

    def _begin(self, files: UnitFiles, lock: TextIO) -> None:
        unit = files.unit
        arguments = files.arguments()
        record = files.read() or UnitRecord(
            fingerprint=unit.fingerprint(), options=list(unit.options)
        )
        files.write(replace(record, status=None))
        resumes = arguments[0] == "--resume"
        self._tell(f"{unit.name}: {'goes on' if resumes else 'begins'}")
        with files.log.open("ab") as log:
            process = subprocess.Popen(
                self._command_line(unit, arguments),
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                # The child keeps the lock if this launcher dies, so that nobody else begins the
                # unit while it still runs.
                pass_fds=(lock.fileno(),),
                # Its own session: Ctrl-C in the terminal reaches it once, from _interrupt().
                start_new_session=True,
            )
        steps = files.played_steps()
        self._running.append(_Running(files, record, process, lock, time.monotonic(), steps))

    def _finish_ended(self) -> None:
        for running in [r for r in self._running if r.process.poll() is not None]:
            self._running.remove(running)
            self._finish(running)

    def _finish(self, running: _Running) -> None:
        files, status = running.files, running.process.returncode
        seconds = time.monotonic() - running.started
        files.write(
            replace(
                running.record,
                status=status,
                wall_s=running.record.wall_s + seconds,
                ended=time.time(),
            )
        )
        running.lock.close()
        done = sum(1 for f in self._files if (r := f.read()) is not None and r.is_done)
        how = "done" if status == 0 else f"FAILED with status {status}, see {files.log}"
        self._tell(
            f"[{done}/{len(self._files)}] {files.unit.name}: {how} after {duration(seconds)}"
            f"{self._time_left()}"
        )

    def _time_left(self) -> str:
        seconds = self.seconds_left()
        return "" if not seconds else f", about {duration(seconds)} left"

    def _maybe_tell_progress(self) -> None:
        if not self._running and not self._has_told_of_others:
            self._has_told_of_others = True
            others = [files.unit.name for files in self._files if self._is_open(files)]
            if others:
                self._tell(f"waiting for units of another launcher: {', '.join(others)}")
        if not self._running or time.monotonic() - self._told < _PROGRESS_S:
            return
        self._told = time.monotonic()
        shares = [f"{r.files.unit.name} {self._share_played(r.files):.0%}" for r in self._running]
        self._tell(f"under way: {', '.join(shares)}{self._time_left()}")

    def _share_played(self, files: UnitFiles) -> float:
        # A run ends by its updates, and actors may play on a little meanwhile.
        return min(1.0, files.played_steps() / self._steps[files.unit.name])

    def _interrupt(self) -> None:
        """Let the units write their checkpoints and end; none is marked, so all go on next time."""
        for running in self._running:
            # Not SIGINT: a launcher in the background ignores it, and its children inherit that.
            running.process.terminate()
        deadline = time.monotonic() + _SHUTDOWN_S
        for running in self._running:
            try:
                running.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                os.killpg(running.process.pid, signal.SIGKILL)
                running.process.wait()
            running.lock.close()
