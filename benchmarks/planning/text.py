"""A plan as one JSON object, and as lines for people."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from benchmarks.planning.estimate import UNCERTAINTY, Estimate
from benchmarks.planning.probe import Probe
from benchmarks.timing import short
from engines.on_ray.room import Room

_ADVICE = {
    "actors": "more actors (or CPUs for them) help",
    "learner": "a faster learner helps (a GPU, several learners), or fewer samples per insert; "
    "more actors do not",
    "replay": "more shards help (--replay.num-shards)",
    "cores": "the roles share too few cores; another machine, or fewer samples per insert, help",
    "network": "a faster network, or actors on the head, help",
}


def as_json(value: Estimate | Probe) -> dict[str, Any]:
    """All fields, and what follows from them; what is not finite becomes null."""
    document: dict[str, Any] = asdict(value)
    if isinstance(value, Estimate):
        document |= {
            "bottleneck": value.bottleneck,
            "advice": _ADVICE[value.bottleneck],
            "steps_per_s": value.steps_per_s,
            "samples_per_s": value.steps_per_s * value.samples_per_insert,
            "uncertainty": UNCERTAINTY,
        }
    plain: dict[str, Any] = _shortened(document)
    return plain


def _shortened(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _shortened(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_shortened(item) for item in value]
    if isinstance(value, float):
        return short(value) if math.isfinite(value) else None
    return value


def format_plan(document: Mapping[str, Any]) -> str:
    """The whole plan."""
    probe = document["probe"]
    actors = ", ".join(f"{game} {count}" for game, count in document["actors"].items())
    speeds = ", ".join(f"{game} {1 / s:,.0f}" for game, s in probe["act_s"].items())
    learner = f"{probe['learner_samples_per_s']:,.0f} samples/s ({probe['learner_device']})"
    replay = f"{1 / probe['insert_s']:,.0f} inserts/s, {1 / probe['gather_s']:,.0f} samples/s"
    lines = [
        f"run      {document['preset']}; actors: {actors}",
        f"probed   {document['hardware']}, load {probe['load']:.1f}",
        f"  acting, one core    steps/s: {speeds}",
        f"  learning            {learner}",
        f"  replay, one core    {replay}",
    ]
    for estimate in document["estimates"]:
        lines += ["", *_format_estimate(estimate, document["target_steps"])]
    return "\n".join(
        [
            *lines,
            "",
            *(f"note: {note}" for note in document["notes"]),
            f"Where nothing is assumed, expect these paces within about {UNCERTAINTY:.0%}, on "
            "machines that do nothing else.",
        ]
    )


def _format_estimate(estimate: Mapping[str, Any], target_steps: int) -> list[str]:
    limits = sorted(estimate["limits"].items(), key=lambda item: item[1] or 0)
    memory = {name: size / 2**30 for name, size in estimate["memory_bytes"].items()}
    network = {kind: rate / 1e6 for kind, rate in estimate["network_bytes_per_s"].items()}
    learner = estimate["learner"]
    counts = [f"{estimate[f'{kind}s']} {kind}" for kind in ("node", "actor")]
    rows = {
        "steps/s": f"{_figure(estimate['steps_per_s'])}   (1 step = 4 frames in Atari)",
        "samples/s": _figure(estimate["samples_per_s"]),
        "bottleneck": f"{estimate['bottleneck']}: {estimate['advice']}",
        "  limits, steps/s": ", ".join(f"{name} {_figure(value)}" for name, value in limits),
        "  one learner": f"{learner['samples_per_s']:,.0f} samples/s, {learner['origin']}",
        "ask for": f"{Room(**estimate['needs'])}, {sum(memory.values()):.1f} GiB of memory",
        "  memory, GiB": ", ".join(f"{name} {size:.2g}" for name, size in memory.items()),
        "between nodes, MB/s": f"{sum(network.values()):,.3g} ("
        + ", ".join(f"{kind} {rate:,.3g}" for kind, rate in network.items())
        + ")",
        f"{target_steps:,} steps": _format_time(estimate["seconds"]),
    }
    shortages = [estimate[key] for key in ("memory_shortage", "shortage") if estimate[key]]
    return [
        f"{estimate['where']}: {Room(cpus=estimate['cpus'])}, "
        + ", ".join(count if count.startswith("1 ") else f"{count}s" for count in counts),
        *(f"  DOES NOT FIT: {shortage}" for shortage in shortages),
        *(f"  {name:<19} {value}" for name, value in rows.items()),
    ]


def _format_time(seconds: float | None) -> str:
    if seconds is None:
        return "never"
    low, high = seconds / (1 + UNCERTAINTY), seconds / (1 - UNCERTAINTY)
    return f"about {_duration(seconds)} ({_duration(low)} to {_duration(high)})"


def _duration(seconds: float) -> str:
    if seconds < 2 * 3600:
        return f"{seconds / 60:.0f} min"
    hours = seconds / 3600
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:,.1f} d"


def _figure(value: float | None) -> str:
    return "?" if value is None else f"{float(f'{value:.3g}'):,.0f}"
