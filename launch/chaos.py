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

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, TextIO

from annotated_types import Gt

from launch.options.command_line import RunOptions, parse_options
from launch.options.exit_status import run_command
from views.columns import table_lines

if TYPE_CHECKING:
    from engines.chaos.trial import Kill, Victim
    from engines.on_redis.bus import RedisBus
    from records.run_dir import RunDir

_DEFAULT_ROLES = ("actor", "shard", "learner", "inference", "redis")
_ROLES = (*_DEFAULT_ROLES, "node", "coordinator")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChaosOptions(RunOptions):
    """Kill processes of a run that goes on, one at a time, and measure how soon it recovers."""

    roles: tuple[str, ...] = ()
    """What to kill: actor, shard, learner, inference, redis, node, coordinator, or actor/GAME;
    without, all of the first five that the run has."""
    yes: bool = False
    """Do not ask before killing."""
    json: bool = False
    """JSON on standard output; what is done goes to standard error."""
    timeout_s: Annotated[float, Gt(0)] = 120.0
    """Longest wait for a recovery, in seconds."""

    def __post_init__(self) -> None:
        """Refuse unknown roles, and a coordinator that is not killed last."""
        for role in self.roles:
            if role not in _ROLES and not role.startswith("actor/"):
                raise ValueError(
                    f"unknown role {role!r}; choose of {', '.join(_ROLES)}, actor/GAME"
                )
        if "coordinator" in self.roles[:-1]:
            raise ValueError("the run ends with its coordinator; name that role last")


def main(argv: Sequence[str], *, prog: str = "chaos.py") -> None:
    """Kill and measure; status 1 if something has not recovered, ValueError for a mistake."""
    options = parse_options(ChaosOptions, argv, prog=prog, doc=__doc__)
    # Not above, here and below: they bring torch and Ray, which help need not wait for.
    from engines.on_redis.asking import find_run
    from networks.quiet_logs import errors_only
    from records.run_dir import RunDir

    # Whoever reads the JSON wants nothing else there.
    told = sys.stderr if options.json else sys.stdout
    with (
        # That it is away for a while is what is to be seen.
        errors_only("engines.on_redis.link"),
        find_run(options.run, redis_url=options.redis_url) as bus,
    ):
        kills = _kill_all(bus, RunDir.open_carried(options.run), options, told)
    if options.json:
        print(json.dumps({"run": options.run, "kills": [asdict(kill) for kill in kills]}))
    else:
        _print_table(kills)
    if any(kill.recovery_s is None for kill in kills):
        sys.exit(1)


def _kill_all(bus: RedisBus, folder: RunDir, options: ChaosOptions, told: TextIO) -> list[Kill]:
    from engines.chaos.processes import joined
    from engines.chaos.trial import Trial, end_launcher, look_at

    standing = look_at(bus)
    if standing is None:
        raise ValueError("the run does not answer; perhaps it has ended")
    kills: list[Kill] = []
    with joined(standing.ray, folder.redis_name) as processes:
        trial = Trial(bus, processes, timeout_s=options.timeout_s)
        standing = trial.wait_until_ready()
        has = trial.roles(standing)
        roles = options.roles or [role for role in _DEFAULT_ROLES if role in has]
        _confirm([trial.find(role, standing) for role in roles], options, told)
        for role in roles:
            # What is down already is not hit again.
            if role != "coordinator" and all(kill.recovery_s is not None for kill in kills):
                kills.append(trial.carry_out(role))
                _tell(kills[-1], told)
        crew = trial.crew_here()
        if "coordinator" in roles:
            standing = trial.wait_until_ready()
    if "coordinator" in roles and all(kill.recovery_s is not None for kill in kills):
        kills.append(end_launcher(standing, crew, folder, timeout_s=options.timeout_s))
        _tell(kills[-1], told)
    return kills


def _tell(kill: Kill, told: TextIO) -> None:
    print(f"{kill.killed}: {_describe(kill)}", file=told, flush=True)


def _confirm(victims: Sequence[Victim], options: ChaosOptions, told: TextIO) -> None:
    print("kill -9, one at a time: " + "; ".join(map(str, victims)), file=told, flush=True)
    if options.yes:
        return
    if not sys.stdin.isatty():
        raise ValueError("this kills processes of the run; add --yes to say that you mean it")
    print("go on? [y/N] ", end="", file=told, flush=True)
    # An empty line is Ctrl-D.
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise ValueError("nothing was killed")


def _describe(kill: Kill) -> str:
    if kill.recovery_s is None:
        return "NOT RECOVERED in time"
    if kill.role == "coordinator":
        return f"none of its roles was left after {kill.recovery_s:.1f} s; go on with --resume"
    return f"counted again after {kill.recovery_s:.1f} s"


def _print_table(kills: Sequence[Kill]) -> None:
    rows = []
    for kill in kills:
        after = "not in time" if kill.recovery_s is None else f"{kill.recovery_s:.1f} s"
        lost = ", ".join(
            f"{number:,} {_noun(kind, number)}" for kind, number in kill.lost.items() if number
        )
        rows.append([kill.killed, after, lost or "-"])
    print("", *table_lines(["killed", "recovered after", "lost"], rows), sep="\n")


def _noun(kind: str, number: int) -> str:
    nouns = kind.removesuffix("_lost")
    return nouns.removesuffix("s") if number == 1 else nouns


if __name__ == "__main__":
    run_command(main)
