"""Tests of a student or an expert that are played now: whole episodes or so many steps, raw scores.

The tests that a run recorded while it went on are in views/report/recorded.py.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias

from annotated_types import Ge, Interval
from torch import nn

from actors.evaluator import EvaluationResult, evaluate, evaluate_epoch
from games.env import get_protocol
from games.registry import get_game, make_vector_env
from games.spec import human_normalized_score, normalized_score
from recipes.student import StudentTarget, check_games, find_trained
from records.recorded_tests import PAPER_TEST_STEPS, describe_rules, expert_ratio
from teachers.expert import Expert
from views.columns import Columns
from views.words import number, percent, score, spread

# One game's result; its keys are those of `evaluate.py --json`.
Row: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationPlan:
    """How a test is played."""

    # A run or a student, a GAME.safetensors file, a shipped expert's name: find_trained.
    target: str
    # Games of a student that are played; all of its games if empty.
    games: tuple[str, ...]
    num_episodes: Annotated[int, Ge(1)]
    # Steps of each game that are played instead of `num_episodes`; None for whole episodes.
    test_steps: int | None
    epsilon: Annotated[float, Interval(ge=0, le=1)]
    # None for the rules by which the network was trained.
    protocol: str | None
    num_envs: Annotated[int, Ge(1)]
    seed: int
    # Threads of the emulators.
    num_threads: int


@dataclass(frozen=True, slots=True)
class _Contestant:
    """A network that is tested in one game."""

    game: str
    network: nn.Module
    protocol: str
    # Labels the states of the test, for agreement and KL.
    teacher: Expert | None = None
    # Softens the teacher's policy in the KL, as it did when the student learned.
    temperature: float = 1.0
    # Makes the network's own policy of its scores.
    student_temperature: float = 1.0


def play_tests(plan: EvaluationPlan) -> Iterator[tuple[str, Row]]:
    """Each game and its result, as soon as it has been played.

    Raises:
        ValueError: the target is not there or damaged, or does not play a game that is asked for;
            before anything is played.
    """
    for contestant in _contestants(plan):
        yield contestant.game, _row(contestant, _play(contestant, plan), plan)


def _contestants(plan: EvaluationPlan) -> list[_Contestant]:
    found = find_trained(plan.target)
    if not isinstance(found, Expert):
        return _student_contestants(found, plan)
    if plan.games and plan.games != (found.spec.name,):
        raise ValueError(f"{plan.target} plays {found.spec.name} and nothing else")
    return [_Contestant(found.spec.name, found, plan.protocol or found.card.protocol)]


def _student_contestants(found: StudentTarget, plan: EvaluationPlan) -> list[_Contestant]:
    student = found.load()
    return [
        _Contestant(
            game,
            student.act_as(game),
            plan.protocol or found.protocol,
            _teacher(found, game),
            found.temperature(game),
            found.student_temperature(game),
        )
        for game in check_games(plan.games, student.games)
    ]


def _teacher(found: StudentTarget, game: str) -> Expert | None:
    try:
        return found.load_teacher(game)
    except ValueError as error:
        print(f"no comparison with a teacher: {error}", file=sys.stderr)
        return None


def _play(contestant: _Contestant, plan: EvaluationPlan) -> EvaluationResult:
    env = make_vector_env(
        get_game(contestant.game),
        num_envs=plan.num_envs,
        protocol=get_protocol(contestant.protocol),
        seed=plan.seed,
        num_threads=plan.num_threads,
    )
    how: dict[str, Any] = {
        "epsilon": plan.epsilon,
        "seed": plan.seed,
        "teacher": contestant.teacher,
        "temperature": contestant.temperature,
        "student_temperature": contestant.student_temperature,
    }
    try:
        if plan.test_steps is not None:
            return evaluate_epoch(contestant.network, env, num_steps=plan.test_steps, **how)
        return evaluate(contestant.network, env, num_episodes=plan.num_episodes, **how)
    finally:
        env.close()


def _row(contestant: _Contestant, result: EvaluationResult, plan: EvaluationPlan) -> Row:
    spec = get_game(contestant.game)
    row: Row = {
        "protocol": contestant.protocol,
        "epsilon": plan.epsilon,
        "mean": result.mean,
        "std": result.std,
        "max": result.max,
        "episodes": len(result.returns),
        "finished": result.finished,
        "test_steps": plan.test_steps,
        "num_envs": plan.num_envs,
        "steps": result.steps,
        "frames": result.steps * spec.frames_per_step,
        "random": spec.random_score,
        "human": spec.human_score,
        "human_normalized": human_normalized_score(result.mean, spec),
        "agreement": result.agreement,
        "kl": result.kl,
        "teacher_normalized": None,
        "teacher_ratio": None,
    }
    card = contestant.teacher.card if contestant.teacher else None
    claim = card.find_score(protocol=contestant.protocol) if card else None
    if claim is not None:
        row["teacher"] = claim.mean
        row["teacher_normalized"] = normalized_score(result.mean, spec.random_score, claim.mean)
        row["teacher_ratio"] = expert_ratio(result.mean, claim.mean)
    return row


# The table of played tests, whose rows appear as their games end.
TABLE = Columns(
    {
        "game": 15, "score": 16, "best": 7, "episodes": 8, "human-norm.": 11, "teacher": 7,
        "% of teacher": 12, "teacher-norm.": 13, "agreement": 9,
    }
)  # fmt: skip


def table_row(game: str, row: Row) -> str:
    """One game's line of TABLE; a star marks scores of episodes that have not ended."""
    return TABLE.row(
        [
            game,
            spread(row["mean"], row["std"]),
            score(row["max"]),
            f"{number(row['episodes'])}{'' if row['finished'] else '*'}",
            percent(row["human_normalized"]),
            score(row.get("teacher")),
            percent(row["teacher_ratio"]),
            percent(row["teacher_normalized"]),
            percent(row["agreement"]),
        ]
    )


def foot_lines(rows: Mapping[str, Row]) -> list[str]:
    """What the figures of a played table are: one line for each kind of test in it."""
    lines = [f"test: {kind}" for kind in dict.fromkeys(map(_describe_test, rows.values()))]
    if not all(row["finished"] for row in rows.values()):
        lines.append("* unfinished: no episode came to its end within the test")
    return lines


def _describe_test(row: Row) -> str:
    if row["test_steps"] is not None:
        return describe_epoch(row)
    return f"whole episodes, epsilon {row['epsilon']:g}, protocol {row['protocol']}"


def describe_epoch(row: Mapping[str, Any]) -> str:
    """The size and the rules of a test by steps, and each of the paper's that differs."""
    ours, theirs = [f"{row['test_steps']:,} steps"], []
    if row["test_steps"] != PAPER_TEST_STEPS:
        theirs.append(f"{PAPER_TEST_STEPS:,} steps")
    if row["num_envs"] != 1:
        ours[0] += f" by {row['num_envs']} environments"
        theirs.append("one environment")
    rules = describe_rules(epsilon=row["epsilon"], protocol=row["protocol"])
    text = ", ".join([*ours, *rules])
    theirs += rules.values()
    return f"{text} (the paper's: {', '.join(theirs)})" if theirs else f"{text} as in the paper"
