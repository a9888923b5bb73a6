"""The schedule of every teacher: the settings of all, and what is said of single games."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args

from learner.objectives.config import DistillationConfig, ScheduleKind
from recipes.per_game import listed, number_from_zero, parse_per_game


def schedules_of(
    config: DistillationConfig, num_teachers: Mapping[str, int]
) -> dict[str, tuple[DistillationConfig, ...]]:
    """One schedule for each teacher of each game.

    Args:
        config: of the run.
        num_teachers: of each game of the run; 0 for a game without.

    Raises:
        ValueError: a value that cannot be, or as many values as a game has no teachers.
    """
    lists: dict[str, tuple[str, Sequence[str], Any]] = {
        "weight": ("weights", config.weights, number_from_zero),
        "schedule": ("schedules", config.schedules, _schedule_kind),
        "steps": ("durations", config.durations, _whole_from_zero),
        "floor": ("floors", config.floors, number_from_zero),
    }
    changes: dict[str, list[dict[str, Any]]] = {
        game: [{} for _ in range(count)] for game, count in num_teachers.items()
    }
    for field, (name, entries, convert) in lists.items():
        option = f"distillation.{name}"
        given = parse_per_game(
            option, entries, list(num_teachers), default=(), convert=listed(convert)
        )
        for game, values in given.items():
            for number, value in enumerate(_spread(option, game, values, num_teachers[game])):
                changes[game][number][field] = value
    return {
        game: tuple(replace(config, **change) for change in own) for game, own in changes.items()
    }


def _spread(option: str, game: str, values: tuple[Any, ...], count: int) -> tuple[Any, ...]:
    """A value for each of a game's teachers; none where nothing is said of the game."""
    if len(values) in (0, count):
        return values
    if len(values) == 1 and count:
        return values * count
    teachers = f"{count} teachers" if count > 1 else "one teacher" if count else "no teacher"
    raise ValueError(f"{option}: {game} has {teachers} in this run, but {len(values)} values")


def _schedule_kind(text: str) -> str:
    if text not in get_args(ScheduleKind):
        raise ValueError(f"must be one of {', '.join(get_args(ScheduleKind))}, not {text}")
    return text


def _whole_from_zero(text: str) -> int:
    value = int(text)
    if value < 0:
        raise ValueError(f"must be a whole number that is not negative, not {text}")
    return value
