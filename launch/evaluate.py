#!/usr/bin/env python
"""Test a run's student or an expert: whole episodes, raw scores.

python launch/evaluate.py runs/latest --episodes 30
python launch/evaluate.py runs/latest --test-steps 125000     as in the paper
python launch/evaluate.py runs/latest --recorded              the paper's statistics, nothing played
python launch/evaluate.py pong --episodes 30 --json
python launch/evaluate.py path/to/GAME.safetensors --protocol modern
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from torch import nn

from actors.evaluator import EvaluationResult, evaluate, evaluate_epoch
from games.env import get_protocol
from games.registry import get_game, make_vector_env
from games.spec import human_normalized_score, normalized_score
from launch.options.cli import run_command
from launch.options.errors import parse_or_fail
from launch.options.student import StudentTarget, find_student
from launch.records.run_record import RunRecord, read_run
from launch.records.run_statistics import PAPER_EPOCHS, summarize_epochs
from launch.records.summary import score_ratio
from teachers.expert import Expert
from teachers.references import load_teacher

PAPER_TEST_STEPS = 125_000
"""Steps of one test of one game in the Actor-Mimic paper."""
_DEFAULT_EPISODES = 30
_DEFAULT_NUM_ENVS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateOptions:
    """Test a run's student or an expert."""

    target: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="TARGET")]
    """Folder of a run or of a student, a GAME.safetensors file, or the name of a game whose expert
    is shipped."""
    games: tuple[str, ...] = ()
    """Of a student: the games to play; all without."""
    episodes: int | None = None
    """Whole episodes of each game; 30 without."""
    test_steps: int | None = None
    """Instead of so many episodes: this many steps of each game, scored by the episodes that end in
    them (paper: 125000; 1 step = 4 frames). A smaller number favours short episodes."""
    recorded: bool = False
    """Play nothing: of the tests made while the run went on, the mean of the last ones and the best
    one, as in the paper's table."""
    last: int = PAPER_EPOCHS
    """With --recorded: tests that are averaged (paper: 10)."""
    epsilon: float = 0.05
    """Probability of a random action (paper: 0.05)."""
    protocol: str | None = None
    """Rules of the emulator, classic (as in the paper) or modern, or another of games/env.py;
    without, those of the run or the expert's training."""
    num_envs: int | None = None
    """Episodes played at the same time; without, 10, and with --test-steps one, as in the paper."""
    seed: int = 12345
    """Of environments and random actions."""
    threads: int = 1
    """Threads of the emulators and of the network."""
    json: bool = False
    """Print one JSON object instead of a table."""

    def __post_init__(self) -> None:
        """Refuse values that make no sense, naming them."""
        for name in ("episodes", "test_steps", "last", "num_envs", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if self.episodes is not None and self.test_steps is not None:
            raise ValueError("episodes and test_steps exclude each other; leave one of them out")
        if self.recorded and (self.episodes or self.test_steps):
            raise ValueError("recorded plays nothing; leave episodes and test_steps out")
        if not 0.0 <= self.epsilon <= 1.0:
            raise ValueError(f"epsilon must lie between 0 and 1, got {self.epsilon}")
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, got {self.seed}")
        if self.protocol is not None:
            get_protocol(self.protocol)

    @property
    def num_episodes(self) -> int:
        """Whole episodes of each game, where steps are not counted."""
        return _DEFAULT_EPISODES if self.episodes is None else self.episodes

    @property
    def width(self) -> int:
        """Environments of one game."""
        if self.test_steps is not None:
            return self.num_envs or 1
        return min(self.num_envs or _DEFAULT_NUM_ENVS, self.num_episodes)


def main(argv: Sequence[str]) -> None:
    """Play and print."""
    options = parse_or_fail(
        lambda: tyro.cli(EvaluateOptions, args=argv, prog="evaluate.py"), prog="evaluate.py"
    )
    torch.set_num_threads(options.threads)
    rows = {}
    for game, row in _recorded(options) if options.recorded else _tested(options):
        rows[game] = row
        if not options.json:
            print(_recorded_line(game, row) if options.recorded else _line(game, row), flush=True)
    if options.json:
        print(json.dumps({"target": options.target, "epsilon": options.epsilon, "games": rows}))


@dataclass(frozen=True, slots=True)
class _Contestant:
    """A network that is tested in one game."""

    game: str
    network: nn.Module
    protocol: str
    teacher: Expert | None = None
    """To compare with."""
    temperature: float = 1.0
    """Of the teacher's policy in the KL: the one that the student was taught with."""


def _tested(options: EvaluateOptions) -> Iterator[tuple[str, dict[str, Any]]]:
    for contestant in _contestants(options):
        yield contestant.game, _row(contestant, _play(contestant, options), options)


def _contestants(options: EvaluateOptions) -> Iterator[_Contestant]:
    folder = Path(options.target)
    if not folder.is_dir():
        expert = load_teacher(options.target)
        if options.games and options.games != (expert.spec.name,):
            raise ValueError(f"{options.target} plays {expert.spec.name} and nothing else")
        yield _Contestant(expert.spec.name, expert, options.protocol or expert.card.protocol)
        return
    found = find_student(folder)
    student = found.load()
    for game in _checked(options.games, student.games):
        yield _Contestant(
            game,
            student.act_as(game),
            options.protocol or found.protocol,
            _teacher(found, game),
            found.temperature(game),
        )


def _checked(wanted: Sequence[str], there: Sequence[str]) -> Sequence[str]:
    """The games that are wanted, before any of them is played; all without."""
    for game in wanted:
        if game not in there:
            raise ValueError(f"the student does not play {game!r}; it has {', '.join(there)}")
    return wanted or there


def _teacher(found: StudentTarget, game: str) -> Expert | None:
    try:
        return found.load_teacher(game)
    except ValueError as error:
        print(f"no comparison with a teacher: {error}", file=sys.stderr)
        return None


def _play(contestant: _Contestant, options: EvaluateOptions) -> EvaluationResult:
    env = make_vector_env(
        get_game(contestant.game),
        num_envs=options.width,
        protocol=get_protocol(contestant.protocol),
        seed=options.seed,
        num_threads=options.threads,
    )
    try:
        if options.test_steps is not None:
            return evaluate_epoch(
                contestant.network,
                env,
                num_steps=options.test_steps,
                epsilon=options.epsilon,
                seed=options.seed,
                teacher=contestant.teacher,
                temperature=contestant.temperature,
            )
        return evaluate(
            contestant.network,
            env,
            num_episodes=options.num_episodes,
            epsilon=options.epsilon,
            seed=options.seed,
            teacher=contestant.teacher,
            temperature=contestant.temperature,
        )
    finally:
        env.close()


def _row(
    contestant: _Contestant, result: EvaluationResult, options: EvaluateOptions
) -> dict[str, Any]:
    spec = get_game(contestant.game)
    row: dict[str, Any] = {
        "protocol": contestant.protocol,
        "mean": result.mean,
        "std": result.std,
        "max": result.max,
        "episodes": len(result.returns),
        "finished": result.finished,
        "test_steps": options.test_steps,
        "num_envs": options.width,
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
    score = card.find_score(protocol=contestant.protocol) if card else None
    if score is not None:
        row["teacher"] = score.mean
        row["teacher_normalized"] = normalized_score(result.mean, spec.random_score, score.mean)
        row["teacher_ratio"] = score_ratio(result.mean, score.mean)
    return row


def _line(game: str, row: dict[str, Any]) -> str:
    kind = "episodes" if row["finished"] else "unfinished episodes (none came to its end)"
    text = f"{game}: {row['mean']:.2f} +- {row['std']:.2f} over {row['episodes']} {kind}"
    if row["test_steps"] is not None:
        text += f" in a test of {_describe_epoch(row)}"
    if row["human_normalized"] is not None:
        text += f", human-normalized {row['human_normalized']:.2f}"
    if row["teacher_normalized"] is not None:
        text += f", teacher-normalized {row['teacher_normalized']:.2f}"
    if row["agreement"] is not None:
        text += f", agreement {row['agreement']:.2f}"
    return text


def _describe_epoch(row: dict[str, Any]) -> str:
    """The size of a test, and what the paper's is if it differs."""
    text = f"{row['test_steps']:,} steps"
    differs = []
    if row["test_steps"] != PAPER_TEST_STEPS:
        differs.append(f"{PAPER_TEST_STEPS:,} steps")
    if row["num_envs"] != 1:
        text += f" by {row['num_envs']} environments"
        differs.append("one environment")
    return f"{text} (the paper's: {', '.join(differs)})" if differs else f"{text} as in the paper"


def _recorded(options: EvaluateOptions) -> Iterator[tuple[str, dict[str, Any]]]:
    record = read_run(options.target)
    for note in record.notes:
        print(note, file=sys.stderr)
    games = _checked(options.games, record.games)
    rows = [(game, _recorded_row(record, game, options.last)) for game in games]
    if not any(row["tests"] for _, row in rows):
        raise ValueError(f"the run in {options.target} has recorded no test yet")
    yield from rows


def _recorded_row(record: RunRecord, game: str, last: int) -> dict[str, Any]:
    tests = record.tests[game]
    scores = summarize_epochs([test.figures.get("mean", float("nan")) for test in tests], last=last)
    teacher = record.teacher(game).mean
    return {
        "mean": scores.mean if scores else None,
        "best": scores.best if scores else None,
        "averaged": scores.num_averaged if scores else 0,
        "tests": scores.num_tests if scores else 0,
        "teacher": teacher,
        "teacher_ratio": score_ratio(scores.mean, teacher) if scores and teacher else None,
    }


def _recorded_line(game: str, row: dict[str, Any]) -> str:
    if not row["tests"]:
        return f"{game}: no test is recorded"
    text = (
        f"{game}: {row['mean']:.2f} over the last {row['averaged']} of {row['tests']} tests, "
        f"{row['best']:.2f} in the best one"
    )
    if row["teacher_ratio"] is not None:
        text += f", {row['teacher_ratio']:.0%} of the teacher's {row['teacher']:.2f}"
    return text


if __name__ == "__main__":
    run_command(main)
