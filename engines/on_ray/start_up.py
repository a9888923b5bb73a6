"""Tells how far the start of a run has come, and names the roles that do not come up."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping

from engines.on_ray.ray_internals import log_folder
from engines.on_ray.role_processes import find_processes

_TELL_PERIOD_S = 5.0
# After so long a role that is not up is named, with where its process writes its log.
_LATE_S = 30.0

_MAX_NAMED = 3


class StartUp:
    """Looks at Ray's table of actors until all processes of a run have come up once."""

    def __init__(
        self,
        run: str,
        wanted: Mapping[str, int],
        *,
        note: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`wanted`: how many processes of each role there are to be."""
        self._run = run
        self._wanted = Counter(wanted)
        self._note = note
        self._clock = clock
        self._began = self._told = clock()
        self._said = ""
        self._are_late_named = False
        self.is_over = False

    def look(self) -> None:
        """Say something if there is something new; nothing once the start is over."""
        if self.is_over:
            return
        up = Counter(process.role for process in find_processes(self._run))
        self.is_over = all(up[role] >= number for role, number in self._wanted.items())
        now = self._clock()
        if self.is_over:
            if self._said:
                self._note("all processes of the run are up")
            return
        if now - self._told >= _TELL_PERIOD_S:
            self._told = now
            self._tell(up)
        if now - self._began >= _LATE_S and not self._are_late_named:
            self._are_late_named = True
            self._name_the_late()

    def _tell(self, up: Counter[str]) -> None:
        actors = {
            role: number for role, number in self._wanted.items() if role.startswith("actor/")
        }
        num_up = sum(min(up[role], number) for role, number in actors.items())
        others = [role for role in self._wanted - Counter(up) if role not in actors]
        text = f"{num_up} of {sum(actors.values())} actors started"
        if others:
            text += f"; {', '.join(sorted(others))} still to come"
        if text != self._said:
            self._said = text
            self._note(text)

    def _name_the_late(self) -> None:
        late = find_processes(self._run, are_up=False)
        for process in late[:_MAX_NAMED]:
            where = f"worker-*-{process.pid}.err in " if process.pid else ""
            state = "" if process.pid else ", for which Ray has found no room or no process"
            self._note(
                f"{process.place} has not come up within {_LATE_S:g} s{state}; its log is "
                f"{where}{log_folder()}"
            )
        if len(late) > _MAX_NAMED:
            self._note(f"and {len(late) - _MAX_NAMED} other processes have not come up either")
