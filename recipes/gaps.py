"""How far the student is behind its teachers, from the returns of a run that goes on."""

from __future__ import annotations

from collections.abc import Mapping

from games.registry import get_game
from learner.distillation import gap_to_teacher
from recipes.recipe import Recipe


class ScoreGaps:
    """Gaps of every game with a teacher whose score is known, for schedules that follow them."""

    def __init__(self, recipe: Recipe) -> None:
        """Read the teachers' cards; nothing is followed where no schedule asks for gaps."""
        self._teachers: dict[str, float] = {}
        if recipe.config.distillation.schedule != "gap":
            return
        for game in recipe.games:
            score = recipe.teacher_score(game)
            if score is not None:
                self._teachers[game] = score.mean

    def of(self, row: Mapping[str, float | None]) -> dict[str, list[float]]:
        """Gaps of the games with a mean training return in a row of metrics, one per teacher."""
        gaps = {}
        for game, teacher in self._teachers.items():
            student = row.get(f"game/{game}/return")
            if student is not None:
                random = get_game(game).random_score
                gaps[game] = [gap_to_teacher(student, teacher, random=random)]
        return gaps
