"""Gives a run's figures to Prometheus, through the exporter that Ray has on every node.

Ray serves them under its own prefix, `ray_`, at a port of each node. Which ports these are stands
in a file beside the run's folder, which Prometheus reads by itself (file_sd). docs/monitoring.md
says how figures are named there, and docs/metrics.md what they mean.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from networks.atomic_file import write_atomically

PREFIX = "actor_mimic_"

# Between two looks for nodes that have come or gone.
_REFRESH_S = 30.0
_BY_GAME = ("game", "test", "teacher")
_TOTALS = ("cpu/used", "cpu/cores")
# Where the tested weights stand, in the row of a test; not where the run does.
_POSITION = ("seconds", "steps", "updates")


@dataclass(frozen=True, slots=True)
class Exported:
    """A figure as Ray is given it."""

    name: str
    # `game` or `role`; empty for none.
    label: str = ""
    # Of the label.
    value: str = ""


def exported(key: str) -> Exported:
    """What a key of docs/metrics.md is called; only `game` and `role` become labels."""
    kind, *rest = key.split("/")
    if kind in _BY_GAME and len(rest) > 1:
        return Exported(f"{PREFIX}{kind}_{rest[1]}", "game", rest[0])
    if kind == "faults" and key.endswith("_restarts"):
        return Exported(f"{PREFIX}restarts", "role", rest[0].removesuffix("_restarts"))
    if kind in ("cpu", "limit") and key not in _TOTALS:
        return Exported(f"{PREFIX}{kind}", "role", rest[0].removesuffix("s"))
    return Exported(PREFIX + key.replace("/", "_"))


class Exporter:
    """Passes rows on to Ray; `take` is for records.recorder.Recorder."""

    def __init__(
        self,
        targets_path: Path,
        *,
        run: str,
        new_gauge: Callable[..., Any],
        find_targets: Callable[[], Sequence[str]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Write the addresses, host:port, of all nodes' exporters; no figure is there yet."""
        self._path = targets_path
        self._run = run
        self._new_gauge = new_gauge
        self._find_targets = find_targets
        self._clock = clock
        self._gauges: dict[str, Any] = {}
        self._targets: Sequence[str] = ()
        self._looked = -math.inf
        self._refresh()

    def take(self, row: Mapping[str, float]) -> None:
        """Show a row's figures from now on; those that are not finite stay as they were."""
        self._refresh()
        is_test = any(key.startswith(("test/", "teacher/")) for key in row)
        for key, value in row.items():
            if math.isfinite(value) and not (is_test and key in _POSITION):
                self._set(exported(key), value)

    def _set(self, figure: Exported, value: float) -> None:
        gauge = self._gauges.get(figure.name)
        if gauge is None:
            gauge = self._gauges[figure.name] = self._new_gauge(
                figure.name,
                description="See docs/metrics.md.",
                tag_keys=(figure.label,) if figure.label else (),
            )
        gauge.set(value, {figure.label: figure.value} if figure.label else {})

    def _refresh(self) -> None:
        if self._clock() - self._looked < _REFRESH_S:
            return
        self._looked = self._clock()
        targets = self._find_targets()
        if targets != self._targets:
            self._targets = targets
            document = [{"labels": {"run": self._run}, "targets": list(targets)}]
            write_atomically(self._path, json.dumps(document).encode())

    def close(self) -> None:
        """Take the addresses back: nothing answers there any more."""
        self._path.unlink(missing_ok=True)


def targets_path(run_dir: Path) -> Path:
    """All in one folder: Prometheus does not look for them in folders of any name."""
    return run_dir.parent / f"prometheus-{run_dir.name}.json"
