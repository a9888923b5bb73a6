"""Tests of a network while and after it learns, and of its teachers: off the training path."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from torch import nn

from actors.evaluator import EvaluationResult, evaluate
from games.env import get_protocol
from games.registry import get_game, make_vector_env
from networks.build import use_channels_last
from networks.snapshots import apply_snapshot
from networks.weights import WeightSnapshot
from recipes.recipe import Recipe
from recipes.roles import build_env, checking_seed, confirming_seed, evaluation_seed


@dataclass(frozen=True, slots=True)
class StudentTest:
    """One game's result for one version of the weights."""

    game: str
    updates: int
    # Steps of the run, all games together, when the weights were taken.
    steps: int
    result: EvaluationResult


@dataclass(frozen=True, slots=True)
class TeacherTest:
    """What one game's teacher scored when it was played by the run's own protocol."""

    game: str
    result: EvaluationResult


Test: TypeAlias = StudentTest | TeacherTest


class Tester(Protocol):
    """Tests students and teachers in some process."""

    def start(
        self, snapshot: WeightSnapshot, games: Sequence[str], *, steps: int, num_episodes: int
    ) -> None:
        """Begin to test these weights in every game of `games`.

        Args:
            snapshot: weights of the network.
            games: games of the run.
            steps: steps of the run, all games together, when the weights were taken.
            num_episodes: whole episodes of each game.
        """
        ...

    def start_teachers(self, games: Sequence[str]) -> None:
        """Begin to play the teachers of `games`, `evaluation.check_teachers` episodes each."""
        ...

    def finished(self) -> list[Test]:
        """Tests that have ended since the last call."""
        ...

    def wait(self) -> list[Test]:
        """Wait for all tests under way; each ends by itself, as episodes are bounded."""
        ...


class InProcessTester:
    """Tests in the calling process, which stands still meanwhile."""

    def __init__(self, recipe: Recipe) -> None:
        """Test by the recipe's evaluation settings."""
        self._recipe = recipe
        self._finished: list[Test] = []

    def start(
        self, snapshot: WeightSnapshot, games: Sequence[str], *, steps: int, num_episodes: int
    ) -> None:
        """Test every game; returns when the tests have ended."""
        for game in games:
            self._finished.append(run_test(self._recipe, game, snapshot, steps, num_episodes))

    def start_teachers(self, games: Sequence[str]) -> None:
        """Play every teacher; returns when they have been played."""
        for game in games:
            self._finished.append(run_teacher_test(self._recipe, game))

    def finished(self) -> list[Test]:
        """Tests that have ended since the last call."""
        finished, self._finished = self._finished, []
        return finished

    def wait(self) -> list[Test]:
        """Tests that have ended since the last call; none is ever under way."""
        return self.finished()


def run_test(
    recipe: Recipe, game: str, snapshot: WeightSnapshot, steps: int, num_episodes: int
) -> StudentTest:
    """Play one game with these weights, comparing every state with the teacher if there is one."""
    config = recipe.config
    settings = config.evaluation
    updates = snapshot.version.updates
    network = recipe.build_acting_network(game).eval()
    apply_snapshot(network, snapshot)
    use_channels_last(network)
    env = build_env(
        config,
        game,
        num_envs=min(settings.num_envs, num_episodes),
        seed=evaluation_seed(config, updates),
    )
    try:
        result = evaluate(
            network,
            env,
            num_episodes=num_episodes,
            epsilon=settings.epsilon,
            seed=evaluation_seed(config, updates),
            teacher=recipe.find_teacher(game),
            temperature=config.temperature_of[game],
            student_temperature=recipe.student_temperature(game),
        )
    finally:
        env.close()
    return StudentTest(game, updates, steps, result)


def run_teacher_test(recipe: Recipe, game: str) -> TeacherTest:
    """Play a few episodes of one game as its teacher would, under the rules of this run."""
    config = recipe.config
    settings = config.evaluation
    seed = checking_seed(config)
    env = build_env(
        config, game, num_envs=min(settings.num_envs, settings.check_teachers), seed=seed
    )
    try:
        result = evaluate(
            recipe.load_teacher(game),
            env,
            num_episodes=settings.check_teachers,
            epsilon=settings.epsilon,
            seed=seed,
        )
    finally:
        env.close()
    return TeacherTest(game, result)


def confirm_score(
    recipe: Recipe, game: str, network: nn.Module, *, protocol: str
) -> EvaluationResult:
    """Test weights that were picked out for their score, with a seed they were not picked by.

    The best of several noisy tests is too good on average; this test is not.
    """
    settings = recipe.config.evaluation
    seed = confirming_seed(recipe.config)
    env = make_vector_env(
        get_game(game),
        num_envs=min(settings.num_envs, settings.num_episodes),
        protocol=get_protocol(protocol),
        seed=seed,
    )
    try:
        return evaluate(
            network.eval(),
            env,
            num_episodes=settings.num_episodes,
            epsilon=settings.epsilon,
            seed=seed,
        )
    finally:
        env.close()
