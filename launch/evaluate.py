#!/usr/bin/env python
"""Test a run's student or an expert by the paper's protocol: whole episodes, raw scores.

python launch/evaluate.py runs/latest --episodes 30
python launch/evaluate.py pong --episodes 30 --json
python launch/evaluate.py path/to/GAME.safetensors --protocol modern
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from torch import nn

from actors.evaluator import EvaluationResult, evaluate
from games.env import get_protocol
from games.registry import get_game, make_vector_env
from games.spec import human_normalized_score, normalized_score
from launch.cli import load_run_config, run_command
from launch.config import MultitaskConfig
from launch.option_errors import parse_or_fail
from launch.recipe import MultitaskRecipe
from launch.run_dir import RunDir
from networks.student_file import load_student
from teachers.expert import Expert, load_expert


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateOptions:
    """Test a run's student or an expert."""

    target: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="TARGET")]
    """Folder of a run, a GAME.safetensors file, or the name of a game whose expert is shipped."""
    games: tuple[str, ...] = ()
    """Of a student: the games to play; all without."""
    episodes: int = 30
    """Whole episodes of each game."""
    epsilon: float = 0.05
    """Probability of a random action (paper: 0.05)."""
    protocol: Literal["classic", "modern"] | None = None
    """Rules of the emulator (games/env.py); without, those of the run or the expert's training."""
    num_envs: int = 10
    """Episodes played at the same time."""
    seed: int = 12345
    """Of environments and random actions."""
    threads: int = 1
    """Threads of the emulators and of the network."""
    json: bool = False
    """Print one JSON object instead of a table."""

    def __post_init__(self) -> None:
        """Refuse values that make no sense, naming them."""
        for name in ("episodes", "num_envs", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0.0 <= self.epsilon <= 1.0:
            raise ValueError(f"epsilon must lie between 0 and 1, got {self.epsilon}")


def main(argv: Sequence[str]) -> None:
    """Play and print."""
    options = parse_or_fail(
        lambda: tyro.cli(EvaluateOptions, args=argv, prog="evaluate.py"), prog="evaluate.py"
    )
    torch.set_num_threads(options.threads)
    rows = {}
    for contestant in _contestants(options):
        row = rows[contestant.game] = _row(contestant, _play(contestant, options))
        if not options.json:
            print(_line(contestant.game, row), flush=True)
    if options.json:
        print(
            json.dumps(
                {
                    "target": options.target,
                    "epsilon": options.epsilon,
                    "games": rows,
                }
            )
        )


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


def _contestants(options: EvaluateOptions) -> Iterator[_Contestant]:
    folder = Path(options.target)
    if not folder.is_dir():
        expert = load_expert(options.target)
        if options.games and options.games != (expert.spec.name,):
            raise ValueError(f"{options.target} plays {expert.spec.name} and nothing else")
        yield _Contestant(expert.spec.name, expert, options.protocol or expert.card.protocol)
        return
    config = load_run_config(MultitaskConfig, RunDir.open_existing(folder))
    for game in options.games or config.games:
        student = load_student(folder / "student").act_as(game).eval()
        yield _Contestant(
            game,
            student,
            options.protocol or config.protocol,
            _teacher(config, game),
            config.temperature_of[game],
        )


def _teacher(config: MultitaskConfig, game: str) -> Expert | None:
    """The teacher that the run names for the game."""
    try:
        return MultitaskRecipe(config).load_teacher(game)
    except ValueError as error:
        print(f"no comparison with a teacher: {error}", file=sys.stderr)
        return None


def _play(contestant: _Contestant, options: EvaluateOptions) -> EvaluationResult:
    env = make_vector_env(
        get_game(contestant.game),
        num_envs=min(options.num_envs, options.episodes),
        protocol=get_protocol(contestant.protocol),
        seed=options.seed,
        num_threads=options.threads,
    )
    try:
        return evaluate(
            contestant.network,
            env,
            num_episodes=options.episodes,
            epsilon=options.epsilon,
            seed=options.seed,
            teacher=contestant.teacher,
            temperature=contestant.temperature,
        )
    finally:
        env.close()


def _row(contestant: _Contestant, result: EvaluationResult) -> dict[str, Any]:
    spec = get_game(contestant.game)
    row: dict[str, Any] = {
        "protocol": contestant.protocol,
        "mean": result.mean,
        "std": result.std,
        "max": result.max,
        "episodes": len(result.returns),
        "steps": result.steps,
        "frames": result.steps * spec.frames_per_step,
        "random": spec.random_score,
        "human": spec.human_score,
        "human_normalized": human_normalized_score(result.mean, spec),
        "agreement": result.agreement,
        "kl": result.kl,
        "teacher_normalized": None,
    }
    card = contestant.teacher.card if contestant.teacher else None
    score = card.find_score(protocol=contestant.protocol) if card else None
    if score is not None:
        row["teacher"] = score.mean
        row["teacher_normalized"] = normalized_score(result.mean, spec.random_score, score.mean)
    return row


def _line(game: str, row: dict[str, Any]) -> str:
    text = f"{game}: {row['mean']:.2f} +- {row['std']:.2f} over {row['episodes']} episodes"
    if row["human_normalized"] is not None:
        text += f", human-normalized {row['human_normalized']:.2f}"
    if row["teacher_normalized"] is not None:
        text += f", teacher-normalized {row['teacher_normalized']:.2f}"
    if row["agreement"] is not None:
        text += f", agreement {row['agreement']:.2f}"
    return text


if __name__ == "__main__":
    run_command(main)
