"""How every command ends: its exit status, and one clear line for what a user got wrong.

Imports nothing of the project, so that a command that needs little starts at once.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import NoReturn


def run_command(main: Callable[[Sequence[str]], None]) -> NoReturn:
    """Run a command line's `main` and leave with its exit status.

    0 for a run that reached its end, 2 and one line for a mistake of the user's, 130 after Ctrl-C
    or SIGTERM. Anything else is a defect and shows its traceback.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    # The roles take one thread each; a library that spins up its own would fight them for cores.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        main(sys.argv[1:])
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read the output has gone; the interpreter must not try to flush it either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    sys.exit(0)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
