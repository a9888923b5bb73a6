#!/usr/bin/env python
"""Teach one student network to play several games (Actor-Mimic).

    python launch/multitask.py                          the quickstart preset, on this machine
    python launch/multitask.py --preset amn_8games --run-dir runs/eight
    python launch/multitask.py --resume runs/eight
    python launch/multitask.py --actors 2 --balance     actors go to the games that need them

Every setting is an option: see --help.
"""

from __future__ import annotations

from collections.abc import Sequence

from launch.options.exit_status import run_command, say_it_starts
from recipes.loading import build_config, parse_invocation


def main(argv: Sequence[str], *, prog: str = "multitask.py") -> None:
    """Run to the end; ValueError for anything the user got wrong, before anything is written."""
    invocation = parse_invocation(_spell_out(argv), default_preset="quickstart")
    config = build_config(invocation, prog=prog, doc=__doc__)
    say_it_starts()
    # Not above: they bring torch, and help, or a mistake in the options, is told without.
    from engines.carrying import Order, carry
    from engines.keeping import NewestStudent
    from views.screens import TerminalAndPage

    order = Order.of(invocation, config)
    carry(
        order,
        keeper_of=lambda recipe, run_dir: NewestStudent(recipe, run_dir.student),
        screens=TerminalAndPage(),
    )


def _spell_out(argv: Sequence[str]) -> list[str]:
    """Replace the short form `--balance` by the setting that it stands for."""
    words: list[str] = []
    for word in argv:
        words += ["--balance.enabled", "True"] if word == "--balance" else [word]
    return words


if __name__ == "__main__":
    run_command(main)
