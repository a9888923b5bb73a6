"""How every command starts and ends: its words, its exit status, one clear line for a mistake.

Imports next to nothing of the project, so that a command that needs little starts at once.
"""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, NoReturn

from engines.shell_limits import check_limits_of_one_process
from engines.signals import ENDING_SIGNALS
from records.latest import follow_latest


def run_command(main: Callable[[Sequence[str]], None]) -> NoReturn:
    """Run a command line's `main` and leave with its exit status.

    0 for a run that reached its end, 2 and one line for a mistake of the user's or a file that the
    file system refuses, 130 after Ctrl-C or another signal that asks for an end (ENDING_SIGNALS).
    Anything else is a defect and shows its traceback.
    """
    _Interrupter().listen()
    # The roles take one thread each; a library that spins up its own would fight them for cores.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    _open_closed_streams()
    outputs = _outlive_readers()
    try:
        main([expand(word) for word in sys.argv[1:]])
        sys.stdout.flush()
        for output in outputs:
            output.check_written()
    except ValueError as error:
        _fail(str(error))
    except OSError as error:
        if not _is_of_files(error):
            raise
        _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror))
    except MemoryError:
        _fail(_SHORTAGE)
    except ImportError as error:
        if "failed to map segment" not in str(error):
            raise
        _fail(f"{_SHORTAGE}: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0)


def say_it_starts() -> None:
    """Tell who sits before a terminal that loading PyTorch and the games takes some seconds.

    ValueError where it would crash.
    """
    check_limits_of_one_process()
    if sys.stdout.isatty():
        print("starting ...", flush=True)


_SHORTAGE = "out of memory, or above a limit of the address space (ulimit -v)"


def _fail(reason: str) -> NoReturn:
    print(f"error: {reason}", file=sys.stderr)
    sys.exit(2)


# A disk or a quota that is full, whichever file it was.
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
# What is wrong with a path, which the user has named or can mend.
_OF_PATHS = frozenset(
    {
        errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR,
        errno.ELOOP,
    }
)  # fmt: skip


def _is_of_files(error: OSError) -> bool:
    """Whether the file system has refused something that no change of this program would mend."""
    return error.errno in _FULL or (error.errno in _OF_PATHS and error.filename is not None)


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


class _OutputFile(io.FileIO):
    """A file that takes what cannot be written, instead of ending the program."""

    _failure: OSError | None = None

    def write(self, data: Any, /) -> int:
        """Write; the data are dropped if the reader has gone or the disk is full."""
        try:
            return super().write(data)
        except OSError as error:
            # A pipe without a reader, or a terminal that was closed: nobody misses anything.
            if error.errno not in (errno.EPIPE, errno.EIO):
                self._failure = error
            return memoryview(data).nbytes

    def check_written(self) -> None:
        """ValueError if somebody may miss what was dropped."""
        if self._failure is not None:
            raise ValueError(f"not all of the output was written: {self._failure.strerror}")


def _open_closed_streams() -> None:
    """Have standard streams that were closed (`>&-`) read and write nothing.

    Else a file that is opened later would get their number, and what a library prints.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            if os.open(os.devnull, os.O_RDWR) != number:
                continue  # Something else has the number by now.
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w", closefd=False))


def _outlive_readers() -> list[_OutputFile]:
    """Let a run go on, and end with its own status, whose terminal or pipe has gone."""
    outputs = []
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if type(stream) is not io.TextIOWrapper:  # Replaced already, by a test for example.
            continue
        output = _OutputFile(stream.fileno(), "wb", closefd=False)
        outputs.append(output)
        setattr(
            sys,
            name,
            io.TextIOWrapper(
                io.BufferedWriter(output),
                encoding=stream.encoding,
                errors=stream.errors,
                line_buffering=stream.line_buffering,
                write_through=name == "stderr",
            ),
        )
    return outputs
