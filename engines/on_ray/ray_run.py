"""What every part of a run on Ray is given; it ends the run when restarts do not help."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from engines.on_ray.calls import in_one_line, is_for_memory
from engines.on_ray.placement import Placement
from engines.on_ray.role_processes import RoleNames
from engines.on_redis.bus import RedisAddress
from recipes.recipe import Recipe

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


@dataclass(frozen=True, slots=True, kw_only=True)
class RayRun:
    """A run as those who start its processes and follow them through their deaths know it."""

    recipe: Recipe
    redis: RedisAddress
    placement: Placement
    names: RoleNames
    # Told in one line what becomes of processes.
    note: Callable[[str], None]
    deaths: Deaths = field(default_factory=Deaths)

    def start(
        self, process: Any, role: str, rank: int, options: dict[str, Any], /, **given: Any
    ) -> Any:
        """Handle of a new process in this place, for which Ray may still have to find room."""
        name = self.names.new(role, rank)
        return process.options(name=name, **options).remote(self.recipe, **given)

    def count_death(self, what: str, error: Exception) -> None:
        """Take note of a death by its error; ValueError if there were too many."""
        self.deaths.count(f"{what} ({in_one_line(error)})", is_for_memory=is_for_memory(error))
