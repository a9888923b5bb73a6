"""Carries the members of a population at once, each in a process of its own.

A member is the command that goes on with it alone; it reads the others' records from the
population's folder whenever it is scored. One that dies is started again from its newest
checkpoint. A member's process inherits its lock, so a launcher that
takes over from one that was killed waits for the members that it has left.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TextIO

from engines.population.carrying import Population

# Words of the command that goes on with one member.
MemberCommand = Callable[[int], Sequence[str]]

_POLL_S = 0.2
# Deaths of a member between two of its comparisons after which it is lost.
_MAX_DEATHS = 5
# Status of a command that has refused; it would refuse once more.
_REFUSED = 2
# Longest wait for interrupted members, which write their checkpoints first.
_SHUTDOWN_S = 180.0


@dataclass(slots=True)
class _Member:
    """A member that has not reached its end."""

    number: int
    process: subprocess.Popen[bytes] | None = None
    lock: TextIO | None = None
    deaths: int = 0
    # Its comparisons when it died last.
    comparisons: int = 0


@dataclass(slots=True)
class SideBySide:
    """The processes of all members."""

    population: Population
    command: MemberCommand
    _open: dict[int, _Member] = field(default_factory=dict)
    _lost: dict[int, str] = field(default_factory=dict)

    def carry(self) -> dict[int, str]:
        """Carry all members to their ends; returns why some were lost.

        Ctrl-C interrupts them, which keeps their checkpoints, and is raised again.
        """
        population = self.population
        self._open = {n: _Member(n) for n in population.members if not population.has_ended(n)}
        try:
            while self._open:
                for member in list(self._open.values()):
                    self._look_after(member)
                time.sleep(_POLL_S)
        except BaseException:
            self._interrupt()
            raise
        return self._lost

    def _look_after(self, member: _Member) -> None:
        if member.process is None:
            self._maybe_start(member)
        elif (status := member.process.poll()) is not None:
            self._ended(member, status)

    def _maybe_start(self, member: _Member) -> None:
        """Start a member, unless it is in the hands of a process that another launcher has left."""
        lock = self.population.files.try_lock(member.number)
        if lock is None:
            return
        if self.population.has_ended(member.number):
            lock.close()
            del self._open[member.number]
            return
        with self.population.files.log(member.number).open("ab") as log:
            member.process = subprocess.Popen(
                list(self.command(member.number)),
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                pass_fds=(lock.fileno(),),
                # Its own session: Ctrl-C in the terminal reaches it once, from _interrupt().
                start_new_session=True,
            )
        member.lock = lock

    def _ended(self, member: _Member, status: int) -> None:
        if member.lock is not None:
            member.lock.close()
        member.process, member.lock = None, None
        note, log = self.population.note, self.population.files.log(member.number)
        if self.population.has_ended(member.number):
            note(f"member {member.number} has reached its end")
            del self._open[member.number]
            return
        comparisons = self._comparisons(member.number)
        member.deaths = member.deaths + 1 if comparisons == member.comparisons else 1
        member.comparisons = comparisons
        if status == _REFUSED or member.deaths >= _MAX_DEATHS:
            reason = _last_line(log.read_bytes()).removeprefix("error: ")
            self._lost[member.number] = reason or f"it ended with status {status}"
            note(f"member {member.number} is lost: {self._lost[member.number]} ({log})")
            del self._open[member.number]
            return
        note(f"member {member.number} has died with status {status}; it goes on ({log})")

    def _comparisons(self, number: int) -> int:
        try:
            record = self.population.files.read_record(number)
        except ValueError:
            return 0
        return len(record.boundaries) if record else 0

    def _interrupt(self) -> None:
        running = [m for m in self._open.values() if m.process is not None]
        for member in running:
            assert member.process is not None
            # Not SIGINT: a launcher in the background ignores it, and its children inherit that.
            member.process.terminate()
        deadline = time.monotonic() + _SHUTDOWN_S
        for member in running:
            assert member.process is not None
            try:
                member.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                os.killpg(member.process.pid, signal.SIGKILL)
                member.process.wait()


def _last_line(log: bytes) -> str:
    lines = log.decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
