#!/usr/bin/env python
"""Test a run's student or an expert: whole episodes, raw scores.

python launch/evaluate.py runs/latest --episodes 30
python launch/evaluate.py runs/latest --test-steps 125000     as in the paper
python launch/evaluate.py runs/latest --recorded              the paper's statistics, nothing played
python launch/evaluate.py runs/seed1 runs/seed2 --recorded    the same over seeds, with intervals
python launch/evaluate.py pong --episodes 30 --json
python launch/evaluate.py path/to/GAME.safetensors --protocol modern
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from torch import nn

from actors.evaluator import EvaluationResult, evaluate, evaluate_epoch
from games.env import get_protocol
from games.registry import get_game, make_vector_env
from games.spec import human_normalized_score, normalized_score
from launch.options.exit_status import run_command
from recipes.errors import parse_or_fail
from recipes.student import StudentTarget, find_student
from records.recorded_tests import (
    PAPER_EPSILON,
    PAPER_TEST_STEPS,
    RELATIVE_SCORES,
    GameTests,
    OverGames,
    collect_tests,
    describe_rules,
    expert_ratio,
    over_games,
    read_settings,
)
from records.run_record import RunRecord, read_run
from records.run_statistics import PAPER_EPOCHS
from teachers.expert import Expert
from teachers.references import load_teacher
from views.report.groups import group_runs

_DEFAULT_EPISODES = 30
_DEFAULT_NUM_ENVS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateOptions:
    """Test a run's student or an expert."""

    targets: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="TARGET")]
    """Folder of a run or of a student, a GAME.safetensors file, or the name of a game whose expert
    is shipped; with --recorded, folders of one or several runs (seeds)."""
    games: tuple[str, ...] = ()
    """Of a student: the games to play; all without."""
    episodes: int | None = None
    """Whole episodes of each game; 30 without."""
    test_steps: int | None = None
    """Instead of so many episodes: this many steps of each game, scored by the episodes that end in
    them (paper: 125000; 1 step = 4 frames). A smaller number favours short episodes."""
    recorded: bool = False
    """Play nothing: of the tests made while the run went on, the mean of the last ones and the best
    one, as in the paper's table; of several runs, means over them and intervals over all games."""
    last: int = PAPER_EPOCHS
    """With --recorded: tests that are averaged (paper: 10)."""
    epsilon: float = PAPER_EPSILON
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
        if not self.targets:
            raise ValueError("no target is named; for example: evaluate.py runs/latest")
        if len(self.targets) > 1 and not self.recorded:
            raise ValueError(
                f"only one target is played, got {len(self.targets)}; several runs go with "
                "--recorded"
            )
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
    def target(self) -> str:
        """The one that is played."""
        return self.targets[0]

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
    if options.recorded:
        _print_recorded(options)
        return
    rows = {}
    for game, row in _tested(options):
        rows[game] = row
        if not options.json:
            print(_line(game, row), flush=True)
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
        "epsilon": options.epsilon,
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
        row["teacher_ratio"] = expert_ratio(result.mean, score.mean)
    return row


def _line(game: str, row: dict[str, Any]) -> str:
    kind = "episodes" if row["finished"] else "unfinished episodes (none came to its end)"
    text = f"{game}: {row['mean']:.2f} +- {row['std']:.2f} over {row['episodes']} {kind}"
    if row["test_steps"] is not None:
        text += f" in a test of {describe_epoch(row)}"
    text += _compared(row)
    if row["agreement"] is not None:
        text += f", agreement {row['agreement']:.2f}"
    return text


def describe_epoch(row: Mapping[str, Any]) -> str:
    """The size and the rules of a test, and each of the paper's that differs."""
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


def _print_recorded(options: EvaluateOptions) -> None:
    """The statistics of the tests that one run recorded, or several seeds of it."""
    runs = _read_seeds(options.targets)
    games = _checked(options.games, runs[0].games)
    tests = {game: collect_tests(runs, game, last=options.last) for game in games}
    if not any(own.epochs for own in tests.values()):
        raise ValueError(f"no test is recorded yet in {', '.join(options.targets)}")
    settings, together = read_settings(runs), over_games(tests)
    if options.json:
        document = {
            "targets": options.targets,
            "test": asdict(settings),
            "games": {game: own.as_row() for game, own in tests.items()},
            "aggregate": {name: x.as_row() if x else None for name, x in together.items()},
        }
        print(json.dumps(document))
        return
    for game, own in tests.items():
        print(_recorded_line(game, own))
    print(f"tests: {settings.describe()}")
    for name, found in together.items():
        if found is not None:
            print(_aggregate_line(RELATIVE_SCORES[name], found, games=games, runs=runs))


def _read_seeds(targets: Sequence[str]) -> list[RunRecord]:
    """The runs, each once, of the same games; what may be wrong with them goes to standard error.

    Raises:
        ValueError: a folder is no run's, or the runs play different games.
    """
    groups = group_runs([read_run(target) for target in targets])
    runs = [run for group in groups for run in group.runs]
    for run in runs:
        if set(run.games) != set(runs[0].games):
            raise ValueError(
                f"runs of different games are no seeds of each other: {runs[0].path} has "
                f"{', '.join(runs[0].games)}, {run.path} has {', '.join(run.games)}"
            )
        for note in run.notes:
            print(note if len(runs) == 1 else f"{run.path}: {note}", file=sys.stderr)
        if len(runs) > 1 and not run.is_finished:
            print(f"{run.path}: not finished, beside others", file=sys.stderr)
    if len(groups) > 1:
        labels = "; ".join(group.label for group in groups)
        print(f"the runs differ in more than their seeds: {labels}", file=sys.stderr)
    for group in groups:
        for seed in group.repeated_seeds:
            print(f"several runs have the seed {seed}; intervals are too narrow", file=sys.stderr)
    return runs


def _recorded_line(game: str, tests: GameTests) -> str:
    row = tests.as_row()
    if not row["tests"]:
        return f"{game}: no test is recorded"
    text = f"{game}: {row['mean']:.2f} over the last {row['averaged']} of {row['tests']} tests"
    if len({scores.num_tests for scores in tests.epochs}) > 1:
        text += " (fewest of any run)"
    if row["runs"] > 1:
        text += f", mean of {row['runs']} runs"
    text += (
        f", {row['best_of_last']:.2f} in the best of these, {row['best']:.2f} in the best of all"
    )
    return text + _compared(row)


def _compared(row: Mapping[str, Any]) -> str:
    """The rest of a line: a mean beside the teacher's and those of random and human play."""
    text = ""
    if row["human_normalized"] is not None:
        text += f", human-normalized {row['human_normalized']:.2f}"
    if row["teacher_normalized"] is not None:
        text += f", teacher-normalized {row['teacher_normalized']:.2f}"
    if row["teacher_ratio"] is not None:
        text += f", {row['teacher_ratio']:.0%} of the teacher's {row['teacher']:.2f}"
    return text


def _aggregate_line(
    name: str, found: OverGames, *, games: Sequence[str], runs: Sequence[RunRecord]
) -> str:
    iqm = found.iqm
    text = f"interquartile mean, {name}: {iqm.value:.1%}"
    if iqm.low is not None and iqm.high is not None:
        text += (
            f" [{iqm.low:.1%}, {iqm.high:.1%}], 95% interval over {iqm.runs} runs by the "
            "stratified bootstrap"
        )
    elif len(runs) == 1:
        text += ", one seed has no interval"
    else:
        text += ", no interval: a game has it in one run only"
    if found.num_games < len(games):
        text += f", over {found.num_games} of {len(games)} games"
    return text


if __name__ == "__main__":
    run_command(main)
