"""Turns looks at a run into figures, and keeps them: metrics.jsonl and TensorBoard.

One row is one look, or one game's test; its keys are the same in both files and are explained in
docs/metrics.md. What the engines count since the run's beginning becomes rates here.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from actors.evaluator import EvaluationResult
from games.spec import GameSpec, human_normalized_score, normalized_score
from records.progress import GameProgress, Progress
from records.replay_metrics import replay_figures, replay_rates
from records.summary import MENDED_FAULTS, ScoreFigures, Throughput
from records.usage_rates import usage_rates
from records.verdict import LIMITS, judge

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

Row: TypeAlias = dict[str, float]

NEAR_GREEDY_EPSILON = 0.05
"""Episodes that explore no more than this count as the policy's own; the tests' epsilon."""
_RATIO_WINDOW_S = 60.0
_USAGE_WINDOW_S = 10.0
"""Of shares of time: a wait for replay may last longer than the time between two looks."""
_MAX_LINE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class _Look:
    """A run at one time."""

    seconds: float
    """By the recorder's clock, pauses taken out."""
    progress: Progress

    @property
    def sampled(self) -> int:
        return sum(game.sampled for game in self.progress.games.values())

    @property
    def inserted(self) -> int:
        return sum(game.inserted for game in self.progress.games.values())

    def follows(self, before: _Look) -> bool:
        """False when a counter fell: a restarted role counts from an earlier state, or from 0."""
        new, old = _counters(self.progress), _counters(before.progress)
        return all(value >= old[name] for name, value in new.items())


def _counters(progress: Progress) -> dict[str, float]:
    counters = {
        "updates": progress.updates,
        "insert_wait_s": progress.insert_wait_s,
        "sample_wait_s": progress.sample_wait_s,
    }
    for name, game in progress.games.items():
        counters |= {
            f"{name}/steps": game.steps,
            f"{name}/sampled": game.sampled,
            f"{name}/inserted": game.inserted,
            f"{name}/insert_wait_s": game.replay.insert_wait_s,
        }
    return counters


class Recorder:
    """Keeps the record of one run; appends to what an earlier session of the run has written."""

    def __init__(
        self,
        metrics_path: Path,
        tensorboard_dir: Path,
        games: Sequence[GameSpec],
        *,
        teachers: Mapping[str, ScoreFigures | None] | None = None,
        started: float | None = None,
        outlets: Sequence[Callable[[Row], None]] = (),
        probes: Sequence[Callable[[], Mapping[str, float]]] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Open metrics.jsonl; TensorBoard's files appear with the first row.

        Args:
            metrics_path: metrics.jsonl; its folder is there.
            tensorboard_dir: made if it is missing.
            games: of the run.
            teachers: what the teachers' cards say of their scores; games may be missing.
            started: when the run began, by `clock`; the time of earlier sessions taken off.
            outlets: get every row as well.
            probes: have more to tell at every look.
            clock: seconds.
        """
        self._outlets = tuple(outlets)
        self._probes = tuple(probes)
        self._games = {spec.name: spec for spec in games}
        self._teachers = dict(teachers or {})
        self._clock = clock
        self._started = clock() if started is None else started
        self._paused_s = 0.0
        self._looks: deque[_Look] = deque()
        self._returns = {spec.name: _PolicyReturns() for spec in games}
        self._overall = _Overall()
        self._lines = _JsonLines(metrics_path)
        self._events_path = metrics_path.with_name("events.jsonl")
        self._tensorboard = _TensorBoard(tensorboard_dir)
        self.latest: Row = {}
        """The newest value of every key so far, tests included."""

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def record(self, progress: Progress) -> Row:
        """Write one look; rates are since the look before, so the first one has none."""
        look = _Look(self._clock() - self._paused_s, progress)
        if self._looks and not look.follows(self._looks[-1]):
            self._looks.clear()
        while len(self._looks) > 1 and look.seconds - self._looks[1].seconds >= _RATIO_WINDOW_S:
            self._looks.popleft()
        row = self._counts(progress)
        if self._looks:
            row |= _rates(self._looks[-1], look) | self._frames(self._looks[-1], look)
            row |= _usage(self._looks, look)
            row |= _samples_per_insert(self._looks[0], look)
            self._overall.add(self._looks[-1], look)
        self._looks.append(look)
        for probe in self._probes:
            row |= probe()
        if (verdict := judge(row)) is not None:
            row |= {f"limit/{limit}": float(limit == verdict.limit) for limit in LIMITS}
        self.latest |= row
        self._write(row)
        return row

    def record_evaluation(
        self, game: str, *, steps: int, updates: int, result: EvaluationResult
    ) -> Row:
        """Write one game's test of the weights that had seen so many steps and updates."""
        teacher = self._teachers.get(game)
        figures = {
            "mean": result.mean,
            "std": result.std,
            "max": result.max,
            "episodes": len(result.returns),
            "agreement": result.agreement,
            "kl": result.kl,
            "human_normalized": human_normalized_score(result.mean, self._games[game]),
        }
        if teacher is not None:
            low = self._games[game].random_score
            figures["teacher_mean"] = teacher.mean
            figures["teacher_normalized"] = normalized_score(result.mean, low, teacher.mean)
        row: Row = {"seconds": self._clock() - self._started, "steps": steps, "updates": updates}
        test = {f"test/{game}/{name}": x for name, x in figures.items() if x is not None}
        # The test may be of older weights; where the run stands is said by the looks.
        self.latest |= test
        self._write(row | test)
        return row | test

    def record_teacher(
        self, game: str, *, steps: int, updates: int, result: EvaluationResult
    ) -> Row:
        """Write what a game's teacher scored when the run tried it."""
        row: Row = {"seconds": self._clock() - self._started, "steps": steps, "updates": updates}
        figures = {
            f"teacher/{game}/mean": result.mean,
            f"teacher/{game}/std": result.std,
            f"teacher/{game}/max": result.max,
            f"teacher/{game}/episodes": len(result.returns),
        }
        self.latest |= figures
        self._write(row | figures)
        return row | figures

    def record_event(self, text: str, progress: Progress) -> None:
        """Write what somebody has changed while the run goes on to events.jsonl."""
        event = {
            "seconds": self._clock() - self._started,
            "steps": progress.steps,
            "updates": progress.updates,
            "event": text,
        }
        with self._events_path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(event) + "\n")

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the time inside out of all rates: a test that stops the training, for example."""
        start = self._clock()
        try:
            yield
        finally:
            self._paused_s += self._clock() - start

    def overall(self) -> Throughput:
        """Means from the learner's first update in this session to the last look."""
        return self._overall.throughput()

    def close(self) -> None:
        """Finish both files; once is enough, twice does no harm."""
        self._lines.close()
        self._tensorboard.close()

    def _frames(self, before: _Look, now: _Look) -> Row:
        seconds = now.seconds - before.seconds
        if seconds <= 0:
            return {}
        frames = sum(
            (game.steps - before.progress.games[name].steps) * self._games[name].frames_per_step
            for name, game in now.progress.games.items()
            if name in self._games
        )
        return {"frames_per_second": frames / seconds}

    def _counts(self, progress: Progress) -> Row:
        """All that needs no earlier look."""
        row: Row = {
            "seconds": self._clock() - self._started,
            "steps": progress.steps,
            "updates": progress.updates,
            **progress.metrics,
            "overwritten_unsampled": progress.overwritten_unsampled,
            "stale_priorities": progress.stale_priorities,
            **replay_figures(progress),
        }
        faults = dict.fromkeys(MENDED_FAULTS, 0) | progress.faults
        row |= {f"faults/{kind}": count for kind, count in faults.items()}
        for name, game in progress.games.items():
            row |= {
                f"game/{name}/steps": game.steps,
                f"game/{name}/episodes": game.episodes,
                f"game/{name}/actors": game.actors,
                f"game/{name}/actors_wanted": game.wanted,
                f"game/{name}/actors_pending": game.waiting,
                f"game/{name}/replay_size": game.replay_size,
            }
            if returns := self._returns[name].select(game):
                row[f"game/{name}/return"] = sum(returns) / len(returns)
        return row

    def _write(self, row: Row) -> None:
        self._lines.write(row)
        self._tensorboard.write(row)
        for outlet in self._outlets:
            outlet(row)


def _rates(before: _Look, now: _Look) -> Row:
    """What happened per second between two looks."""
    seconds = now.seconds - before.seconds
    if seconds <= 0:
        return {}
    old, new = before.progress, now.progress
    row = {
        "steps_per_second": (new.steps - old.steps) / seconds,
        "samples_per_second": (now.sampled - before.sampled) / seconds,
        "updates_per_second": (new.updates - old.updates) / seconds,
        "insert_waiting": (new.insert_wait_s - old.insert_wait_s) / seconds,
        "sample_waiting": (new.sample_wait_s - old.sample_wait_s) / seconds,
    }
    for name, game in new.games.items():
        steps = game.steps - old.games[name].steps
        sampled = game.sampled - old.games[name].sampled
        row[f"game/{name}/steps_per_second"] = steps / seconds
        inserted = game.inserted - old.games[name].inserted
        row[f"game/{name}/samples_per_second"] = sampled / seconds
        row[f"game/{name}/inserts_per_second"] = inserted / seconds
    return row | replay_rates(old, new, seconds)


def _usage(looks: Sequence[_Look], now: _Look) -> Row:
    """Since the newest look that is old enough, or the first one that the learner is in."""
    known = [look for look in looks if look.progress.usage.learner is not None] or [*looks]
    before = next(
        (look for look in reversed(known) if now.seconds - look.seconds >= _USAGE_WINDOW_S),
        known[0],
    )
    seconds = now.seconds - before.seconds
    return usage_rates(before.progress, now.progress, seconds) if seconds > 0 else {}


def _samples_per_insert(before: _Look, now: _Look) -> Row:
    """Over about a minute: between two looks a game may not get even one chunk."""
    row: Row = {}
    if (inserted := now.inserted - before.inserted) > 0:
        row["samples_per_insert"] = (now.sampled - before.sampled) / inserted
    for name, game in now.progress.games.items():
        old = before.progress.games[name]
        if (inserted := game.inserted - old.inserted) > 0:
            row[f"game/{name}/samples_per_insert"] = (game.sampled - old.sampled) / inserted
    return row


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


class _Overall:
    """Sums over all pairs of looks since the learner began; pairs across a restart are left out."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self._steps = self._updates = self._sampled = self._inserted = 0
        self._lag_sum = 0.0
        self._lag_updates = 0

    def add(self, before: _Look, now: _Look) -> None:
        updates = now.progress.updates - before.progress.updates
        if not self._updates and not updates:
            return
        self._seconds += now.seconds - before.seconds
        self._steps += now.progress.steps - before.progress.steps
        self._updates += updates
        self._sampled += now.sampled - before.sampled
        self._inserted += now.inserted - before.inserted
        lag = now.progress.metrics.get("policy_lag")
        if lag is not None:
            self._lag_sum += lag * updates
            self._lag_updates += updates

    def throughput(self) -> Throughput:
        return Throughput(
            steps_per_second=_ratio(self._steps, self._seconds),
            samples_per_second=_ratio(self._sampled, self._seconds),
            updates_per_second=_ratio(self._updates, self._seconds),
            samples_per_insert=_ratio(self._sampled, self._inserted),
            policy_lag_mean=_ratio(self._lag_sum, self._lag_updates),
        )


def _ratio(value: float, by: float) -> float | None:
    return value / by if by > 0 else None


class _JsonLines:
    """Appends one JSON object a line, each on disk at once."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a+b")
        self._drop_torn_line()

    def _drop_torn_line(self) -> None:
        """What a killed process left of its last line would spoil the next one."""
        start = max(0, self._file.seek(0, os.SEEK_END) - _MAX_LINE_BYTES)
        self._file.seek(start)
        self._file.truncate(start + self._file.read().rfind(b"\n") + 1)

    def write(self, row: Mapping[str, float]) -> None:
        line = json.dumps({key: _json_number(value) for key, value in row.items()}, allow_nan=False)
        self._file.write(line.encode() + b"\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def _json_number(value: float) -> float | None:
    """Seven digits are enough to read; JSON has no NaN."""
    if isinstance(value, int):
        return value
    return float(f"{value:.7g}") if math.isfinite(value) else None


class _TensorBoard:
    """The same rows as scalars over steps."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: SummaryWriter | None = None

    def write(self, row: Mapping[str, float]) -> None:
        step = int(row["steps"])
        if self._writer is None:
            self._writer = self._open(step)
        for key, value in row.items():
            self._writer.add_scalar(key, value, step)

    def _open(self, step: int) -> SummaryWriter:
        # Takes a second to import, which only a run that gets this far should spend.
        from torch.utils.tensorboard import SummaryWriter

        resumes = any(self._folder.glob("events.out.tfevents.*"))
        # A resumed run goes back to its checkpoint: hide what was recorded after it.
        return SummaryWriter(str(self._folder), purge_step=step if resumes else None, flush_secs=30)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
