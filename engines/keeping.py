"""What a run keeps of its network: the newest weights as a student, or the best as an expert.

The supervisor tells a keeper of every checkpoint and every test, and asks it at the end.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from actors.evaluator import EvaluationResult
from networks.snapshots import apply_snapshot, take_snapshot
from networks.student_file import save_student
from networks.weights import WeightSnapshot
from recipes.evaluation import StudentTest, confirm_score
from recipes.recipe import Recipe
from records.machine import describe_hardware
from teachers.card import Precision, ScoreRecord
from teachers.expert import Expert, load_expert, save_expert


class Keeper(Protocol):
    """Decides which weights of a run lie on disk when it has ended."""

    def keep_newest(self, snapshot: WeightSnapshot) -> None:
        """Take the weights that a checkpoint is about to be written of."""
        ...

    def keep_tested(
        self, test: StudentTest, snapshot: WeightSnapshot, *, wall_seconds: float
    ) -> None:
        """Take weights that have been tested in one game; `wall_seconds` is the run's time."""
        ...

    def conclude(self) -> Mapping[str, EvaluationResult]:
        """Finish what is kept, when the roles have gone.

        Returns:
            Scores by game that stand for the run instead of those of its last test.
        """
        ...


def keep_student(recipe: Recipe, folder: Path, snapshot: WeightSnapshot) -> None:
    """Write weights of a run's network into `folder`, as a student."""
    config = recipe.config
    network = recipe.build_acting_network(config.games[0])
    if network.num_quantiles:
        # A student file knows of scores alone, which are the quantiles' means.
        apply_snapshot(network, snapshot)
        snapshot = take_snapshot(network.without_quantiles(), snapshot.version, half=False)
    save_student(
        folder,
        snapshot,
        network=config.network,
        games=config.games,
        temperatures={game: recipe.student_temperature(game) for game in config.games},
    )


class NewestStudent:
    """Keeps the newest weights, as a student folder."""

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        """Write into `folder`."""
        self._recipe = recipe
        self._folder = folder

    def keep_newest(self, snapshot: WeightSnapshot) -> None:
        """Replace the student on disk."""
        keep_student(self._recipe, self._folder, snapshot)

    def keep_tested(
        self, test: StudentTest, snapshot: WeightSnapshot, *, wall_seconds: float
    ) -> None:
        """Nothing: the newest weights stay, however they score."""

    def conclude(self) -> Mapping[str, EvaluationResult]:
        """No scores but those of the last test."""
        return {}


class BestExpert:
    """Keeps the weights with the best test score of a run's one game, with a card.

    At the end the best weights are tested again as they lie on disk, in half precision and by both
    protocols, so that the card's scores are not the lucky ones that they were chosen by.
    """

    def __init__(self, recipe: Recipe, path: Path, *, command: Sequence[str]) -> None:
        """Write GAME.safetensors to `path`; `command` is the one that began the training."""
        (self._game,) = recipe.games
        self._recipe = recipe
        self._path = path
        self._command = shlex.join(command)

    def keep_newest(self, snapshot: WeightSnapshot) -> None:
        """Nothing: the checkpoint has the newest weights."""

    def keep_tested(
        self, test: StudentTest, snapshot: WeightSnapshot, *, wall_seconds: float
    ) -> None:
        """Replace the expert on disk if these weights have scored more than any before."""
        if test.result.mean <= self._best_mean():
            return
        network = self._recipe.build_acting_network(self._game)
        apply_snapshot(network, snapshot)
        score = self._score(test.result, self._recipe.config.protocol, precision="full")
        save_expert(network, self._card([score], test.steps, wall_seconds), self._path)

    def _best_mean(self) -> float:
        score = load_expert(self._path).card.score if self._path.is_file() else None
        return score.mean if score else -float("inf")

    def conclude(self) -> Mapping[str, EvaluationResult]:
        """Test the best weights as they lie on disk; their scores go onto the card."""
        best = load_expert(self._path)
        results = {
            protocol: confirm_score(self._recipe, self._game, best, protocol=protocol)
            for protocol in (self._recipe.config.protocol, "modern")
        }
        scores = [
            self._score(result, protocol, precision="half") for protocol, result in results.items()
        ]
        steps, seconds = best.card.trained_steps or 0, best.card.wall_seconds or 0.0
        save_expert(best.network, self._card(scores, steps, seconds), self._path)
        return {self._game: results[self._recipe.config.protocol]}

    def _score(
        self, result: EvaluationResult, protocol: str, *, precision: Precision
    ) -> ScoreRecord:
        return ScoreRecord(
            mean=result.mean,
            std=result.std,
            max=result.max,
            episodes=len(result.returns),
            protocol=protocol,
            epsilon=self._recipe.config.evaluation.epsilon,
            precision=precision,
        )

    def _card(self, scores: list[ScoreRecord], steps: int, seconds: float) -> dict[str, object]:
        config = self._recipe.config
        is_uniform = config.replay.sampler == "uniform" or config.replay.priority_exponent == 0
        replay = "uniform" if is_uniform else f"{config.replay.sampler} prioritized"
        return {
            "game": self._game,
            "algorithm": f"{config.dqn.algorithm}, {replay} replay",
            "protocol": config.protocol,
            "trained_steps": steps,
            "scores": scores,
            "origin": "trained by this project",
            "licence": "MIT",
            "command": self._command,
            "created": datetime.now(UTC).date().isoformat(),
            "wall_seconds": round(seconds),
            "hardware": describe_hardware(),
            "notes": self._notes(),
        }

    def _notes(self) -> str | None:
        """Where the weights began, which the steps on the card leave out."""
        reference = self._recipe.config.start_of[self._game]
        if not reference:
            return None
        return f"Began with the weights of {reference}; its own training is not in trained_steps."


def is_concluded(path: Path) -> bool:
    """Whether an expert's file holds scores of a last test, which only `conclude` writes."""
    score = load_expert(path).card.score if path.is_file() else None
    return score is not None and score.precision == "half"


def describe_expert(expert: Expert) -> str:
    """One line: game, scores by protocol, and the published scores beside them."""
    spec, card = expert.spec, expert.card
    scores = ", ".join(
        f"{score.mean:.1f} +- {score.std:.1f} over {score.episodes} episodes ({score.protocol})"
        for score in card.scores
    )
    published = [
        f"{name} {value:g}"
        for name, value in (("random", spec.random_score), ("human", spec.human_score))
        if value is not None
    ]
    return f"{spec.name}: {scores}" + (f"; {', '.join(published)}" if published else "")
