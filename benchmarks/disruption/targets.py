"""What launch/chaos.py kills at once: one process, or all that a run has on one node."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from benchmarks.disruption.kill import is_here, kill_here
from benchmarks.disruption.recovery import Standing
from records.process_id import RoleProcess


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What is killed at once."""

    name: str
    processes: tuple[RoleProcess, ...]
    """More than one of a node."""
    node: str = ""
    """If a whole node is to die."""

    def __str__(self) -> str:
        """In words."""
        if self.node:
            places = ", ".join(p.place for p in self.processes)
            return f"node {self.node[:8]} with {places}"
        (only,) = self.processes
        where = "" if is_here(only) else f" on node {only.process.node[:8]}"
        return f"{only.place} (pid {only.process.pid}{where})"


def find_target(standing: Standing, role: str) -> Target:
    """The first process of a role, or a node.

    Raises:
        ValueError: the run has none that may be killed.
    """
    if role == "node":
        return _find_node(standing)
    found = standing.of_role(role)
    if found:
        return Target(name=role, processes=(found[0],))
    if role == "redis":
        raise ValueError("the run uses a Redis that it has not started itself; that one is yours")
    has = sorted({p.role for p in standing.processes})
    raise ValueError(f"the run has no process of role {role!r}; it has {', '.join(has)}")


def _find_node(standing: Standing) -> Target:
    (coordinator,) = standing.of_role("coordinator")
    nodes = {p.process.node for p in standing.processes} - {"", coordinator.process.node}
    if not nodes:
        raise ValueError("all of the run is on the launcher's node, with which it would end")
    crews = {node: tuple(p for p in standing.processes if p.process.node == node) for node in nodes}
    node = max(sorted(nodes), key=lambda node: len(crews[node]))
    return Target(name="node", processes=crews[node], node=node)


@contextmanager
def reached(targets: Sequence[Target]) -> Iterator[None]:
    """Be connected to Ray, inside the `with` block, if any target is not on this machine.

    Raises:
        ValueError: that cannot be, or a target is not to be killed from here.
    """
    if any(t.name == "coordinator" and not is_here(t.processes[0]) for t in targets):
        raise ValueError(
            "the launcher is on another machine, and only there can be seen what it leaves behind; "
            "give the command there"
        )
    nodes = {
        p.process.node
        for target in targets
        for p in target.processes
        if target.node or not is_here(p)
    }
    if not nodes:
        yield
        return
    if "" in nodes:
        raise ValueError("the run's Redis is on the launcher's machine; give the command there")
    from benchmarks.disruption.nodes import connected, is_head

    with connected(nodes):
        if any(target.node and is_head(target.node) for target in targets):
            raise ValueError(
                "the node is the head of the cluster, with which all would end; name other roles"
            )
        yield


def kill(target: Target) -> None:
    """SIGKILL, wherever it is; to be called inside `reached`.

    Raises:
        ValueError: it is not what the run says, and nothing was killed; or it has not ended.
    """
    if target.node:
        from benchmarks.disruption.nodes import kill_node

        kill_node(target.node)
        return
    (only,) = target.processes
    if is_here(only):
        kill_here(only)
        return
    from benchmarks.disruption.nodes import kill_there

    kill_there(only)
