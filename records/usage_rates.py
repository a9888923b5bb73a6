"""Where the time of a run's roles goes, and what they move: rates out of counters.

Every process counts for itself (learner, actors, shards; docs/metrics.md explains the keys), so
the figures hold for roles on any machine. Shares are of a process's own time, as its own clock has
measured it: those of parts that exclude each other add up to 1 at most, however late a report is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from records.progress import Progress, add_up
from records.usage import LearnerUsage

Row: TypeAlias = dict[str, float]


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
