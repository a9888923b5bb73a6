"""Turns looks at a run into figures, and keeps them: metrics.jsonl and TensorBoard.

One row is one look, or one game's test; its keys are the same in both files and are explained in
docs/metrics.md. What the engines count since the run's beginning becomes rates in records/rates.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from actors.evaluator import EvaluationResult
from games.spec import GameSpec, human_normalized_score, normalized_score
from records.faults import KINDS
from records.metric_files import JsonLines, TensorBoard
from records.newest import take_look
from records.progress import GameProgress, Progress, whole_counts
from records.rates import Look, Rates
from records.safe_writing import SafeWriting
from records.session_clock import SessionClock
from records.summary import Throughput
from records.verdict import LIMITS, judge
from replay.stats import TableStats
from replay.storage.table import QUANTILES
from teachers.card import ScoreRecord

Row: TypeAlias = dict[str, float]

# Episodes that explore no more than this count as the policy's own; the tests' epsilon.
NEAR_GREEDY_EPSILON = 0.05

_MEDIAN, _P90 = QUANTILES.index(0.5), QUANTILES.index(0.9)


class Recorder:
    """Keeps the record of one run; appends to what an earlier session of the run has written."""

    def __init__(
        self,
        metrics_path: Path,
        tensorboard_dir: Path,
        games: Sequence[GameSpec],
        *,
        teachers: Mapping[str, ScoreRecord | None] | None = None,
        num_updates: int | None = None,
        clock: SessionClock | None = None,
        writing: SafeWriting | None = None,
        outlets: Sequence[Callable[[Row], None]] = (),
        probes: Sequence[Callable[[], Mapping[str, float]]] = (),
    ) -> None:
        """Nothing is written yet; the files appear with the first row.

        `teachers` is what their cards say of their scores, `num_updates` what the run is to make,
        for the time left. `outlets` get every row as well, `probes` tell more at every look.
        """
        self._outlets = tuple(outlets)
        self._probes = tuple(probes)
        self._games = {spec.name: spec for spec in games}
        self._teachers = dict(teachers or {})
        self._clock = clock or SessionClock()
        self._writing = writing or SafeWriting()
        self._paused_s = 0.0
        self._rates = Rates(self._games, num_updates=num_updates)
        self._returns = {spec.name: _PolicyReturns() for spec in games}
        # The learner's newest figures, which a look without an update has none of.
        self.learned: Row = {}
        # What teachers scored when the run tried them, by game.
        self.tried_teachers: dict[str, EvaluationResult] = {}
        self._lines = JsonLines(metrics_path)
        self._events = JsonLines(metrics_path.with_name("events.jsonl"))
        self._tensorboard = TensorBoard(tensorboard_dir)
        # The newest value of every key, tests included; rates only as of the last look.
        self.latest: Row = {}

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def record(self, progress: Progress) -> Row:
        """Write one look; rates need one before it, so the first one of a session has none."""
        row = self._counts(progress)
        self.learned |= progress.metrics
        row |= self._rates.add(Look(self._clock.now() - self._paused_s, progress))
        for probe in self._probes:
            row |= probe()
        if (verdict := judge(row)) is not None:
            row |= {f"limit/{limit}": float(limit == verdict.limit) for limit in LIMITS}
        take_look(self.latest, row)
        self._write(row)
        return row

    def record_evaluation(
        self, game: str, *, steps: int, updates: int, result: EvaluationResult
    ) -> Row:
        """Write one game's test of the weights that had seen so many steps and updates."""
        teacher = self._teachers.get(game) or self.tried_teachers.get(game)
        figures = _score_figures(result) | {
            "agreement": result.agreement,
            "kl": result.kl,
            "human_normalized": human_normalized_score(result.mean, self._games[game]),
        }
        if teacher is not None:
            low = self._games[game].random_score
            figures["teacher_mean"] = teacher.mean
            figures["teacher_normalized"] = normalized_score(result.mean, low, teacher.mean)
        return self._write_test(f"test/{game}/", figures, steps=steps, updates=updates)

    def record_teacher(
        self, game: str, *, steps: int, updates: int, result: EvaluationResult
    ) -> Row:
        """Write what a game's teacher scored when the run tried it."""
        self.tried_teachers[game] = result
        figures = _score_figures(result)
        return self._write_test(f"teacher/{game}/", figures, steps=steps, updates=updates)

    def _write_test(
        self, prefix: str, figures: Mapping[str, float | None], *, steps: int, updates: int
    ) -> Row:
        test = {prefix + name: x for name, x in figures.items() if x is not None}
        # The test may be of older weights; where the run stands is said by the looks.
        self.latest |= test
        row = {
            "seconds": self._clock.seconds,
            "wall_seconds": self._clock.wall_seconds,
            "steps": steps,
            "updates": updates,
            **test,
        }
        self._write(row)
        return row

    def record_event(self, text: str, progress: Progress) -> None:
        """Write what somebody has changed while the run goes on to events.jsonl."""
        event = {
            "seconds": self._clock.seconds,
            "steps": progress.steps,
            "updates": progress.updates,
            "event": text,
        }
        with self._writing.attempt("events.jsonl"):
            self._events.write(event)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the time inside out of all rates: a test that stops the training, for example."""
        start = self._clock.now()
        try:
            yield
        finally:
            self._paused_s += self._clock.now() - start

    def overall(self) -> Throughput:
        """Means from the learner's first update in this session to the last look."""
        return self._rates.overall()

    def close(self) -> None:
        """Finish all files; once is enough, twice does no harm."""
        self._lines.close()
        self._events.close()
        self._tensorboard.close()

    def _counts(self, progress: Progress) -> Row:
        """All that needs no earlier look."""
        row: Row = {
            "seconds": self._clock.seconds,
            "wall_seconds": self._clock.wall_seconds,
            "steps": progress.steps,
            "updates": progress.updates,
            **progress.metrics,
            **_replay_figures(progress),
        }
        faults = dict.fromkeys(KINDS, 0) | progress.faults
        row |= {f"faults/{kind}": count for kind, count in faults.items()}
        for name, game in progress.games.items():
            row |= {f"game/{name}/{key}": count for key, count in whole_counts(game.played)}
            row |= {
                f"game/{name}/actors": game.actors,
                f"game/{name}/actors_wanted": game.wanted,
                f"game/{name}/actors_pending": game.pending,
            }
            if returns := self._returns[name].select(game):
                row[f"game/{name}/return"] = sum(returns) / len(returns)
        return row

    def _write(self, row: Row) -> None:
        with self._writing.attempt("metrics.jsonl"):
            self._lines.write(row)
        with self._writing.attempt("TensorBoard's events"):
            self._tensorboard.write(row)
        for outlet in self._outlets:
            with self._writing.attempt("what others take of the metrics"):
                outlet(row)


def _score_figures(result: EvaluationResult) -> dict[str, float | None]:
    return {
        "mean": result.mean,
        "std": result.std,
        "max": result.max,
        "episodes": len(result.returns),
    }


class _PolicyReturns:
    """Picks the episodes that show what the policy can do, where exploration differs."""

    def __init__(self) -> None:
        self._lowest_epsilon = math.inf

    def select(self, game: GameProgress) -> list[float]:
        self._lowest_epsilon = min([self._lowest_epsilon, *(e for _, e in game.returns)])
        # The lowest of all looks, not of this one: a look in which only a wildly exploring
        # environment ended its episode says nothing about the policy.
        limit = max(self._lowest_epsilon, NEAR_GREEDY_EPSILON)
        return [value for value, epsilon in game.returns if epsilon <= limit]


def _replay_figures(progress: Progress) -> dict[str, float]:
    """What a look says of replay, as docs/metrics.md explains; what has no value is left out."""
    snapshots, whole = progress.snapshots, progress.replay
    row: dict[str, float] = {
        "overwritten_unsampled": whole.counts.overwritten_unsampled,
        "stale_priorities": whole.counts.stale_priorities,
        "replay/bytes": whole.num_bytes,
        "replay/limiter_error": progress.limiter_error,
        "replay/waiting_actors": whole.waiting_actors,
        "replay/waiting_requests": progress.waiting_requests,
        "replay/snapshot_bytes": snapshots.num_bytes,
        "replay/snapshot_written_bytes": snapshots.num_bytes_written,
        "replay/snapshot_duration_s": snapshots.duration_s,
        "replay/snapshot_hold_s": snapshots.longest_hold_s,
        "replay/snapshot_failures": snapshots.failures,
    }
    if snapshots.age_s is not None:
        row["replay/snapshot_age_s"] = snapshots.age_s
    for name, game in progress.games.items():
        row |= {f"game/{name}/{key}": x for key, x in _game_figures(game.replay).items()}
    return row


def _game_figures(table: TableStats) -> dict[str, float]:
    row: dict[str, float] = {
        **dict(whole_counts(table.counts)),
        "replay_size": table.size,
        "replay_ready": table.ready,
        "replay_capacity": table.capacity,
        "replay_bytes": table.num_bytes,
        "share": table.share,
        "samples_per_insert_cap": table.samples_per_insert_cap,
        "waiting_actors": table.waiting_actors,
    }
    if table.num_bytes:
        row["replay_compression"] = table.num_raw_bytes / table.num_bytes
    for name, quantiles in (
        ("priority", table.priority_quantiles),
        ("sample_age", table.age_quantiles),
    ):
        if quantiles:
            row |= {f"{name}_median": quantiles[_MEDIAN], f"{name}_p90": quantiles[_P90]}
    return row
