#!/usr/bin/env python
"""Train a DQN on a new game, beginning with the weights of a student or an expert.

    python launch/transfer.py --from runs/eight --game breakout --run-dir runs/breakout
    python launch/transfer.py --from runs/eight --game breakout --start-head rescale
    python launch/transfer.py --from none --game breakout          from random weights
    python launch/transfer.py --from runs/eight --game breakout --objective joint
                                                                   held near the student
    python launch/transfer.py --resume runs/breakout

Optimizer, exploration and the filling of replay are the same whatever the network begins with, so
runs of this command can be compared. GAME.safetensors in the run's folder is the best network by
test score, with its card; every option of experts.py is one of this command.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from launch.options.exit_status import run_command, say_it_starts
from recipes.loading import build_config, parse_invocation

_SHORT_FORMS = {"--from": "--start-from", "--game": "--games"}


def main(argv: Sequence[str], *, prog: str = "transfer.py") -> None:
    """Train to the end; ValueError for anything the user got wrong, before anything is written."""
    invocation = parse_invocation(_spell_out(argv), default_preset="transfer")
    config = build_config(invocation, prog=prog, doc=__doc__)
    if len(config.games) != 1:
        raise ValueError(f"transfer.py trains on one game, got {' '.join(config.games)}")
    if config.objective not in ("dqn", "joint"):
        raise ValueError(
            "transfer.py trains by objective dqn, or by joint to hold on to the source, not by "
            f"{config.objective}; for that use launch/multitask.py with --start-from"
        )
    if not config.start_from:
        raise ValueError(
            "name what the network begins with: --from RUN, STUDENT or EXPERT, or --from none"
        )
    (game,) = config.games
    if config.objective == "joint" and not config.teachers:
        if not (source := config.start_of[game]):
            raise ValueError(
                "objective joint holds on to what the network begins with, and --from none has "
                f"nothing: leave --objective out, or name a teacher, --teachers {game}=TEACHER"
            )
        config = replace(config, teachers=(f"{game}={source}",))
    say_it_starts()
    # Not above: they bring torch, and help, or a mistake in the options, is told without.
    from engines.carrying import Order, carry
    from engines.keeping import BestExpert
    from views.screens import TerminalAndPage

    order = Order.of(invocation, config)
    carry(
        order,
        keeper_of=lambda recipe, run_dir: BestExpert(
            recipe, run_dir.path / f"{game}.safetensors", command=run_dir.command
        ),
        screens=TerminalAndPage(),
    )


def _spell_out(argv: Sequence[str]) -> list[str]:
    """Replace `--from SOURCE` and `--game GAME` by the settings that they stand for."""
    words = []
    for option in argv:
        name, separator, value = option.partition("=")
        words.append(_SHORT_FORMS.get(name, name) + separator + value)
    return words


if __name__ == "__main__":
    run_command(main)
