#!/usr/bin/env python
"""Train experts: one n-step double DQN per game, on the same actors, replay and learner.

    python launch/experts.py --games pong boxing --run-dir runs/experts
    python launch/experts.py --resume runs/experts

Each game is a run of its own, in a folder GAME of the command's: checkpoints, metrics, summary,
report, and GAME.safetensors with its card, the best weights so far by test score, kept apart from
the newest. At the end these are tested again, so that the card's scores are not the lucky ones
they were chosen by.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from launch.options.exit_status import run_command, say_it_starts
from recipes.config import RunConfig
from recipes.loading import build_config, dump_config, parse_invocation
from records.run_dir import RunDir

if TYPE_CHECKING:
    from engines.carrying import Order


def main(argv: Sequence[str], *, prog: str = "experts.py") -> None:
    """Train every game to its end, one after the other."""
    invocation = parse_invocation(argv, default_preset="experts")
    config = build_config(invocation, prog=prog, doc=__doc__).with_absolute_paths()
    if invocation.resumed is not None:
        _check_layout(invocation.resumed)
    if config.objective != "dqn":
        raise ValueError(
            f"experts learn from rewards alone, not by objective {config.objective}; use "
            f"launch/multitask.py --objective {config.objective}"
        )
    say_it_starts()
    # Not above, here and below: it brings torch, and help is shown without.
    from engines.carrying import check_order

    for game in config.games:
        check_order(_order(config, game, invocation.resumed))
    run = invocation.resumed or RunDir.create(
        config.run_dir,
        preset=invocation.preset,
        config_text=dump_config(config),
        seed=config.seed,
        games=config.games,
    )
    with run.locked():
        run.write_config(dump_config(config))
        for game in config.games:
            _train(config, game, run)


def _train(config: RunConfig, game: str, run: RunDir) -> None:
    """Train one game's expert to its end, unless an earlier session has done so."""
    from engines.carrying import carry
    from engines.keeping import BestExpert, describe_expert, is_concluded
    from teachers.expert import load_expert
    from views.screens import TerminalAndPage

    path = run.path / game / f"{game}.safetensors"
    order = _order(config, game, run)
    if not (is_concluded(path) and order.resumed is not None and _has_ended(order)):
        carry(
            order,
            # The command that began the training, not one that went on with it.
            keeper_of=lambda recipe, _: BestExpert(recipe, path, command=run.command),
            screens=TerminalAndPage(),
        )
    print(f"{describe_expert(load_expert(path))}\n{path}")


def _order(config: RunConfig, game: str, run: RunDir | None) -> Order:
    """One game's part of the command, to be resumed if it was begun."""
    from engines.carrying import Order

    part = config.for_games(game)
    if run is None:
        return Order(config=part, preset="experts")
    folder = run.path / game
    begun = RunDir.open_existing(folder) if (folder / "meta.json").is_file() else None
    return Order(config=part, preset="experts", folder=folder, resumed=begun)


def _has_ended(order: Order) -> bool:
    assert order.resumed is not None
    path = order.resumed.summary_path
    return path.is_file() and json.loads(path.read_text())["updates"] >= order.config.num_updates


def _check_layout(run: RunDir) -> None:
    """Raises ValueError for a folder whose games are no runs of their own."""
    if not run.games:
        raise ValueError(
            f"{run.path} was written by an earlier version, or is not a folder of experts; train "
            "anew into another folder (experts that it holds can still be used as teachers)"
        )


if __name__ == "__main__":
    run_command(main)
