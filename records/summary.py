"""The document that a finished run leaves behind, summary.json; a contract with other programs.

Pure functions: numbers in, one JSON-safe mapping out. docs/metrics.md says what each field means.
A figure that does not exist is None (null), never NaN and never left out.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from actors.evaluator import EvaluationResult
from games.spec import GameSpec, human_normalized_score, normalized_score
from records.progress import GameProgress, Progress

MENDED_FAULTS = (
    "actor_restarts",
    "shard_restarts",
    "learner_restarts",
    "inference_restarts",
    "redis_restarts",
    "redis_reconnects",
    "updates_lost",
    "chunks_lost",
    "transitions_lost",
)
"""Kinds in `Progress.faults` that a summary names; 0 where an engine does not report one."""


class ScoreFigures(Protocol):
    """Raw scores of a teacher's whole episodes, as a card's `ScoreRecord` has them."""

    @property
    def mean(self) -> float:
        """Over episodes."""
        ...

    @property
    def std(self) -> float:
        """Over episodes."""
        ...

    @property
    def max(self) -> float:
        """Over episodes."""
        ...

    @property
    def episodes(self) -> int:
        """How many."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Throughput:
    """Means over the time in which the learner was learning; None where nothing was measured."""

    steps_per_second: float | None = None
    """Of all games together."""
    samples_per_second: float | None = None
    """Transitions drawn for the learner."""
    updates_per_second: float | None = None
    samples_per_insert: float | None = None
    """Transitions drawn per transition stored."""
    policy_lag_mean: float | None = None
    """Updates between the weights that acted and those that learn, over samples."""


def build_summary(
    *,
    preset: str,
    seed: int,
    games: Sequence[GameSpec],
    wall_seconds: float,
    progress: Progress | None,
    throughput: Throughput,
    students: Mapping[str, EvaluationResult],
    teachers: Mapping[str, ScoreFigures | None],
) -> dict[str, Any]:
    """The whole document.

    Args:
        preset: name of the preset that the run began with.
        seed: of the run.
        games: of the run.
        wall_seconds: from start to end, all sessions of a resumed run together.
        progress: the last look; None if the run was stopped before any.
        throughput: see Throughput.
        students: last test by game; games may be missing.
        teachers: what the teachers' cards say; games may be missing.
    """
    counts = progress.games if progress else {}
    steps = {spec.name: _steps(counts.get(spec.name)) for spec in games}
    rows = {
        spec.name: _game(spec, students.get(spec.name), teachers.get(spec.name)) for spec in games
    }
    return {
        "preset": preset,
        "seed": seed,
        "wall_seconds": wall_seconds,
        "steps": steps,
        "frames": sum(steps[spec.name] * spec.frames_per_step for spec in games),
        "updates": progress.updates if progress else 0,
        "games": rows,
        "aggregate": {
            figure: _aggregate([row[figure] for row in rows.values()])
            for figure in ("teacher_ratio", "teacher_normalized")
        },
        "throughput": {name: _finite(value) for name, value in asdict(throughput).items()},
        "faults": _faults(progress),
    }


def score_ratio(score: float, reference: float) -> float | None:
    """The paper's percentage as a fraction; None for a reference of 0.

    Without meaning where the reference is negative: normalized_score() is for that.
    """
    return _finite(score / reference) if reference else None


def _steps(game: GameProgress | None) -> int:
    return game.steps if game else 0


def _game(
    spec: GameSpec, student: EvaluationResult | None, teacher: ScoreFigures | None
) -> dict[str, Any]:
    ratio = normalized = None
    if student is not None and teacher is not None:
        ratio = score_ratio(student.mean, teacher.mean)
        normalized = normalized_score(student.mean, spec.random_score, teacher.mean)
    return {
        "teacher": _score(teacher, teacher.episodes if teacher else 0),
        "student": _score(student, len(student.returns) if student else 0),
        "random": _finite(spec.random_score),
        "human": _finite(spec.human_score),
        "teacher_ratio": ratio,
        "teacher_normalized": normalized,
        "human_normalized": human_normalized_score(student.mean, spec) if student else None,
        "agreement": _finite(student.agreement) if student else None,
        "kl": _finite(student.kl) if student else None,
    }


def _score(figures: ScoreFigures | EvaluationResult | None, episodes: int) -> dict[str, Any]:
    return {
        "mean": _finite(figures.mean) if figures else None,
        "std": _finite(figures.std) if figures else None,
        "max": _finite(figures.max) if figures else None,
        "episodes": episodes,
    }


def _aggregate(figures: Sequence[float | None]) -> dict[str, float | None]:
    """Over the games that have the figure."""
    known = [figure for figure in figures if figure is not None]
    if not known:
        return {"capped_mean": None, "geometric_mean": None, "median": None}
    positive = all(figure > 0 for figure in known)
    return {
        "capped_mean": statistics.fmean(min(1.0, figure) for figure in known),
        "geometric_mean": statistics.geometric_mean(known) if positive else None,
        "median": statistics.median(known),
    }


def _faults(progress: Progress | None) -> dict[str, int]:
    if progress is None:
        progress = Progress(updates=0, games={})
    return {
        **{kind: progress.faults.get(kind, 0) for kind in MENDED_FAULTS},
        "transitions_overwritten_unsampled": progress.overwritten_unsampled,
    }


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def check_summary(document: object) -> None:
    """Raises ValueError naming the first field that breaks the contract."""
    _check(document, _SUMMARY, "summary")
    assert isinstance(document, dict)
    if set(document["steps"]) != set(document["games"]):
        raise ValueError("summary.steps and summary.games must name the same games")
    if document["frames"] < sum(document["steps"].values()):
        raise ValueError("summary.frames must not be below the sum of summary.steps")


Check = Callable[[object, str], None]


def _check(value: object, shape: Mapping[str, Any] | Check, path: str) -> None:
    """Walk a document along its shape; a shape is a mapping of shapes, or a function for a leaf."""
    if not isinstance(shape, Mapping):
        shape(value, path)
        return
    if not isinstance(value, Mapping):
        raise ValueError(f"{path} must be an object with the fields {', '.join(shape)}")
    for name in shape:
        if name not in value:
            raise ValueError(f"{path}.{name} is missing")
    for name in value:
        if name not in shape:
            raise ValueError(f"{path}.{name} is not part of the contract")
        _check(value[name], shape[name], f"{path}.{name}")


def _each_game(shape: Mapping[str, Any] | Check) -> Check:
    def check(value: object, path: str) -> None:
        if not isinstance(value, Mapping) or not value:
            raise ValueError(f"{path} must be an object with one field for each game")
        for game, item in value.items():
            _check(item, shape, f"{path}.{game}")

    return check


def _number(
    *, low: float = -math.inf, high: float = math.inf, whole: bool = False, null: bool = False
) -> Check:
    kinds = int if whole else int | float
    wanted = " ".join(
        [
            "a whole number" if whole else "a finite number",
            *([f"of at least {low:g}"] if low > -math.inf else []),
            *([f"of at most {high:g}"] if high < math.inf else []),
            *(["or null"] if null else []),
        ]
    )

    def check(value: object, path: str) -> None:
        if null and value is None:
            return
        if (
            isinstance(value, bool)
            or not isinstance(value, kinds)
            or not math.isfinite(value)
            or not low <= value <= high
        ):
            raise ValueError(f"{path} must be {wanted}, not {value!r}")

    return check


def _text(value: object, path: str) -> None:
    if not isinstance(value, str):
        raise ValueError(f"{path} must be a text, not {value!r}")


_COUNT = _number(low=0, whole=True)
_FIGURE = _number(null=True)
_NOT_NEGATIVE = _number(low=0, null=True)
_SCORE = {"mean": _FIGURE, "std": _NOT_NEGATIVE, "max": _FIGURE, "episodes": _COUNT}
_GAME = {
    "teacher": _SCORE,
    "student": _SCORE,
    "random": _FIGURE,
    "human": _FIGURE,
    "teacher_ratio": _FIGURE,
    "teacher_normalized": _FIGURE,
    "human_normalized": _FIGURE,
    "agreement": _number(low=0, high=1, null=True),
    "kl": _FIGURE,
}
_AGGREGATE = {
    "capped_mean": _number(high=1, null=True),
    "geometric_mean": _NOT_NEGATIVE,
    "median": _FIGURE,
}
_SUMMARY: dict[str, Any] = {
    "preset": _text,
    "seed": _COUNT,
    "wall_seconds": _number(low=0),
    "steps": _each_game(_COUNT),
    "frames": _COUNT,
    "updates": _COUNT,
    "games": _each_game(_GAME),
    "aggregate": {"teacher_ratio": _AGGREGATE, "teacher_normalized": _AGGREGATE},
    "throughput": {
        "steps_per_second": _NOT_NEGATIVE,
        "samples_per_second": _NOT_NEGATIVE,
        "updates_per_second": _NOT_NEGATIVE,
        "samples_per_insert": _NOT_NEGATIVE,
        "policy_lag_mean": _NOT_NEGATIVE,
    },
    "faults": {
        "actor_restarts": _COUNT,
        "shard_restarts": _COUNT,
        "learner_restarts": _COUNT,
        "inference_restarts": _COUNT,
        "redis_restarts": _COUNT,
        "redis_reconnects": _COUNT,
        "updates_lost": _COUNT,
        "chunks_lost": _COUNT,
        "transitions_lost": _COUNT,
        "transitions_overwritten_unsampled": _COUNT,
    },
}
