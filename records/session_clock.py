"""How long a run has gone on, over all sessions of it.

Two times matter. A resumed run goes on from its checkpoint, and what an earlier session did after
that is done again: `seconds` is the time of the work that counts, and goes back with it.
`wall_seconds` is the time that somebody has waited, and never goes back.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from records.run_record import number, parse_row

_TAIL_BYTES = 1 << 20


class SessionClock:
    """The time of one session, and of those before it."""

    def __init__(
        self,
        *,
        started: float | None = None,
        counted_s: float = 0.0,
        wall_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Go on from earlier sessions: `counted_s` is a checkpoint's, `wall_s` their end's."""
        self.now = clock
        self._started = clock() if started is None else started
        self._counted_s = counted_s
        self._wall_s = max(wall_s, counted_s)
        self._stood_s = 0.0

    @property
    def seconds(self) -> float:
        """Time of the work that counts."""
        return self._counted_s + self._session_s - self._stood_s

    @property
    def wall_seconds(self) -> float:
        """Time of all sessions together, with what was lost after a checkpoint."""
        return self._wall_s + self._session_s

    @contextmanager
    def stands(self) -> Iterator[None]:
        """Leave the time inside out of `seconds`: the run is not at work."""
        start = self.now()
        try:
            yield
        finally:
            self._stood_s += self.now() - start

    @property
    def _session_s(self) -> float:
        return self.now() - self._started


def last_wall_seconds(metrics_path: Path, summary: Mapping[str, Any] | None = None) -> float:
    """Time of all sessions so far; 0 where nothing was written.

    Args:
        metrics_path: metrics.jsonl, which may end with the last look.
        summary: of the newest session that has written one, at its very end.
    """
    latest = number((summary or {}).get("wall_seconds")) or 0.0
    with suppress(OSError), metrics_path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
        for row in filter(None, map(parse_row, file.read().splitlines())):
            # Rows of earlier versions have no other time.
            latest = max(latest, row.get("wall_seconds", row.get("seconds", 0.0)))
    return latest
