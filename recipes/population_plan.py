"""A population's settings, resolved and checked against the run that each of its members is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from games.registry import get_game
from recipes.config import RunConfig
from recipes.population import PopulationConfig
from recipes.recipe import Recipe
from recipes.tuning import check_tunable, spell, tunable_settings, with_settings

# Slices of a member's run where nobody says how long they are, and the least that is worth a test.
_NUM_SLICES = 10
_MIN_SLICE_STEPS = 750

# Score that counts as 0 and score that counts as 1.
Ends = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Where a setting may lie; its lower end is the floor that keeps it from dying at 0."""

    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PopulationPlan:
    """What the members of a population do, and when."""

    config: PopulationConfig
    seed: int
    # Names such as `learner.learning_rate`.
    tuned: tuple[str, ...]
    bounds: Mapping[str, Range]
    initial: Mapping[str, Range]
    # Updates of a member between two comparisons.
    slice_updates: int
    normalize: Literal["teacher", "human", "none"]
    # By game.
    ends: Mapping[str, Ends]

    def score(self, means: Mapping[str, float]) -> float:
        """Mean over games of the normalized scores of these mean returns."""
        cap = self.config.score_cap or math.inf
        parts = [
            min(cap, (mean - self.ends[game][0]) / (self.ends[game][1] - self.ends[game][0]))
            for game, mean in means.items()
        ]
        return math.fsum(parts) / len(parts)


def plan_population(config: PopulationConfig, run: RunConfig) -> PopulationPlan:
    """Resolve a population's settings; ValueError in one line for what cannot be."""
    if run.learner.num_replicas > 1:
        raise ValueError(
            f"the members of a population have one learner each, not {run.learner.num_replicas}; "
            "leave --learner.num-replicas out"
        )
    if run.engine == "ray" and config.side_by_side is False:
        raise ValueError("members take turns in one process only with --engine local")
    tuned = tuple(name.replace("-", "_") for name in config.tune) or _usual(run)
    if len(set(tuned)) != len(tuned):
        raise ValueError(f"tune names a setting twice: {' '.join(map(spell, tuned))}")
    for name in tuned:
        check_tunable(name, run)
    usual = {name: Range(low=t.low, high=t.high) for name, t in tunable_settings().items()}
    bounds = _read_ranges("bounds", config.bounds, tuned, usual)
    initial = _read_ranges("initial", config.initial, tuned, bounds)
    for name in tuned:
        _check_within(name, initial[name], bounds[name])
        # A value that contradicts other settings is refused now, not in the middle of the run.
        with_settings(run, {name: bounds[name].low})
        with_settings(run, {name: bounds[name].high})
    slice_steps = config.slice_steps or max(
        _MIN_SLICE_STEPS, math.ceil(run.num_steps / _NUM_SLICES)
    )
    normalize, ends = _find_ends(config, Recipe(run))
    return PopulationPlan(
        config=config,
        seed=run.seed,
        tuned=tuned,
        bounds=bounds,
        initial=initial,
        slice_updates=math.ceil(
            slice_steps * run.replay.samples_per_insert / run.replay.batch_size
        ),
        normalize=normalize,
        ends=ends,
    )


def _usual(run: RunConfig) -> tuple[str, ...]:
    """What is tuned where nobody says."""
    asks = run.objective in ("joint", "actor_critic") and run.distillation.asks_teachers
    weight = ("distillation.weight",) if asks and not run.distillation.weights else ()
    return (*weight, "learner.learning_rate")


def _read_ranges(
    option: str, entries: Sequence[str], tuned: Sequence[str], default: Mapping[str, Range]
) -> dict[str, Range]:
    """A range for every tuned setting."""
    given = {}
    for entry in entries:
        typed, _, text = entry.partition("=")
        name = typed.replace("-", "_")
        if name not in tuned:
            raise ValueError(
                f"{option}: {entry!r} must be setting=low,high of a setting that is tuned "
                f"({', '.join(map(spell, tuned))})"
            )
        if name in given:
            raise ValueError(f"{option}: {typed} is given twice")
        given[name] = _read_range(f"{option}: {entry!r}", text)
    return {name: given.get(name, default[name]) for name in tuned}


def _read_range(what: str, text: str) -> Range:
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"{what} must be setting=low,high, two numbers") from None
    if not 0 < low < math.inf:
        raise ValueError(f"{what} must begin above 0, which no factor leaves again")
    if not low <= high < math.inf:
        raise ValueError(f"{what} is out of order: the lower number comes first")
    return Range(low=low, high=high)


def _check_within(name: str, initial: Range, bounds: Range) -> None:
    if initial.low < bounds.low or initial.high > bounds.high:
        raise ValueError(
            f"initial: {spell(name)} from {initial.low:g} to {initial.high:g} lies outside of its "
            f"bounds, {bounds.low:g} to {bounds.high:g}"
        )


def _find_ends(
    config: PopulationConfig, recipe: Recipe
) -> tuple[Literal["teacher", "human", "none"], dict[str, Ends]]:
    """The scale of the scores, and each game's ends on it; ValueError if a game has none."""
    if config.normalize == "none":
        return "none", {game: (0.0, 1.0) for game in recipe.games}
    scales: dict[Literal["teacher", "human"], dict[str, Ends]] = {
        "teacher": {game: ends for game in recipe.games if (ends := _to_teacher(recipe, game))},
        "human": {game: ends for game in recipe.games if (ends := _to_human(game))},
    }
    for name, known in scales.items():
        if config.normalize in ("auto", name) and len(known) == len(recipe.games):
            return name, known
    if config.normalize == "auto":
        return "none", {game: (0.0, 1.0) for game in recipe.games}
    missing = [game for game in recipe.games if game not in scales[config.normalize]]
    raise ValueError(
        f"normalize {config.normalize}: no such score above random play is known of "
        f"{', '.join(missing)}; use --normalize none"
    )


def _to_teacher(recipe: Recipe, game: str) -> Ends | None:
    score = recipe.teacher_score(game)
    return _ends(get_game(game).random_score or 0.0, score.mean if score else None)


def _to_human(game: str) -> Ends | None:
    spec = get_game(game)
    return None if spec.random_score is None else _ends(spec.random_score, spec.human_score)


def _ends(low: float, high: float | None) -> Ends | None:
    return None if high is None or high <= low else (low, high)
