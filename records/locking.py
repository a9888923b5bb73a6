"""Locks by which one program keeps others from a file's owner: a run, a study's unit, a member.

They are the kernel's (flock): free again when every process has ended that holds the open file, as
children do that inherit it.
"""

from __future__ import annotations

import errno
import fcntl
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

_TAKEN = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)


def try_lock(
    path: Path, *, without_locks: Callable[[OSError], object] = lambda error: None
) -> TextIO | None:
    """An open file that holds the lock; None while somebody else has it.

    A file system without locks, as some network file systems are, keeps nobody out: it is told to
    `without_locks`, and the file is given all the same. OSError if the file cannot be opened.
    """
    file = path.open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _TAKEN:
            file.close()
            return None
        without_locks(error)
    return file
