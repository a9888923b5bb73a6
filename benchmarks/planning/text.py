"""A plan as one JSON object, and as lines for people."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from benchmarks.planning.estimate import UNCERTAINTY, Estimate
from benchmarks.planning.probe import Probe
from benchmarks.timing import short

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
            "samples_per_s": value.samples_per_s,
            "uncertainty": UNCERTAINTY,
        }
    plain: dict[str, Any] = _shortened(document)
    return plain


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
    lines += ["", *(f"note: {note}" for note in document["notes"])]
    lines.append(
        f"Where nothing is assumed, expect these paces within about {UNCERTAINTY:.0%}, on machines "
        "that do nothing else."
    )
    return "\n".join(lines)


def _format_estimate(estimate: Mapping[str, Any], target_steps: int) -> list[str]:
    limits = ", ".join(
        f"{name} {_figure(value)}"
        for name, value in sorted(estimate["limits"].items(), key=lambda item: item[1] or 0)
    )
    memory = estimate["memory_bytes"]
    shares = ", ".join(f"{name} {size / 2**30:.2g}" for name, size in memory.items())
    network = estimate["network_bytes_per_s"]
    kinds = ", ".join(f"{name} {rate / 1e6:,.3g}" for name, rate in network.items())
    learner = estimate["learner"]
    lines = [
        f"{estimate['where']}: {_number_of(estimate['nodes'], 'node')}, "
        f"{_number_of(estimate['cpus'], 'CPU')}, {_number_of(estimate['actors'], 'actor')}",
        f"  steps/s             {_figure(estimate['steps_per_s'])}   (1 step = 4 frames in Atari)",
        f"  samples/s           {_figure(estimate['samples_per_s'])}",
        f"  bottleneck          {estimate['bottleneck']}: {estimate['advice']}",
        f"    limits, steps/s   {limits}",
        f"    one learner       {learner['samples_per_s']:,.0f} samples/s, {learner['origin']}",
        f"  memory, GiB         {sum(memory.values()) / 2**30:.1f} ({shares})",
        f"  between nodes, MB/s {sum(network.values()) / 1e6:,.3g} ({kinds})",
        f"  {target_steps:,} steps".ljust(21) + " " + _format_time(estimate),
    ]
    for key in ("shortage", "memory_shortage"):
        if estimate[key]:
            lines.insert(1, f"  DOES NOT FIT: {estimate[key]}")
    return lines


def _format_time(estimate: Mapping[str, Any]) -> str:
    seconds = estimate["seconds"]
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


def _number_of(count: int | None, thing: str) -> str:
    return f"{'?' if count is None else count} {thing}{'' if count == 1 else 's'}"


def _shortened(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _shortened(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_shortened(item) for item in value]
    if isinstance(value, float):
        return short(value) if math.isfinite(value) else None
    return value
