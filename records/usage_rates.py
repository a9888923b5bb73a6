"""Where the time of a run's roles goes, and what they move: rates out of counters.

Every process counts for itself (learner, actors, shards; docs/metrics.md explains the keys), so
the figures hold for roles on any machine. Shares are of the time of one process, 0 to 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from records.progress import Progress
from records.usage import LearnerUsage

Row: TypeAlias = dict[str, float]


def usage_rates(before: Progress, now: Progress, seconds: float) -> Row:
    """What was used between two looks; what was counted from a new beginning is left out."""
    old, new = before.usage, now.usage
    row = _learner_shares(old.learner, new.learner)
    row |= _actor_shares(before, now, seconds)
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


def _actor_shares(before: Progress, now: Progress, seconds: float) -> Row:
    """Means over actors; nothing while there are none."""
    games = [(before.games[name], game) for name, game in now.games.items()]
    # Those that came or went in between were there for about half of the time.
    num_actors = sum(old.actors + new.actors for old, new in games) / 2
    time_of_all = num_actors * seconds
    if time_of_all <= 0:
        return {}
    row = {
        "actor_stepping": _sum([new.stepping_s - old.stepping_s for old, new in games]),
        "actor_network": _sum([new.network_s - old.network_s for old, new in games]),
        "actor_waiting": _sum([new.waiting_s - old.waiting_s for old, new in games]),
        "actor_held": now.insert_wait_s - before.insert_wait_s,
    }
    shares = {key: _share(value, time_of_all) for key, value in row.items()}
    for name, (old, new) in zip(now.games, games, strict=True):
        if (num := (old.actors + new.actors) / 2) > 0:
            waited = _share(new.waiting_s - old.waiting_s, num * seconds)
            shares[f"game/{name}/actor_waiting"] = waited
    return shares


def _rises(kind: str, old: Mapping[str, float], new: Mapping[str, float], seconds: float) -> Row:
    return {
        f"{kind}/{name}": (value - old[name]) / seconds
        for name, value in new.items()
        if name in old and value >= old[name]
    }


def _sum(values: Sequence[float]) -> float:
    # One that was replaced begins at 0 again.
    return sum(max(0.0, value) for value in values)


def _share(part: float, whole: float) -> float:
    """Reports are not of exactly the same moments, so a little more than 1 is 1."""
    return min(1.0, max(0.0, part / whole))
