#!/usr/bin/env python
"""Train several runs that learn from each other: population-based training.

    python launch/population.py --objective joint --members 4 --run-dir runs/four
    python launch/population.py --objective actor_critic --tune distillation.weight
    python launch/population.py --engine local ...      members take turns in this process
    python launch/population.py --resume runs/four

Every member is a run in RUN/members/K. After each slice it is tested and compared with another one:
if that is clearly better, it goes on from its weights and its optimizer's state, and then changes
its settings a little. The best member's network is the run's student. Every other option is one of
multitask.py; docs/populations.md says more.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from launch.options.exit_status import run_command, say_it_starts
from recipes.config import RunConfig
from recipes.loading import HELP_WORDS, LONG_HELP_WORDS, build_config, parse_invocation
from recipes.population import (
    PopulationConfig,
    check_same_population,
    parse_population,
    population_of,
)
from recipes.settings import list_settings, long_lines, short_lines
from records.run_dir import RunDir

if TYPE_CHECKING:
    from engines.population.carrying import Population

# Only for launchers of populations: go on with one member of the population that is resumed.
_ONLY_MEMBER = "--only-member"


def main(argv: Sequence[str], *, prog: str = "population.py") -> None:
    """Run to the end; ValueError for anything the user got wrong, before anything is written."""
    member, words = _take_member(argv)
    invocation = parse_invocation(words, default_preset="quickstart")
    base = population_of(invocation.resumed) if invocation.resumed else None
    helps = [word for word in invocation.options if word in HELP_WORDS]
    own = [word for word in invocation.options if word not in HELP_WORDS]
    population, options = parse_population(own, prog=prog, base=base)
    config = build_config(
        replace(invocation, options=(*options, *helps)), prog=prog, doc=_doc(population, helps)
    )
    if base is not None:
        check_same_population(base, population)
    if member is not None:
        if invocation.resumed is None:
            raise ValueError(f"{_ONLY_MEMBER} goes on with a population; name it with --resume")
        _carry_member(member, invocation.resumed, config, population)
        return
    say_it_starts()
    # Not above, here and below: they bring torch, and help, or a mistake in the options, is told
    # without.
    from engines.carrying import Order
    from engines.population.carrying import prepare_population, write_settings
    from engines.population.conclusion import conclude
    from views.screens import TerminalAndPage

    order = Order.of(invocation, config)
    with ExitStack() as stack:
        if order.resumed is not None:
            stack.enter_context(order.resumed.locked())
        ready = prepare_population(order, population, note=_tell)
        if order.resumed is None:
            stack.enter_context(ready.run.locked())
        write_settings(ready)
        outcome = conclude(ready, _carry(ready))
        screens = TerminalAndPage()
        screens.open_display(ready.config, stack).finish(ready.run.read_summary())
    _tell(f"the student is member {outcome.student_of}'s: {ready.run.student}")
    if ready.config.report_at_end:
        screens.report(ready.run)


def _carry(population: Population) -> dict[int, str]:
    """Carry all members to their ends; returns why some were lost."""
    from engines.population.carrying import carry_in_turns
    from engines.population.side_by_side import SideBySide
    from studies.runner import through_jobs
    from views.members import MemberScreens

    if not population.is_side_by_side:
        return carry_in_turns(population, MemberScreens)

    def command(number: int) -> list[str]:
        words = ["--resume", str(population.run.path), _ONLY_MEMBER, str(number)]
        own = [sys.executable, str(Path(__file__).resolve()), *words]
        address = population.plan.config.address
        return (
            through_jobs(address, f"{population.run.redis_name}-{number}", own) if address else own
        )

    return SideBySide(population, command).carry()


def _carry_member(
    number: int, run: RunDir, config: RunConfig, population: PopulationConfig
) -> None:
    """Carry one member to its end, for a launcher that carries the population."""
    from engines.population.carrying import open_population
    from engines.slices import run_through
    from views.members import MemberScreens

    members = open_population(run, config, population)
    if number not in members.members:
        raise ValueError(f"the population has {len(members.members)} members, from 0; not {number}")
    run_through(members.carry_member(number, MemberScreens(number)))


def _take_member(argv: Sequence[str]) -> tuple[int | None, list[str]]:
    """The member that is to be carried alone, if one is, and the other words."""
    words = list(argv)
    if _ONLY_MEMBER not in words:
        return None, words
    place = words.index(_ONLY_MEMBER)
    value = words[place + 1] if place + 1 < len(words) else ""
    if not value.isdecimal():
        raise ValueError(f"{_ONLY_MEMBER} needs the number of a member, not {value!r}")
    number = int(value)
    del words[place : place + 2]
    return number, words


def _doc(population: PopulationConfig, helps: Sequence[str]) -> str:
    """What stands above the options of a run in the help."""
    groups = list_settings(PopulationConfig, population)
    lines = (long_lines if LONG_HELP_WORDS.intersection(helps) else short_lines)(groups)
    return "\n".join([__doc__ or "", "Options of the population:", *lines])


def _tell(line: str) -> None:
    # Flushed, so that a population in the background can be followed in its log.
    print(line, flush=True)


if __name__ == "__main__":
    run_command(main)
