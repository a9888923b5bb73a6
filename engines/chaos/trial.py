"""One kill after another in a run that goes on: what is killed, and how soon the run recovers."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from engines.chaos.processes import RayProcesses, is_alive, kill_here
from engines.chaos.recovery import Recovery, Standing, losses
from engines.on_ray.role_processes import RoleProcess
from engines.on_redis.bus import RedisBus
from engines.on_redis.link import RedisUnavailableError
from records.run_dir import RunDir

_LOOK_PERIOD_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """One kill, and what became of it."""

    role: str
    killed: str
    # From when its death was asked for until its work was counted again; None if that was not in
    # time.
    recovery_s: float | None = None
    lost: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Victim:
    """What is to die at once: one process, or all that a run has on one node."""

    # As it was asked for.
    role: str
    # Of the processes.
    roles: tuple[str, ...]
    # Those that Ray knows; none for the launcher and Redis.
    processes: tuple[RoleProcess, ...] = ()
    # Of the launcher or Redis, on the launcher's machine.
    pid: int = 0
    # If a whole node is to die.
    node: str = ""

    def __str__(self) -> str:
        """The trial's outcome in one line."""
        if self.node:
            return f"node {self.node[:8]} with {', '.join(p.place for p in self.processes)}"
        if not self.processes:
            return f"{self.role} (pid {self.pid})"
        (only,) = self.processes
        return f"{only.place} (pid {only.pid})"


class Trial:
    """A run under attack."""

    def __init__(
        self,
        bus: RedisBus,
        processes: RayProcesses,
        *,
        timeout_s: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Nothing is killed yet; no wait is longer than `timeout_s`."""
        self._bus = bus
        self._processes = processes
        self._timeout_s = timeout_s
        self._clock = clock
        self._sleep = sleep

    def wait_until_ready(self) -> Standing:
        """The run when all of it is at work; ValueError if it has ended or is not ready in time."""
        deadline = self._clock() + self._timeout_s
        while True:
            standing = look_at(self._bus)
            if standing is not None and not standing.unready:
                return standing
            if standing is not None and standing.phase in ("testing", "ended"):
                raise ValueError("the run has reached its end; there is nothing left to kill")
            if self._clock() >= deadline:
                why = standing.unready if standing is not None else "it does not answer"
                raise ValueError(
                    f"the run is not whole within {self._timeout_s:g} s ({why}); nothing more is "
                    "killed"
                )
            self._sleep(_LOOK_PERIOD_S)

    def roles(self, standing: Standing) -> list[str]:
        """Kinds of processes that can be killed one at a time while the run goes on."""
        found = [process.role.partition("/")[0] for process in self._processes.find()]
        return [*dict.fromkeys(found), *(["redis"] if standing.redis_pid else [])]

    def find(self, role: str, standing: Standing) -> Victim:
        """The first process of a role, or the node that carries most of the run."""
        if role in ("redis", "coordinator"):
            return _find_beside_launcher(role, standing)
        everybody = self._processes.find()
        if role == "node":
            return _find_node(everybody, here=self._processes.here)
        for process in everybody:
            if role in (process.role, process.role.partition("/")[0]):
                return Victim(role=role, roles=(process.role,), processes=(process,))
        has = ", ".join(sorted({process.role for process in everybody}))
        raise ValueError(f"the run has no process of role {role!r}; it has {has}")

    def carry_out(self, role: str) -> Kill:
        """Kill the first process of a role, and wait until the run has recovered.

        ValueError if nothing was killed, or the run has reached its end meanwhile.
        """
        before = self.wait_until_ready()
        victim = self.find(role, before)  # Not the one of the first look, if that was replaced.
        begun = self._clock()
        self._kill(victim)
        after = self._wait_until_over(Recovery(victim.roles, before))
        if after is None:
            return Kill(role=role, killed=str(victim))
        seconds = round(self._clock() - begun, 2)
        return Kill(role=role, killed=str(victim), recovery_s=seconds, lost=losses(before, after))

    def _kill(self, victim: Victim) -> None:
        if victim.node:
            self._processes.kill_node(victim.node)
        elif victim.processes:
            self._processes.kill(victim.processes[0])
        else:
            kill_here(victim.pid, victim.role)

    def _wait_until_over(self, recovery: Recovery) -> Standing | None:
        deadline = self._clock() + self._timeout_s
        while self._clock() < deadline:
            standing = look_at(self._bus)
            if standing is not None and standing.phase in ("testing", "ended"):
                raise ValueError("the run has reached its end meanwhile; try a longer one")
            if standing is not None and recovery.is_over(standing):
                return standing
            self._sleep(_LOOK_PERIOD_S)
        return None

    def crew_here(self) -> list[RoleProcess]:
        """Processes of the run on this machine."""
        return [p for p in self._processes.find() if p.node == self._processes.here]


def end_launcher(
    standing: Standing, crew: Sequence[RoleProcess], folder: RunDir, *, timeout_s: float
) -> Kill:
    """Kill the launcher; how long until none of its roles is left here and it can be resumed.

    To be called when this process has left the run's Ray, which ends with the launcher.
    """
    victim = _find_beside_launcher("coordinator", standing)
    begun = time.monotonic()
    kill_here(victim.pid, victim.role)
    while any(is_alive(p.pid, p.place) for p in crew) or not _is_free(folder):
        if time.monotonic() - begun > timeout_s:
            return Kill(role="coordinator", killed=str(victim))
        time.sleep(_LOOK_PERIOD_S)
    seconds = round(time.monotonic() - begun, 2)
    return Kill(role="coordinator", killed=str(victim), recovery_s=seconds)


def look_at(bus: RedisBus) -> Standing | None:
    """A run as it is; None while it, or Redis, does not answer."""
    try:
        status = bus.status()
        has_weights = bus.newest_version() is not None
    except RedisUnavailableError:
        return None
    return Standing.of(status, has_weights=has_weights) if status is not None else None


def _is_free(folder: RunDir) -> bool:
    """Whether no program carries the run, so that it can be resumed."""
    try:
        with folder.locked():
            return True
    except ValueError:
        return False


def _find_beside_launcher(role: str, standing: Standing) -> Victim:
    if role == "redis" and standing.redis_pid is None:
        raise ValueError("the run uses a Redis that it has not started itself; that one is yours")
    if standing.host != socket.gethostname():
        raise ValueError(
            f"the run's {role} is on {standing.host}, with the launcher; give the command there"
        )
    pid = standing.redis_pid if role == "redis" else standing.pid
    assert pid is not None
    return Victim(role=role, roles=(role,), pid=pid)


def _find_node(everybody: Sequence[RoleProcess], *, here: str) -> Victim:
    nodes = {process.node for process in everybody} - {here}
    if not nodes:
        raise ValueError("all of the run is on the launcher's node, with which it would end")
    crews = {node: tuple(p for p in everybody if p.node == node) for node in nodes}
    node = max(sorted(nodes), key=lambda node: len(crews[node]))
    return Victim(
        role="node", roles=tuple(p.role for p in crews[node]), processes=crews[node], node=node
    )
