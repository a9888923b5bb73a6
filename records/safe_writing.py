"""Keeps a run going while a file cannot be written: a full disk, a folder that is gone, no rights.

What is learned is worth more than any file about it. So a failed write is said once, tried again
with the next one of its kind, and listed at the end if it was never made up for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class SafeWriting:
    """Tries writes, remembers those that fail, and tells of both. For one thread."""

    def __init__(self, warn: Callable[[str], None] = lambda text: None) -> None:
        """Nothing has failed yet; `warn` takes lines for whoever started the run."""
        self._warn = warn
        # Kinds of files that could not be written the last time: why, and how often.
        self._troubles: dict[str, tuple[str, int]] = {}

    @contextmanager
    def attempt(self, what: str) -> Iterator[None]:
        """Go on after the `with` block, also if what it writes cannot be written.

        The first failure of a kind of file is told, and so is the first success after it; `what` is
        the kind as it stands in a sentence: "metrics.jsonl", "the checkpoint".
        """
        try:
            yield
        # torch.save follows a failed write with a RuntimeError about a file of the wrong length.
        except (OSError, RuntimeError) as error:
            if (cause := failed_write(error)) is None:
                raise
            self._has_failed(what, cause.strerror or str(cause))
        else:
            if self._troubles.pop(what, None) is not None:
                self._warn(f"{what} can be written again")

    def _has_failed(self, what: str, reason: str) -> None:
        _, failures = self._troubles.get(what, (reason, 0))
        self._troubles[what] = reason, failures + 1
        if not failures:
            self._warn(f"cannot write {what}: {reason}; the run goes on and tries again")

    def unwritten(self) -> list[str]:
        """A line for each kind of file whose last write has failed."""
        return [
            f"{what} was not written: {reason}" + (f" ({n} times)" if n > 1 else "")
            for what, (reason, n) in self._troubles.items()
        ]


def failed_write(error: BaseException) -> OSError | None:
    """The file system's error behind an error, which may be torch's; None where there is none."""
    if isinstance(error, OSError):
        # Of the network, or of another process: not about a file.
        about_others = isinstance(error, ConnectionError | TimeoutError | ChildProcessError)
        return None if about_others else error
    behind = error.__cause__ or error.__context__
    return failed_write(behind) if isinstance(error, RuntimeError) and behind else None
