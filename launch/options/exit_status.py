"""How every command starts and ends: its words, its exit status, one clear line for a mistake.

Imports next to nothing of the project, so that a command that needs little starts at once.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, NoReturn

from engines.signals import ENDING_SIGNALS
from records.latest import follow_latest


def run_command(main: Callable[[Sequence[str]], None]) -> NoReturn:
    """Run a command line's `main` and leave with its exit status.

    0 for a run that reached its end, 2 and one line for a mistake of the user's, 130 after Ctrl-C
    or another signal that asks for an end (ENDING_SIGNALS). Anything else is a defect and shows its
    traceback.
    """
    _Interrupter().listen()
    # The roles take one thread each; a library that spins up its own would fight them for cores.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    _outlive_readers()
    try:
        main([expand(word) for word in sys.argv[1:]])
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0)


class _Interrupter:
    """Turns the first signal into KeyboardInterrupt, and says what a second one gives up."""

    def __init__(self) -> None:
        self._is_ending = False

    def listen(self) -> None:
        for number in ENDING_SIGNALS:
            # nohup, and a shell that starts a job in the background, have some ignored on purpose.
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._interrupt)

    def _interrupt(self, number: int, frame: FrameType | None) -> NoReturn:
        if self._is_ending:
            print(
                "interrupted again: leaving at once; what the run's folder holds by now stays, and "
                "--resume goes on from its newest checkpoint",
                file=sys.stderr,
            )
        self._is_ending = True
        raise KeyboardInterrupt


def expand(word: str) -> str:
    """`--run-dir=~/runs` with the home folder in it, and `runs/latest` as the folder it names.

    Shells leave `~` after `=` as it is.
    """
    head, separator, value = word.rpartition("=")
    if separator and value[:1] == "~":
        value = os.path.expanduser(value)
    return f"{head}{separator}{follow_latest(value)}"


class _DroppingFile(io.FileIO):
    """A file that takes what nobody reads any more, instead of ending the program."""

    def write(self, data: Any, /) -> int:
        """Write to the reader; the data are dropped if it has gone."""
        try:
            return super().write(data)
        except BrokenPipeError:
            return memoryview(data).nbytes


def _outlive_readers() -> None:
    """Let a run go on, and end with its own status, whose terminal or pipe has gone."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if type(stream) is not io.TextIOWrapper:  # Replaced already, by a test for example.
            continue
        file = io.BufferedWriter(_DroppingFile(stream.fileno(), "wb", closefd=False))
        setattr(
            sys,
            name,
            io.TextIOWrapper(
                file,
                encoding=stream.encoding,
                errors=stream.errors,
                line_buffering=stream.line_buffering,
                write_through=name == "stderr",
            ),
        )
