"""Tests of students and experts, as launch/evaluate.py plays them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from recipes.ranges import check_ranges
from records.latest import follow_latest
from views.evaluation import EvaluationPlan, Row, play_tests


def evaluate(
    target: str | Path,
    *,
    games: str | Sequence[str] = (),
    episodes: int = 30,
    epsilon: float = 0.05,
    protocol: str | None = None,
    seed: int = 1,
    num_envs: int = 8,
) -> dict[str, Row]:
    """Play whole episodes and return each game's scores: raw, human- and teacher-normalized.

    Args:
        target: folder of a run or a student, a GAME.safetensors file, or a shipped expert's game.
        games: of a student, one or several; all of its games if empty.
        episodes: of each game.
        epsilon: share of random actions.
        protocol: rules (games.env.PROTOCOLS); None for those that the network was trained by.
        seed: of the games.
        num_envs: episodes that are played side by side, at most.

    Returns:
        By game, the fields of `evaluate.py --json`: mean, std, episodes, human_normalized,
        teacher_normalized, agreement, ...

    Raises:
        ValueError: the target is not there or damaged, or does not play a game that is asked for;
            or a number is out of its range.
    """
    plan = EvaluationPlan(
        target=follow_latest(target),
        games=(games,) if isinstance(games, str) else tuple(games),
        num_episodes=episodes,
        test_steps=None,
        epsilon=epsilon,
        protocol=protocol,
        num_envs=num_envs,
        seed=seed,
        num_threads=1,
    )
    check_ranges(plan)
    return dict(play_tests(replace(plan, num_envs=min(num_envs, episodes))))
