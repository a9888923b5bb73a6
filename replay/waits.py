"""How long callers wait, the ones that still wait included."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Waits:
    """The callers of one method that wait; its owner holds a lock around every call."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock`: seconds."""
        self._clock = clock
        self._ended_s = 0.0
        self._starts: list[float] = []

    @property
    def num_waiting(self) -> int:
        """Callers that wait now."""
        return len(self._starts)

    @property
    def total_s(self) -> float:
        """Waited so far, summed over callers; grows while somebody waits."""
        now = self._clock()
        return self._ended_s + sum(now - start for start in self._starts)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around a caller's wait."""
        start = self._clock()
        self._starts.append(start)
        try:
            yield
        finally:
            self._starts.remove(start)
            self._ended_s += self._clock() - start
