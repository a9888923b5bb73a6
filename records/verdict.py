"""What limits a run: the actors, replay, the network between them, or the learner.

    busy    share of its time that a part works; what limits a pipeline works nearly all the time
    held    share of its time that replay holds a part back on purpose, for the other side
    waits   share of its time that a part has nothing to do, for whatever reason

Whoever is busy most of the time is the limit; of actors and learner, if both are, the one that
replay holds the other one back for. If nobody is, and replay does not hold anybody back either,
then chunks or batches are on their way between processes: the network. Pure functions of the
figures of looks; docs/metrics.md explains them and what to change.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, TypeAlias, get_args

Limit: TypeAlias = Literal["actors", "replay", "network", "learner"]
LIMITS: tuple[Limit, ...] = get_args(Limit)

# Below this share of its time, a part does not count as working nearly all the time.
_BUSY = 0.6
# Waiting that replay has not caused, and that therefore is the way between the processes.
_UNEXPLAINED = 0.25
# Share of the machine's cores in use above which its parts take them from each other.
_CROWDED = 0.9


@dataclass(frozen=True, slots=True)
class Verdict:
    """What limits the run now."""

    limit: Limit
    # Shares that it rests on.
    numbers: dict[str, float]
    reason: str
    # What to change.
    advice: str

    def to_map(self) -> dict[str, Any]:
        """The verdict as a run's status shows it."""
        return asdict(self)


def judge(row: Mapping[str, float]) -> Verdict | None:
    """The limit by the figures of one look; None as long as nothing is learned or measured."""
    if "learner_busy" not in row or not row.get("updates"):
        return None
    num_actors = sum(x for key, x in row.items() if _is_of_game(key, "actors"))
    if not num_actors:
        return Verdict(
            "actors", {"actors": 0}, "no actor plays", "give the games actors (launch/scale.py)"
        )
    if "actor_stepping" not in row:
        return None
    if "learner_waiting" not in row:
        return _judge_one_process(row, num_actors)
    return _judge_processes(row)


def typical_verdict(rows: Iterable[Mapping[str, float]], limit: Limit) -> Verdict | None:
    """What the looks at which this was the limit had in common; None if it never was.

    The means of their numbers, with reason and advice of the look that is nearest to them.
    """
    found = [verdict for row in rows if (verdict := judge(row)) and verdict.limit == limit]
    if not found:
        return None
    names = dict.fromkeys(name for verdict in found for name in verdict.numbers)
    values = {name: [v.numbers[name] for v in found if name in v.numbers] for name in names}
    means = {name: math.fsum(known) / len(known) for name, known in values.items()}
    nearest = min(
        found, key=lambda v: sum(abs(value - means[name]) for name, value in v.numbers.items())
    )
    return replace(nearest, numbers=means)


def _judge_one_process(row: Mapping[str, float], num_actors: float) -> Verdict:
    """They take turns in one thread: whoever takes more of it is the limit."""
    numbers = {
        "learner_busy": row["learner_busy"],
        # Of that thread, all actors together.
        "actors_busy": min(1.0, _playing(row) * num_actors),
    }
    limit: Limit = "learner" if numbers["learner_busy"] >= numbers["actors_busy"] else "actors"
    share = numbers[f"{limit}_busy"]
    return Verdict(
        limit,
        numbers,
        f"{_WHO[limit]} {share:.0%} of the one thread",
        "use --engine ray, where all parts work at the same time",
    )


def _judge_processes(row: Mapping[str, float]) -> Verdict:
    numbers = {
        "learner_busy": max(row["learner_busy"], row.get("learner_loading", 0.0)),
        "learner_waiting": row["learner_waiting"],
        "learner_held": row.get("learner_held", 0.0),
        "actors_busy": min(1.0, _playing(row)),
        "actors_waiting": row["actor_waiting"],
        "actors_held": row["actor_held"],
        "replay_busy": row.get("shard_busy", 0.0),
    }
    busy: dict[Limit, float] = {
        "learner": numbers["learner_busy"],
        "actors": numbers["actors_busy"],
        "replay": numbers["replay_busy"],
    }
    limit = max(busy, key=lambda part: busy[part])
    if limit != "replay" and min(busy["learner"], busy["actors"]) >= _BUSY:
        limit = "actors" if numbers["learner_held"] > numbers["actors_held"] else "learner"
    if busy[limit] >= _BUSY:
        return Verdict(limit, numbers, _WORKS[limit].format(busy[limit]), _advise(limit, row))
    lost = max(
        numbers["learner_waiting"] - numbers["learner_held"],
        numbers["actors_waiting"] - numbers["actors_held"],
    )
    if lost >= _UNEXPLAINED:
        return Verdict("network", numbers, _LOST.format(lost), _advise("network", row))
    return Verdict(limit, numbers, _IN_TURN.format(limit, busy[limit]), _WIDEN)


def _playing(row: Mapping[str, float]) -> float:
    return row["actor_stepping"] + row["actor_network"]


def _is_of_game(key: str, name: str) -> bool:
    return key.startswith("game/") and key.endswith(f"/{name}")


def _advise(limit: Limit, row: Mapping[str, float]) -> str:
    advice = _ADVICE[limit]
    if limit == "actors" and row["actor_network"] > 2 * row["actor_stepping"]:
        advice = _ADVICE_NETWORKS
    cores = row.get("cpu/cores", 0.0)
    if cores and row.get("cpu/used", 0.0) >= _CROWDED * cores:
        advice += f"; all {cores:g} cores of this machine are in use, so it needs more of them"
    return advice


_WHO: dict[Limit, str] = {"learner": "the learner takes", "actors": "the actors take"}
_WORKS: dict[Limit, str] = {
    "learner": "the learner works {:.0%} of the time",
    "actors": "the actors play {:.0%} of the time",
    "replay": "the busiest replay shard works {:.0%} of the time",
}
_LOST = "no part is busy, and {:.0%} of the time goes by while data are between processes"
_IN_TURN = "learner and actors wait for each other in turn; {} work most, {:.0%} of the time"
_ADVICE: dict[Limit, str] = {
    "learner": "a GPU or more cores for the learner, more learner.num_replicas, a smaller torso, "
    "or a lower replay.samples_per_insert",
    "actors": "more actors or nodes, or a higher replay.samples_per_insert",
    "replay": "more replay.num_shards, or replay.compression none where it is lz4",
    "network": "learner and replay on one node (replay.spread False), larger actor.chunk_steps and "
    "replay.batch_size, or a faster network",
}
_ADVICE_NETWORKS = (
    "most of the actors' time goes into networks: actor.inference server, a smaller torso, or more "
    "actors"
)
_WIDEN = "a larger replay.error_buffer, so that neither side waits for a single chunk of the other"
