#!/usr/bin/env python
"""Test a run's student or an expert: whole episodes, raw scores.

    python launch/evaluate.py runs/latest --episodes 30
    python launch/evaluate.py runs/latest --test-steps 125000    as in the paper
    python launch/evaluate.py runs/latest --recorded             recorded tests, as in the paper
    python launch/evaluate.py runs/seed1 runs/seed2 --recorded   the same over seeds
    python launch/evaluate.py pong --episodes 30 --json
    python launch/evaluate.py path/to/GAME.safetensors --protocol modern

Scores are raw, as the game counts them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import tyro
from annotated_types import Ge, Interval

from launch.options.command_line import parse_options
from launch.options.exit_status import run_command
from views.words import for_reader

if TYPE_CHECKING:
    from views.evaluation import EvaluationPlan

# Both as in the paper (records/recorded_tests.py), which is not imported for the help.
_EPSILON = 0.05
_LAST = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateOptions:
    """Test a run's student or an expert."""

    targets: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="TARGET")]
    """Folder of a run or of a student, a GAME.safetensors file, hf://OWNER/REPO of either, or the
    name of a game whose expert is shipped; with --recorded, folders of runs (seeds)."""
    games: tuple[str, ...] = ()
    """Games of a student that are played; without, all."""
    episodes: Annotated[int, Ge(1)] | None = None
    """Whole episodes of each game; 30 without."""
    test_steps: Annotated[int, Ge(1)] | None = None
    """Instead of so many episodes: this many steps of each game, scored by the episodes that end in
    them (paper: 125000; 1 step = 4 frames). A smaller number favours short episodes."""
    recorded: bool = False
    """Play nothing: of the tests made while the run went on, the mean of the last ones and the best
    one, as in the paper's table; of several runs, means over them and intervals over all games."""
    last: Annotated[int, Ge(1)] = _LAST
    """With --recorded: tests that are averaged (paper: 10)."""
    epsilon: Annotated[float, Interval(ge=0, le=1)] = _EPSILON
    """Probability of a random action (paper: 0.05)."""
    protocol: str | None = None
    """Rules of the emulator, classic (as in the paper) or modern, or another of games/env.py;
    without, those of the run or the expert's training."""
    num_envs: Annotated[int, Interval(ge=1, le=1024)] | None = None
    """Episodes played at the same time; without, 10, and with --test-steps one, as in the paper."""
    seed: Annotated[int, Ge(0)] = 12345
    """Seed of environments and random actions."""
    threads: Annotated[int, Ge(1)] = 1
    """Threads of the emulators and of the network."""
    json: bool = False
    """Print one JSON object instead of a table."""

    def __post_init__(self) -> None:
        """Refuse options that contradict each other."""
        if not self.targets:
            raise ValueError("no target is named; for example: evaluate.py runs/latest")
        if len(self.targets) > 1 and not self.recorded:
            raise ValueError(
                f"only one target is played, got {len(self.targets)}; several runs go with "
                "--recorded"
            )
        if self.episodes is not None and self.test_steps is not None:
            raise ValueError("episodes and test_steps exclude each other; leave one of them out")
        if self.recorded and (self.episodes or self.test_steps):
            raise ValueError("recorded plays nothing; leave episodes and test_steps out")
        if self.protocol:
            # Brings NumPy, which help does without.
            from games.env import get_protocol

            get_protocol(self.protocol)


def main(argv: Sequence[str], *, prog: str = "evaluate.py") -> None:
    """Play the tests, or read those that were recorded, and print them."""
    options = parse_options(EvaluateOptions, argv, prog=prog, doc=__doc__)
    if options.recorded:
        _print_recorded(options)
    else:
        _print_played(options)


# What plays brings torch, so it is imported when the options have been read.


def _print_recorded(options: EvaluateOptions) -> None:
    from views.report.recorded import read_recorded

    found = read_recorded(options.targets, options.games, last=options.last)
    if options.json:
        print(json.dumps(found.as_document()))
    else:
        print("\n".join(found.as_lines()))


def plan_of(options: EvaluateOptions) -> EvaluationPlan:
    """How the target is played."""
    from views.evaluation import EvaluationPlan

    num_episodes = options.episodes or 30
    in_steps = options.test_steps is not None
    return EvaluationPlan(
        target=options.targets[0],
        games=options.games,
        num_episodes=num_episodes,
        test_steps=options.test_steps,
        epsilon=options.epsilon,
        protocol=options.protocol,
        num_envs=options.num_envs or 1 if in_steps else min(options.num_envs or 10, num_episodes),
        seed=options.seed,
        num_threads=options.threads,
    )


def _print_played(options: EvaluateOptions) -> None:
    import torch

    from views.evaluation import TABLE, Row, foot_lines, play_tests, table_row

    torch.set_num_threads(options.threads)
    rows: dict[str, Row] = {}
    for game, row in play_tests(plan_of(options)):
        if not options.json:
            # A line as soon as its game has been played, which takes a minute or more.
            lines = [table_row(game, row)] if rows else [TABLE.head, table_row(game, row)]
            print(for_reader("\n".join(lines), sys.stdout), flush=True)
        rows[game] = row
    if options.json:
        print(json.dumps({"target": options.targets[0], "epsilon": options.epsilon, "games": rows}))
    else:
        print("\n".join(foot_lines(rows)))


if __name__ == "__main__":
    run_command(main)
