"""Lets one program at a time write into a run's folder."""

from __future__ import annotations

import errno
import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK = ".lock"
_TAKEN = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)


@contextmanager
def locked(folder: Path, *, warn: Callable[[str], None]) -> Iterator[None]:
    """Be the only program that writes into the folder, inside the `with` block.

    A file system without locks, as some network file systems are, cannot keep others out: `warn` is
    told, and the run goes on.

    Raises:
        ValueError: another program is at it, or nothing can be written into the folder.
    """
    try:
        file = (folder / LOCK).open("w")
    except OSError as error:
        raise ValueError(f"cannot write into the run's folder {folder}: {error.strerror}") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _TAKEN:
                raise ValueError(
                    f"another program is carrying the run in {folder}; stop it first"
                ) from None
            warn(
                f"the file system of {folder} has no locks ({error.strerror}): nothing keeps a "
                "second program from carrying the same run"
            )
        yield
