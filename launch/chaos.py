#!/usr/bin/env python
"""Kill processes of a run that goes on, one at a time, and measure how soon it recovers.

    python launch/chaos.py runs/latest                          actor, shard, learner, Redis
    python launch/chaos.py runs/latest --roles learner shard --yes
    python launch/chaos.py runs/latest --roles node --yes       a node that is not the head
    python launch/chaos.py runs/latest --roles coordinator      the run ends; --resume goes on

For trying out your own cluster. It is kill -9, for real: a run loses what docs/cluster.md says
that it may lose, and goes on. Give it on the run's own machine, or on a node of its cluster.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from benchmarks.disruption.kill import is_here
from benchmarks.disruption.recovery import Standing, has_recovered, losses
from benchmarks.disruption.targets import Target, find_target, kill, reached
from engines.on_redis.asking import find_run
from engines.on_redis.bus import RedisBus
from engines.on_redis.link import RedisUnavailableError
from launch.options.exit_status import run_command
from launch.options.of_a_run import add_redis_url, add_timeout, parse_run_options, run_parser
from networks.quiet_logs import errors_only
from records.process_id import RoleProcess, find_process
from records.run_dir import RunDir

_DEFAULT_ROLES = ("actor", "shard", "learner", "inference", "redis")
_ROLES = (*_DEFAULT_ROLES, "node", "coordinator")
_LOOK_PERIOD_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one kill."""

    role: str
    killed: str
    recovery_s: float | None
    """From when its death was asked for until its work was counted again; None if that was not in
    time."""
    lost: dict[str, int]


def main(argv: Sequence[str]) -> None:
    """Kill and measure; status 1 if something has not recovered, ValueError for a mistake."""
    options = _parse(argv)
    with (
        # That it is away for a while is what is to be seen.
        errors_only("engines.on_redis.link"),
        find_run(options.run, redis_url=options.redis_url) as bus,
    ):
        run = Run(bus, timeout_s=options.timeout_s)
        standing = run.wait_until_ready()
        roles = options.roles or [r for r in _DEFAULT_ROLES if standing.of_role(r)]
        targets = [find_target(standing, role) for role in roles]
        with reached(targets):
            pass  # What cannot be killed from here is said before anybody is asked.
        _confirm(targets, options)
        outcomes: list[Outcome] = []
        for role in roles:
            if role == "coordinator":
                outcomes.append(_end_coordinator(run, RunDir.open_carried(options.run)))
            else:
                outcomes.append(_try(run, role))
            print(f"{outcomes[-1].killed}: {_describe(outcomes[-1])}", flush=True)
            if outcomes[-1].recovery_s is None:
                break  # What is down already is not hit again.
    _print_table(outcomes)
    if options.json:
        print(json.dumps({"run": options.run, "kills": [asdict(o) for o in outcomes]}))
    if any(outcome.recovery_s is None for outcome in outcomes):
        sys.exit(1)


class Run:
    """A run, looked at from outside."""

    def __init__(
        self,
        bus: RedisBus,
        *,
        timeout_s: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`timeout_s`: the longest wait for anything."""
        self._bus = bus
        self.timeout_s = timeout_s
        self._clock = clock
        self._sleep = sleep

    def look(self) -> Standing | None:
        """The run as it is; None while it, or Redis, does not answer."""
        try:
            status = self._bus.status()
            has_weights = self._bus.newest_version() is not None
        except RedisUnavailableError:
            return None
        return Standing.of(status, has_weights=has_weights) if status is not None else None

    def wait_until_ready(self) -> Standing:
        """The run when all of its processes are at work.

        Raises:
            ValueError: it has reached its end, or is not ready in time; with what is missing.
        """
        deadline = self._clock() + self.timeout_s
        while True:
            standing = self.look()
            if standing is not None and not standing.unready:
                return standing
            if standing is not None and standing.phase in ("testing", "ended"):
                raise ValueError("the run has reached its end; there is nothing left to kill")
            if self._clock() >= deadline:
                why = standing.unready if standing is not None else "it does not answer"
                raise ValueError(
                    f"the run is not whole within {self.timeout_s:g} s ({why}); nothing more is "
                    "killed"
                )
            self._sleep(_LOOK_PERIOD_S)

    def wait_until_recovered(
        self, killed: Sequence[RoleProcess], before: Standing
    ) -> Standing | None:
        """The run as soon as it has recovered; None if it has not in time.

        Raises:
            ValueError: it has reached its end meanwhile.
        """
        deadline = self._clock() + self.timeout_s
        while self._clock() < deadline:
            standing = self.look()
            if standing is not None and standing.phase in ("testing", "ended"):
                raise ValueError("the run has reached its end meanwhile; try a longer one")
            if standing is not None and has_recovered(killed, before, standing):
                return standing
            self._sleep(_LOOK_PERIOD_S)
        return None


def _confirm(targets: Sequence[Target], options: argparse.Namespace) -> None:
    print("kill -9, one at a time: " + "; ".join(map(str, targets)))
    if options.yes:
        return
    if not sys.stdin.isatty():
        raise ValueError("this kills processes of the run; add --yes to say that you mean it")
    try:
        answer = input("go on? [y/N] ")
    except EOFError:  # Ctrl-D.
        answer = ""
    if answer.strip().lower() not in ("y", "yes"):
        raise ValueError("nothing was killed")


def _try(run: Run, role: str) -> Outcome:
    before = run.wait_until_ready()
    target = find_target(before, role)
    # Since the first look it may be elsewhere, or another node.
    with reached([target]):
        # Before the kill: how long Ray takes to notice that a node has gone counts, too.
        begun = time.monotonic()
        kill(target)
        after = run.wait_until_recovered(target.processes, before)
        seconds = round(time.monotonic() - begun, 2)
    return Outcome(
        role=role,
        killed=str(target),
        recovery_s=seconds if after else None,
        lost=losses(before, after) if after else {},
    )


def _end_coordinator(run: Run, folder: RunDir) -> Outcome:
    """Kill the launcher; how long until no role is left on its machine and it can be resumed."""
    before = run.wait_until_ready()
    target = find_target(before, "coordinator")
    with reached([target]):
        begun = time.monotonic()
        kill(target)
    here = [p.process for p in before.processes if is_here(p)]
    while any(find_process(p.pid, node=p.node) == p for p in here) or not _is_free(folder):
        if time.monotonic() - begun > run.timeout_s:
            return Outcome(role="coordinator", killed=str(target), recovery_s=None, lost={})
        time.sleep(_LOOK_PERIOD_S)
    seconds = round(time.monotonic() - begun, 2)
    return Outcome(role="coordinator", killed=str(target), recovery_s=seconds, lost={})


def _is_free(folder: RunDir) -> bool:
    try:
        with folder.locked():
            return True
    except ValueError:
        return False


def _describe(outcome: Outcome) -> str:
    if outcome.recovery_s is None:
        return "NOT RECOVERED in time"
    if outcome.role == "coordinator":
        return f"none of its roles was left after {outcome.recovery_s:.1f} s; go on with --resume"
    return f"counted again after {outcome.recovery_s:.1f} s"


def _print_table(outcomes: Sequence[Outcome]) -> None:
    width = max(len(outcome.killed) for outcome in outcomes)
    print(f"\n{'killed':<{width}}  recovered after  lost")
    for outcome in outcomes:
        late = outcome.recovery_s is None
        after = "not in time" if late else f"{outcome.recovery_s:.1f} s"
        lost = ", ".join(
            f"{number:,} {_noun(kind, number)}" for kind, number in outcome.lost.items() if number
        )
        print(f"{outcome.killed:<{width}}  {after:>15}  {lost or '-'}")


def _noun(kind: str, number: int) -> str:
    nouns = kind.removesuffix("_lost")
    return nouns.removesuffix("s") if number == 1 else nouns


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = run_parser(
        "chaos.py",
        "Kill processes of a run that goes on, one at a time, with SIGKILL, and "
        "measure how soon it recovers.",
    )
    parser.add_argument(
        "--roles",
        nargs="+",
        default=[],
        metavar="ROLE",
        help=f"of {', '.join(_ROLES)}, or actor/GAME; without, all that the run has of "
        f"{', '.join(_DEFAULT_ROLES)}",
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--json", action="store_true", help="the last line as JSON")
    add_timeout(parser, default_s=120.0, of="a recovery")
    add_redis_url(parser)
    options = parse_run_options(parser, argv)
    _check_roles(options.roles)
    return options


def _check_roles(roles: Sequence[str]) -> None:
    for role in roles:
        if role not in _ROLES and not role.startswith("actor/"):
            raise ValueError(f"unknown role {role!r}; choose of {', '.join(_ROLES)}, actor/GAME")
    if "coordinator" in roles[:-1]:
        raise ValueError("the run ends with its coordinator; name that role last")


if __name__ == "__main__":
    run_command(main)
