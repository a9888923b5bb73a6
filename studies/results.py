"""What the units of a study measured: curves, and one row of figures for each unit and game.

Reads the tests that the runs recorded (`test/GAME/...` in their metrics, docs/metrics.md); nothing
is played here. Steps count all games of a run together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np

from games.registry import get_game
from games.spec import normalized_score
from records.run_record import RecordedTest, read_tests
from records.run_statistics import (
    Estimate,
    Floats,
    estimate,
    probability_of_improvement,
)
from studies.records import UnitFiles, metrics_files
from studies.study import Study

# Name that a measure has among the figures of a test, where it is another one.
_FIGURE_OF = {"score": "mean"}


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitCurve:
    """The tests of one game in one unit, oldest first."""

    arm: str
    game: str
    seed: int
    tests: tuple[RecordedTest, ...]

    def points(self, measure: str) -> list[tuple[float, float]]:
        """(steps, value) of every test that has the figure, by rising steps."""
        name = _FIGURE_OF.get(measure, measure)
        found = [(test.steps, test.figures.get(name)) for test in self.tests]
        return sorted((x, y) for x, y in found if x is not None and y is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitFigures:
    """Scores of one game in one unit."""

    arm: str
    game: str
    seed: int
    # Score of the last test.
    final: float
    # Score of the last test on the study's scale; None where the game has no reference scores.
    normalized: float | None
    # Area under the curve between the steps that all units of the game have been tested at,
    # divided by their distance: the mean score on the way. None with a single test.
    area: float | None
    # Score where the first steps are that all units have been tested at.
    jump_start: float
    # Steps at which the curve first reaches the threshold; None if it never does.
    steps_to_threshold: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Improvement:
    """How likely a run of one arm beats one of another, over games."""

    arm: str
    other: str
    probability: Estimate


@dataclass(frozen=True, slots=True)
class Results:
    """A study, as far as its units have come."""

    study: Study
    curves: tuple[UnitCurve, ...]
    figures: tuple[UnitFigures, ...]
    # Score of each game whose steps are counted; as given, or reached by the reference arm.
    thresholds: Mapping[str, float]

    @property
    def games(self) -> list[str]:
        """All games with a test, in the order of the units."""
        return list(dict.fromkeys(curve.game for curve in self.curves))

    def by_game(self, arm: str, name: str) -> dict[str, list[float]]:
        """Values of one of the figures, by game, one for each seed that has it."""
        own = [figures for figures in self.figures if figures.arm == arm]
        return {
            game: [x for f in own if f.game == game and (x := getattr(f, name)) is not None]
            for game in self.games
        }

    def estimate(self, arm: str, name: str, *, game: str | None = None) -> Estimate | None:
        """Interquartile mean over seeds and games, with its interval; of one game if named."""
        values = self.by_game(arm, name)
        return estimate(values if game is None else {game: values[game]}, "iqm")

    def difference(self, arm: str, game: str) -> Estimate | None:
        """Mean final score less that of the reference arm, paired by seed."""
        own, reference = self._finals(arm, game), self._finals(self.study.reference_arm, game)
        pairs = [own[seed] - reference[seed] for seed in own if seed in reference]
        return estimate({game: pairs}, "mean")

    def _finals(self, arm: str, game: str) -> dict[int, float]:
        return {f.seed: f.final for f in self.figures if (f.arm, f.game) == (arm, game)}

    def improvements(self) -> Iterator[Improvement]:
        """Every pair of arms; those without a common game are left out."""
        for arm, other in combinations(self.study.arms, 2):
            own, others = self.by_game(arm, "final"), self.by_game(other, "final")
            if (found := probability_of_improvement(own, others)) is not None:
                yield Improvement(arm=arm, other=other, probability=found)


def read_results(study: Study, study_dir: Path) -> Results:
    """Everything that the units in a folder have measured by now, finished or not."""
    curves = tuple(_read_curves(study, study_dir))
    games = dict.fromkeys(curve.game for curve in curves)
    found: list[UnitFigures] = []
    thresholds: dict[str, float] = {}
    for game in games:
        own = [curve for curve in curves if curve.game == game]
        teacher = _teacher_score(own)
        figures = list(_figures(study, own, teacher))
        threshold = _threshold(study, game, figures, teacher)
        if threshold is not None:
            thresholds[game] = threshold
            figures = [
                replace(f, steps_to_threshold=_first_reach(curve.points("score"), threshold))
                for f, curve in zip(figures, own, strict=True)
            ]
        found += figures
    return Results(study, curves, tuple(found), thresholds)


def _read_curves(study: Study, study_dir: Path) -> Iterator[UnitCurve]:
    for unit in study.units():
        for path in metrics_files(UnitFiles.of(unit, study_dir).run):
            for game, tests in read_tests(path).items():
                curve = UnitCurve(arm=unit.arm, game=game, seed=unit.seed, tests=tests)
                if curve.points("score"):
                    yield curve


def _teacher_score(curves: Sequence[UnitCurve]) -> float | None:
    """What a game's teacher scores; arms without teachers are compared with that of the others."""
    scores = (curve.tests[-1].figures.get("teacher_mean") for curve in curves)
    return next((score for score in scores if score is not None), None)


def _threshold(
    study: Study, game: str, figures: Sequence[UnitFigures], teacher: float | None
) -> float | None:
    """Score of a game that steps are counted to, as far as it is known by now."""
    if game in study.thresholds:
        return study.thresholds[game]
    if study.threshold_of_teacher is not None and teacher is not None:
        return study.threshold_of_teacher * teacher
    finals = [f.final for f in figures if f.arm == study.reference_arm]
    return float(np.mean(finals)) if finals else None


def _figures(
    study: Study, curves: Sequence[UnitCurve], teacher: float | None
) -> Iterator[UnitFigures]:
    """A row for each curve of one game, at steps that all of them have in common."""
    points = [curve.points("score") for curve in curves]
    start = max(own[0][0] for own in points)
    end = min(own[-1][0] for own in points)
    for curve, own in zip(curves, points, strict=True):
        final = own[-1][1]
        yield UnitFigures(
            arm=curve.arm,
            game=curve.game,
            seed=curve.seed,
            final=final,
            normalized=_normalize(study, curve.game, final, teacher),
            area=mean_height(own, start, end),
            jump_start=float(at_steps(own, [start])[0]),
            steps_to_threshold=None,
        )


def _normalize(study: Study, game: str, score: float, teacher: float | None) -> float | None:
    if study.normalize == "none":
        return score
    try:
        spec = get_game(game)
    except ValueError:
        return None
    high = teacher if study.normalize == "teacher" else spec.human_score
    return normalized_score(score, spec.random_score, high)


def at_steps(points: Sequence[tuple[float, float]], steps: Sequence[float] | Floats) -> Floats:
    """Values at some steps, on straight lines between the points."""
    x, y = np.asarray(points, np.float64).T
    return np.asarray(np.interp(steps, x, y), np.float64)


def mean_height(points: Sequence[tuple[float, float]], start: float, end: float) -> float | None:
    """Area under straight lines between the points from `start` to `end`, over their distance."""
    if end <= start:
        return None
    grid = [start, *(x for x, _ in points if start < x < end), end]
    return float(np.trapezoid(at_steps(points, grid), grid) / (end - start))


def _first_reach(points: Sequence[tuple[float, float]], threshold: float) -> float | None:
    """Where straight lines between the points first reach a height; None if they never do."""
    before: tuple[float, float] | None = None
    for x, y in points:
        if y >= threshold:
            if before is None:
                return x
            x0, y0 = before
            return x0 + (threshold - y0) / (y - y0) * (x - x0)
        before = (x, y)
    return None
