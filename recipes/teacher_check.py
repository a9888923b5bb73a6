"""What a run has to know of its teachers besides their weights: policies, and alarms.

Whether the teachers can play by the run's rules is said once they have been tried.
A teacher that was imported wrongly, or plays by rules it never saw, loads without an error and
spoils the student of its game; the student's score then looks like a failed distillation.
"""

from __future__ import annotations

from games.registry import get_game
from recipes.evaluation import TeacherTest
from recipes.recipe import Recipe
from teachers.verify import compare, describe_alarm, measure


def describe_policies(recipe: Recipe) -> str | None:
    """One line about the temperatures of teachers that are policies; None without any."""
    tau = recipe.config.temperature_of
    policies = [
        f"{game} {tau[game]:g}"
        for game in recipe.games
        if recipe.is_taught(game) and recipe.load_teacher(game).card.architecture.head == "policy"
    ]
    if not policies:
        return None
    return (
        f"teachers that are policies, and their temperatures: {', '.join(policies)} "
        "(1 is the policy itself; --temperatures GAME=TAU changes it)"
    )


def find_alarm(recipe: Recipe, test: TeacherTest) -> str | None:
    """One line for a teacher that plays far below its card or near random; None if all is well."""
    config = recipe.config
    measured = measure(test.result.returns)
    card = recipe.teacher_score(test.game)
    comparison = compare(measured, card, get_game(test.game))
    if not comparison.is_alarming:
        return None
    text = describe_alarm(test.game, measured, card, comparison.finding)
    by_other_rules = f" by {card.protocol}" if card and card.protocol != config.protocol else ""
    return (
        f"{text}{by_other_rules}; this run plays by {config.protocol}. Its student will learn no "
        f"better; look at it with: python launch/zoo.py verify {config.teachers_of[test.game][0]}"
    )
