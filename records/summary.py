"""The document that a finished run leaves behind, summary.json; a contract with other programs.

The models below are the contract: docs/summary.schema.json is made from them
(`python -m records.summary`), and docs/metrics.md says what each field means. A figure that does
not exist is None (null), never NaN and never left out.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, model_validator

from actors.evaluator import EvaluationResult
from games.registry import get_game
from games.spec import GameSpec, human_normalized_score, normalized_score
from records.documents import Document
from records.faults import FaultCounts
from records.progress import Progress
from teachers.card import ScoreRecord

Share = Annotated[float, Field(ge=0.0, le=1.0)]


class Scores(Document):
    """Raw scores over whole episodes."""

    mean: float | None = None
    std: NonNegativeFloat | None = None
    max: float | None = None
    episodes: NonNegativeInt = 0


class TeacherScores(Scores):
    """A teacher's scores: its card's, or where that has none, what the run saw it score."""

    # Where the scores come from; None where there are none.
    source: Literal["card", "run"] | None = None


class GameResult(Document):
    """What a run has come to in one game."""

    teacher: TeacherScores
    student: Scores
    random: float | None
    human: float | None
    teacher_ratio: float | None
    teacher_normalized: float | None
    human_normalized: float | None
    agreement: Share | None
    kl: float | None
    # The learner's newest figures of the game, by their names in metrics.jsonl: the terms of its
    # objective, entropy, each teacher's weight.
    learning: dict[str, float]


class Aggregate(Document):
    """One figure of all games that have it."""

    # Mean of the figures, each capped at 1.
    capped_mean: Annotated[float, Field(le=1.0)] | None = None
    # None where a figure is not positive.
    geometric_mean: NonNegativeFloat | None = None
    median: float | None = None


class Aggregates(Document):
    """The student beside its teachers, over games."""

    teacher_ratio: Aggregate
    teacher_normalized: Aggregate


class Throughput(Document):
    """Means over the time in which the learner was learning; None where nothing was measured."""

    # Steps of all games together.
    steps_per_second: NonNegativeFloat | None = None
    # Transitions drawn for the learner.
    samples_per_second: NonNegativeFloat | None = None
    updates_per_second: NonNegativeFloat | None = None
    # Transitions drawn per transition stored.
    samples_per_insert: NonNegativeFloat | None = None
    # Updates between the weights that acted and those that learn, over samples.
    policy_lag_mean: NonNegativeFloat | None = None


class SummaryFaults(FaultCounts):
    """What broke and was mended, what that has cost, and what replay gave up unused."""

    transitions_overwritten_unsampled: NonNegativeInt = 0


class Summary(Document):
    """All of summary.json."""

    preset: str
    seed: NonNegativeInt
    wall_seconds: NonNegativeFloat
    steps: Annotated[dict[str, NonNegativeInt], Field(min_length=1)]
    frames: NonNegativeInt
    updates: NonNegativeInt
    games: Annotated[dict[str, GameResult], Field(min_length=1)]
    aggregate: Aggregates
    throughput: Throughput
    faults: SummaryFaults

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        if set(self.steps) != set(self.games):
            raise ValueError("steps and games must name the same games")
        if self.frames < sum(self.steps.values()):
            raise ValueError("frames must not be below the sum of steps")
        return self


def build_summary(
    *,
    preset: str,
    seed: int,
    games: Sequence[GameSpec],
    wall_seconds: float,
    progress: Progress | None,
    throughput: Throughput,
    students: Mapping[str, EvaluationResult],
    teachers: Mapping[str, ScoreRecord | None],
    tried_teachers: Mapping[str, EvaluationResult] | None = None,
    learned: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """The whole document, in JSON's own types.

    `wall_seconds` are those of all sessions together; without `progress` the run was stopped before
    any look. Games may be missing in the last tests of `students`, in what the cards of `teachers`
    say, and in what the run itself saw teachers score, which stands in for a card without a score.
    The newest figures that the learner has of single games are kept as `learned`.
    """
    counts = progress.games if progress else {}
    steps = {spec.name: counts[spec.name].steps if spec.name in counts else 0 for spec in games}
    rows = {
        spec.name: _game(
            spec,
            students.get(spec.name),
            _teacher(teachers.get(spec.name), (tried_teachers or {}).get(spec.name)),
            _learning(spec.name, learned or {}),
        )
        for spec in games
    }
    summary = Summary(
        preset=preset,
        seed=seed,
        wall_seconds=wall_seconds,
        steps=steps,
        frames=sum(steps[spec.name] * spec.frames_per_step for spec in games),
        updates=progress.updates if progress else 0,
        games=rows,
        aggregate=_aggregates(rows),
        throughput=Throughput(**{name: _finite(value) for name, value in throughput}),
        faults=_faults(progress),
    )
    return summary.model_dump(mode="json")


def with_students(
    summary: Mapping[str, Any], students: Mapping[str, EvaluationResult]
) -> dict[str, Any]:
    """The same document with other tests of the student, one in each of its games."""
    document = Summary.model_validate(summary)
    rows = {
        name: _game(get_game(name), students[name], row.teacher, row.learning)
        for name, row in document.games.items()
    }
    changed = document.model_copy(update={"games": rows, "aggregate": _aggregates(rows)})
    return changed.model_dump(mode="json")


def score_ratio(score: float, reference: float) -> float | None:
    """The paper's percentage as a fraction; None for a reference of 0.

    Without meaning where the reference is negative: normalized_score() is for that.
    """
    return _finite(score / reference) if reference else None


def _teacher(card: ScoreRecord | None, tried: EvaluationResult | None) -> TeacherScores:
    if card is not None:
        return TeacherScores(**_scores(card, card.episodes), source="card")
    if tried is not None:
        return TeacherScores(**_scores(tried, len(tried.returns)), source="run")
    return TeacherScores()


def _learning(game: str, learned: Mapping[str, float]) -> dict[str, float]:
    prefix = f"game/{game}/"
    return {
        key.removeprefix(prefix): value
        for key, value in learned.items()
        if key.startswith(prefix) and math.isfinite(value)
    }


def _game(
    spec: GameSpec,
    student: EvaluationResult | None,
    teacher: TeacherScores,
    learning: dict[str, float],
) -> GameResult:
    ratio = normalized = None
    if student is not None and teacher.mean is not None:
        ratio = score_ratio(student.mean, teacher.mean)
        normalized = normalized_score(student.mean, spec.random_score, teacher.mean)
    return GameResult(
        teacher=teacher,
        student=Scores(**_scores(student, len(student.returns))) if student else Scores(),
        random=_finite(spec.random_score),
        human=_finite(spec.human_score),
        teacher_ratio=ratio,
        teacher_normalized=_finite(normalized),
        human_normalized=human_normalized_score(student.mean, spec) if student else None,
        agreement=_finite(student.agreement) if student else None,
        kl=_finite(student.kl) if student else None,
        learning=learning,
    )


def _scores(figures: ScoreRecord | EvaluationResult, episodes: int) -> dict[str, Any]:
    return {
        "mean": _finite(figures.mean),
        "std": _finite(figures.std),
        "max": _finite(figures.max),
        "episodes": episodes,
    }


def _aggregates(rows: Mapping[str, GameResult]) -> Aggregates:
    return Aggregates(
        teacher_ratio=_aggregate([row.teacher_ratio for row in rows.values()]),
        teacher_normalized=_aggregate([row.teacher_normalized for row in rows.values()]),
    )


def _aggregate(figures: Sequence[float | None]) -> Aggregate:
    """Over the games that have the figure."""
    known = [figure for figure in figures if figure is not None]
    if not known:
        return Aggregate()
    positive = all(figure > 0 for figure in known)
    return Aggregate(
        capped_mean=statistics.fmean(min(1.0, figure) for figure in known),
        geometric_mean=statistics.geometric_mean(known) if positive else None,
        median=statistics.median(known),
    )


def _faults(progress: Progress | None) -> SummaryFaults:
    if progress is None:
        return SummaryFaults()
    return SummaryFaults(
        **progress.faults,
        transitions_overwritten_unsampled=progress.replay.counts.overwritten_unsampled,
    )


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def schema() -> str:
    """The JSON schema of summary.json, as docs/summary.schema.json has it."""
    return json.dumps(Summary.model_json_schema(mode="serialization"), indent=2) + "\n"


if __name__ == "__main__":
    print(schema(), end="")
