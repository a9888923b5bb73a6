"""Rates out of counters: what happened per second between two looks at a run.

A rate needs two looks that can be compared: with the same owners of the counters, and none of them
fallen. A role that is restarted, resumed, or answers for the first time counts from some other
number than the one before, and the difference is no work that was done in between.

Every process counts its own time (learner, actors, shards; docs/metrics.md explains the keys), so
the figures hold for roles on any machine. Shares are of a process's own time, as its own clock has
measured it: those of parts that exclude each other add up to 1 at most, however late a report is.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from games.spec import GameSpec
from records.progress import GameProgress, Progress, add_up
from records.summary import Throughput
from records.usage import LearnerUsage

Row: TypeAlias = dict[str, float]

# Over which rates and shares of time are means: chunks of hundreds of steps arrive in jumps, and a
# wait may last longer than the time between two looks.
RATE_WINDOW_S = 10.0
# For ratios, time left, and games that got not one chunk in the shorter window.
_LONG_WINDOW_S = 60.0


@dataclass(frozen=True, slots=True)
class Look:
    """A run at one time."""

    # By the recorder's clock, pauses taken out.
    seconds: float
    progress: Progress

    def follows(self, before: Look) -> bool:
        """Whether what the counters have gained since `before` was done since then."""
        if self.progress.owners != before.progress.owners:
            return False
        new, old = _counters(self.progress), _counters(before.progress)
        return all(value >= old.get(name, 0) for name, value in new.items())


def _counters(progress: Progress) -> dict[str, float]:
    counters = {"updates": progress.updates, "sample_wait_s": progress.sample_wait_s}
    for name, game in progress.games.items():
        counters |= {
            f"{name}/steps": game.steps,
            f"{name}/sampled": game.sampled,
            f"{name}/inserted": game.inserted,
            f"{name}/insert_wait_s": game.replay.insert_wait_s,
        }
    return counters


class Rates:
    """The looks of about the last minute that can be compared, and the means of the session."""

    def __init__(self, games: Mapping[str, GameSpec], *, num_updates: int | None = None) -> None:
        """Nothing was looked at yet; `num_updates`: of the run, None if nobody knows."""
        self._games = games
        self._num_updates = num_updates
        self._looks: deque[Look] = deque()
        self._overall = _Overall()

    def add(self, look: Look) -> Row:
        """The rates as of a new look; none at the first one that can be compared."""
        if self._looks and not look.follows(self._looks[-1]):
            self._looks.clear()
        row = self._since_the_others(look) if self._looks else {}
        self._looks.append(look)
        return row

    def overall(self) -> Throughput:
        """Means from the learner's first update in this session to the last look."""
        return self._overall.throughput()

    def _since_the_others(self, look: Look) -> Row:
        self._overall.add(self._looks[-1], look)
        if look.seconds <= self._looks[-1].seconds:
            return {}
        while len(self._looks) > 1 and look.seconds - self._looks[1].seconds >= _LONG_WINDOW_S:
            self._looks.popleft()
        before = self._at_least(RATE_WINDOW_S, look)
        row = _per_second(before, look) | self._of_games(before, look)
        row |= self._usage(look) | _samples_per_insert(self._looks[0], look)
        return row | self._time_left(look)

    def _at_least(
        self, seconds: float, now: Look, known: Callable[[Look], bool] = lambda look: True
    ) -> Look:
        """The newest look that is so old; the oldest that is known where none is."""
        looks = [look for look in self._looks if known(look)] or list(self._looks)
        old = (look for look in reversed(looks) if now.seconds - look.seconds >= seconds)
        return next(old, looks[0])

    def _of_games(self, before: Look, now: Look) -> Row:
        row: Row = {}
        frames = 0.0
        for name in now.progress.games:
            for key, count in _GAME_RATES.items():
                # Over a minute where nothing has arrived in the shorter window: a game whose
                # chunks take longer than that plays all the same.
                row[f"game/{name}/{key}"] = _game_rate(before, now, name, count) or _game_rate(
                    self._looks[0], now, name, count
                )
            row[f"game/{name}/insert_waiting"] = _game_rate(
                before, now, name, lambda game: game.replay.insert_wait_s
            )
            if name in self._games:
                steps = row[f"game/{name}/steps_per_second"]
                frames += steps * self._games[name].frames_per_step
        return row | {"frames_per_second": frames}

    def _usage(self, now: Look) -> Row:
        # Not from before the learner was there: it would have no shares for ten seconds.
        before = self._at_least(
            RATE_WINDOW_S, now, lambda look: look.progress.usage.learner is not None
        )
        return usage_rates(before.progress, now.progress, now.seconds - before.seconds)

    def _time_left(self, now: Look) -> Row:
        """Seconds to the end at the pace of the last minute, since the learner began to update."""
        if self._num_updates is None:
            return {}
        first = self._looks[0].progress.updates
        start = [look for look in self._looks if look.progress.updates == first][-1]
        pace = _rate(start, now, lambda progress: progress.updates)
        left = max(0, self._num_updates - now.progress.updates)
        return {"seconds_left": left / pace} if pace else {}


_GAME_RATES: dict[str, Callable[[GameProgress], float]] = {
    "steps_per_second": lambda game: game.steps,
    "samples_per_second": lambda game: game.sampled,
    "inserts_per_second": lambda game: game.inserted,
}


def _game_rate(before: Look, now: Look, name: str, count: Callable[[GameProgress], float]) -> float:
    return _rate(before, now, lambda progress: count(progress.games[name]))


def _rate(before: Look, now: Look, count: Callable[[Progress], float]) -> float:
    """Gain of one counter per second."""
    return (count(now.progress) - count(before.progress)) / (now.seconds - before.seconds)


def _per_second(before: Look, now: Look) -> Row:
    return {
        "steps_per_second": _rate(before, now, lambda p: p.steps),
        "samples_per_second": _rate(before, now, lambda p: p.sampled),
        "updates_per_second": _rate(before, now, lambda p: p.updates),
        "insert_waiting": _rate(before, now, lambda p: p.replay.insert_wait_s),
        "sample_waiting": _rate(before, now, lambda p: p.sample_wait_s),
    }


def _samples_per_insert(before: Look, now: Look) -> Row:
    """Over about a minute: between two looks a game may not get even one chunk."""
    row: Row = {}
    old, new = before.progress, now.progress
    if (inserted := new.inserted - old.inserted) > 0:
        row["samples_per_insert"] = (new.sampled - old.sampled) / inserted
    for name, game in new.games.items():
        if (inserted := game.inserted - old.games[name].inserted) > 0:
            sampled = game.sampled - old.games[name].sampled
            row[f"game/{name}/samples_per_insert"] = sampled / inserted
    return row


class _Overall:
    """Sums over all pairs of looks that can be compared, since the learner began."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self._steps = self._updates = self._sampled = self._inserted = 0
        self._lag_sum = 0.0
        self._lag_updates = 0

    def add(self, before: Look, now: Look) -> None:
        old, new = before.progress, now.progress
        updates = new.updates - old.updates
        if not self._updates and not updates:
            return
        self._seconds += now.seconds - before.seconds
        self._steps += new.steps - old.steps
        self._updates += updates
        self._sampled += new.sampled - old.sampled
        self._inserted += new.inserted - old.inserted
        lag = new.metrics.get("policy_lag")
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
    return value / by if by > 0 and math.isfinite(value) else None


def usage_rates(before: Progress, now: Progress, seconds: float) -> Row:
    """What was used between two looks; what was counted from a new beginning is left out."""
    old, new = before.usage, now.usage
    row = _learner_shares(old.learner, new.learner)
    row |= _actor_shares(before, now)
    if len(old.shards_busy_s) == len(new.shards_busy_s) > 0:
        pairs = zip(old.shards_busy_s, new.shards_busy_s, strict=True)
        row["shard_busy"] = max(_share(later - earlier, seconds) for earlier, later in pairs)
        waited = (now.sample_wait_s - before.sample_wait_s) / len(new.shards_busy_s)
        row["learner_held"] = _share(waited, seconds)
    row |= _rises("bytes", old.moved_bytes, new.moved_bytes, seconds)
    cpu = _rises("cpu", old.cpu_s, new.cpu_s, seconds)
    if cpu:
        row |= cpu | {"cpu/used": sum(cpu.values())}
    if new.num_cores is not None:
        row["cpu/cores"] = new.num_cores
    return row


def _learner_shares(old: LearnerUsage | None, new: LearnerUsage | None) -> Row:
    if old is None or new is None or (elapsed := new.elapsed_s - old.elapsed_s) <= 0:
        return {}
    row = {"learner_busy": _share(new.updating_s - old.updating_s, elapsed)}
    if old.waiting_s is not None and new.waiting_s is not None:
        row["learner_waiting"] = _share(new.waiting_s - old.waiting_s, elapsed)
        row["learner_loading"] = _share(new.loading_s - old.loading_s, elapsed)
    return row


def _actor_shares(before: Progress, now: Progress) -> Row:
    """Shares of the actors' own time, which each of them measures; none while nobody plays."""
    old = add_up([game.played for game in before.games.values()])
    new = add_up([game.played for game in now.games.values()])
    elapsed = new.elapsed_s - old.elapsed_s
    if elapsed <= 0:
        return {}
    row = {
        "actor_stepping": _share(new.stepping_s - old.stepping_s, elapsed),
        "actor_network": _share(new.network_s - old.network_s, elapsed),
        "actor_waiting": _share(new.waiting_s - old.waiting_s, elapsed),
        "actor_held": _share(now.replay.insert_wait_s - before.replay.insert_wait_s, elapsed),
    }
    for name, game in now.games.items():
        earlier, later = before.games[name].played, game.played
        if (elapsed := later.elapsed_s - earlier.elapsed_s) > 0:
            waited = _share(later.waiting_s - earlier.waiting_s, elapsed)
            row[f"game/{name}/actor_waiting"] = waited
    return row


def _rises(kind: str, old: Mapping[str, float], new: Mapping[str, float], seconds: float) -> Row:
    return {
        f"{kind}/{name}": (value - old[name]) / seconds
        for name, value in new.items()
        if name in old and value >= old[name]
    }


def _share(part: float, whole: float) -> float:
    """From 0 to 1; reports are not of exactly the same moment as the looks that they came for."""
    return min(1.0, max(0.0, part / whole))
