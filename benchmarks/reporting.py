"""The line that a benchmark ends with, and the lines for people before it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Mapping
from typing import Any

from benchmarks.setup import BenchSetup
from benchmarks.timing import Result, short
from records.machine import describe_hardware

_PACKAGES = ("distributed-actor-mimic", "torch", "ray", "numpy", "ale-py")


def complete_report(result: Result, setup: BenchSetup) -> dict[str, Any]:
    """Everything that is needed to read the result, or to measure it again."""
    config = setup.recipe.config
    return {
        "benchmark": setup.options.benchmark,
        "measured": short(result.measured),
        "bound": short(result.bound),
        "ratio": short(result.ratio),
        "target": result.target,
        "unit": result.unit,
        **result.further,
        "parts": {name: short(value) for name, value in result.parts.items()},
        "rounds": result.rounds,
        "teachers": setup.teachers,
        "settings": {
            "preset": setup.options.preset_name,
            "games": list(config.games),
            "num_envs": config.actor.num_envs,
            "chunk_steps": config.actor.chunk_steps,
            "batch_size": config.replay.batch_size,
            "torso": config.network.torso,
            "seed": config.seed,
            **result.settings,
        },
        "versions": describe_versions(),
        "hardware": describe_hardware(),
        # What else the machine was doing; above 0 when it began, it was not idle.
        "load_before": short(setup.load_before),
        "nice": os.nice(0),
    }


def describe_versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    return {
        "python": platform.python_version(),
        **{package: importlib.metadata.version(package) for package in _PACKAGES},
    }


def format_report(report: Mapping[str, Any], table: str) -> str:
    """Some lines for people: where and how, the table or, without one, the parts, the result."""
    target = report["target"]
    aim = "" if target is None else f" (target {target:g})"
    parts = "\n".join(f"{name:<24} {value:.5g}" for name, value in report["parts"].items())
    return "\n".join(
        [
            f"on       {report['hardware']}, load {report['load_before']:g}",
            f"with     {_list(report['versions'])}",
            f"settings {_list(report['settings'])}",
            "",
            table or parts,
            f"{report['benchmark']}: {report['measured']:,.0f} of {report['bound']:,.0f} "
            f"{report['unit']}, ratio {report['ratio']:.2f}{aim}",
        ]
    )


def _list(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_words(value)}" for name, value in values.items())


def _words(value: Any) -> str:
    if isinstance(value, Mapping):
        return "(" + _list(value) + ")"
    return "+".join(value) if isinstance(value, list) else str(value)
