"""Run folders with made-up scores, written by the code that writes real ones.

Scores approach the expert's as 1 - exp(-steps), with noise from the seed; nothing is trained.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from actors.actor import ActorCounts
from actors.evaluator import EvaluationResult
from games.registry import get_game
from networks.build import build_network
from networks.config import NetworkConfig
from networks.snapshots import take_snapshot
from networks.student_file import save_student
from networks.weights import WeightsVersion
from recipes.loading import dump_config, load_config, load_preset
from records.progress import GameProgress, Progress
from records.recorder import Recorder
from records.run_dir import RunDir
from records.session_clock import SessionClock
from records.summary import Summary, build_summary
from replay.stats import TableStats
from replay.storage.table import TableCounts
from teachers.card import ScoreRecord

TEACHER_MEANS = {"pong": 16.32, "boxing": 23.4, "breakout": 39.2}
"""Of games that have an expert; others get 1,000."""
LOOK_S = 60.0
EPISODES = 4


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def teacher_score(game: str) -> ScoreRecord:
    mean = TEACHER_MEANS.get(game, 1000.0)
    return ScoreRecord(
        mean=mean, std=3.0, max=mean + 10.0, episodes=50, protocol="classic", epsilon=0.05,
        precision="half",
    )  # fmt: skip


def student_mean(game: str, seed: int, steps: float, total: float) -> float:
    """Mean score of a test; from random play towards 90 % of the expert."""
    random = get_game(game).random_score or 0.0
    noise = float(np.random.default_rng([seed, int(steps)]).normal(0.0, 0.03))
    share = 0.9 * (1 - math.exp(-4 * steps / total)) + noise
    return random + share * (TEACHER_MEANS.get(game, 1000.0) - random)


def make_run(
    path: Path,
    *,
    games: Sequence[str] = ("pong", "boxing"),
    seed: int = 1,
    num_tests: int = 4,
    num_looks: int = 40,
    options: Sequence[str] = (),
    preset: str = "smoke",
    finish: bool = True,
    with_student: bool = True,
) -> RunDir:
    """A run whose record is whole, unless it is not to be finished.

    Args:
        path: of its folder.
        games: of Atari.
        seed: of the run and of its noise.
        num_tests: of every game, evenly over the run.
        num_looks: rows between them.
        options: more options of launch/multitask.py.
        preset: that it began with.
        finish: whether there is a summary.
        with_student: whether there is a student, with random weights.
    """
    words = ["--games", *games, "--seed", str(seed), "--engine", "local", *options]
    config = load_config(words, preset_text=load_preset(preset))
    run = RunDir.create(
        path, preset=preset, config_text=dump_config(config), seed=seed, argv=["multitask.py"]
    )
    specs = [get_game(game) for game in games]
    clock = Clock()
    session = SessionClock(clock=clock)
    total = num_looks * 1000 * len(games)
    tests_due = [round(num_looks * (k + 1) / num_tests) for k in range(num_tests)]
    results: dict[str, EvaluationResult] = {}
    progress = None
    teachers = {game: teacher_score(game) for game in games}
    with Recorder(
        run.metrics_path, run.tensorboard, specs, teachers=teachers, clock=session
    ) as recorder:
        for look in range(1, num_looks + 1):
            clock.now += LOOK_S
            progress = _progress(games, look, seed, total)
            recorder.record(progress)
            for _ in range(tests_due.count(look)):
                for game in games:
                    results[game] = _result(game, seed, progress.steps, total)
                    recorder.record_evaluation(
                        game, steps=progress.steps, updates=progress.updates, result=results[game]
                    )
        throughput = recorder.overall()
    if with_student:
        _save_student(run, config.network, games, seed)
    if finish:
        summary = build_summary(
            preset=preset,
            seed=seed,
            games=specs,
            wall_seconds=clock.now,
            progress=progress,
            throughput=throughput,
            students=results,
            teachers=teachers,
        )
        Summary.model_validate(summary)
        run.write_summary(summary)
    return run


def _progress(games: Sequence[str], look: int, seed: int, total: int) -> Progress:
    steps = look * 1000
    rng = np.random.default_rng([seed, look, 7])
    return Progress(
        updates=look * 50,
        games={
            game: GameProgress(
                actors=1,
                played=ActorCounts(steps=steps, episodes=look),
                replay=TableStats(
                    size=min(2000, steps),
                    counts=TableCounts(
                        sampled=look * 4000 + int(rng.integers(100)), inserted=steps
                    ),
                ),
                returns=((student_mean(game, seed, 0.8 * steps * len(games), total), 0.05),),
            )
            for game in games
        },
        metrics={"policy_lag": 20.0 + float(rng.normal()), "policy_loss": 2.0 / look},
    )  # fmt: skip


def _result(game: str, seed: int, steps: int, total: int) -> EvaluationResult:
    mean = student_mean(game, seed, steps, total)
    returns = tuple(mean + offset for offset in (-3.0, -1.0, 1.0, 3.0))
    assert len(returns) == EPISODES
    return EvaluationResult(returns=returns, steps=4000, agreement=0.7, kl=0.05)


def _save_student(run: RunDir, network: NetworkConfig, games: Sequence[str], seed: int) -> None:
    import torch

    torch.manual_seed(seed)
    student = build_network(network, [get_game(game) for game in games])
    save_student(
        run.student,
        take_snapshot(student, WeightsVersion(0, 7), half=False),
        network=network,
        games=tuple(games),
    )
