"""Counts the deaths of a run's processes, so that a run ends when restarts do not help."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

# Above it something is wrong that a restart does not mend, and the run stops with the cause.
_MAX_INCIDENTS_PER_MINUTE = 10

# Processes that die together, with the node they are on, count as one incident.
_ONE_INCIDENT_S = 1.0

# While a node has no memory, Ray kills one process after the other, those that take their place
# among them. A shortage of less than a minute must not end a run.
_ONE_SHORTAGE_S = 5.0


class Deaths:
    """All deaths of one run, of whatever role."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock`: seconds."""
        self._clock = clock
        self._incidents: deque[float] = deque(maxlen=_MAX_INCIDENTS_PER_MINUTE)

    def count(self, cause: str, *, is_for_memory: bool = False) -> None:
        """Take note of a death; ValueError with its cause if too many come within a minute."""
        now = self._clock()
        together_s = _ONE_SHORTAGE_S if is_for_memory else _ONE_INCIDENT_S
        if self._incidents and now - self._incidents[-1] < together_s:
            return
        self._incidents.append(now)
        if len(self._incidents) == self._incidents.maxlen and now - self._incidents[0] < 60.0:
            advice = "; use fewer --actors or a smaller replay" if is_for_memory else ""
            raise ValueError(
                f"processes of the run died {len(self._incidents)} times within a minute; the "
                f"last one: {cause}{advice}"
            )
