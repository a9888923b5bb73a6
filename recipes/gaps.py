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
        self._teachers: dict[str, list[float | None]] = {}
        settings = recipe.config.distillation
        if settings.schedule != "gap" and "gap" not in " ".join(settings.schedules):
            return
        for game in recipe.games:
            means = [score.mean if score else None for score in recipe.teacher_scores(game)]
            if any(mean is not None for mean in means):
                self._teachers[game] = means

    def of(self, row: Mapping[str, float | None]) -> dict[str, list[float]]:
        """Gaps of the games with a mean training return in a row of metrics, one per teacher."""
        gaps = {}
        for game, teachers in self._teachers.items():
            student = row.get(f"game/{game}/return")
            if student is not None:
                random = get_game(game).random_score
                gaps[game] = [
                    # Of a teacher whose score is not known, nothing is lacking or reached.
                    1.0 if mean is None else gap_to_teacher(student, mean, random=random)
                    for mean in teachers
                ]
        return gaps
