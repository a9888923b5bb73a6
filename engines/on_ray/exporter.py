"""Starts the exporter of metrics for Prometheus beside a run."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from records.prometheus import Exporter, MetricsConfig, targets_path


def open_exporter(config: MetricsConfig, run_dir: Path, stack: ExitStack) -> Exporter | None:
    """For a run on the Ray that this process is connected to; None where it is not wanted."""
    if not config.prometheus:
        return None
    import ray
    from ray.util.metrics import Gauge

    nodes: Callable[[], list[dict[str, Any]]] = ray.nodes

    def find_targets() -> list[str]:
        alive = [node for node in nodes() if node["Alive"]]
        return sorted(f"{node['NodeManagerAddress']}:{node['MetricsExportPort']}" for node in alive)

    exporter = Exporter(
        targets_path(run_dir), run=run_dir.name, new_gauge=Gauge, find_targets=find_targets
    )
    stack.callback(exporter.close)
    return exporter
