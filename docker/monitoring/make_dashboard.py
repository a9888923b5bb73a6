#!/usr/bin/env python
"""Writes grafana/dashboards/actor_mimic.json: panels of one size in rows of three.

    python docker/monitoring/make_dashboard.py

A test compares the file with this, and the names in it with those that a run exports.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PATH = Path(__file__).parent / "grafana" / "dashboards" / "actor_mimic.json"
DATASOURCE = {"type": "prometheus", "uid": "actor-mimic-prometheus"}
# Grafana's page is 24 wide.
COLUMNS, WIDTH, HEIGHT = 3, 8, 8

# (expression without the choice of a run, legend)
Line = tuple[str, str]


@dataclass(frozen=True)
class Panel:
    """One graph."""

    title: str
    lines: list[Line]
    unit: str = "short"
    kind: str = "timeseries"
    # End of the axis, where it has one.
    highest: float | None = None
    text: str = ""


def own(name: str, *, by: str = "", scale: str = "") -> str:
    """One of the run's figures; a single series for each value of `by`."""
    selected = f'ray_actor_mimic_{name}{{run=~"$run"}}'
    return (f"max by (run, {by}) ({selected})" if by else f"max by (run) ({selected})") + scale


def each(name: str, label: str = "game") -> list[Line]:
    """A figure of every game, or role."""
    return [(own(name, by=label), f"{{{{{label}}}}}")]


def several(*names: str) -> list[Line]:
    """Figures of the run."""
    return [(own(name), name.replace("_", " ")) for name in names]


PANELS = [
    Panel("Limit", each("limit", "role"), kind="state-timeline", highest=1,
          text="What limits the run now; docs/metrics.md says what to change."),
    Panel("Steps per second", each("game_steps_per_second")),
    Panel("Samples and frames per second", several("samples_per_second", "frames_per_second")),
    Panel("Updates per second", several("updates_per_second")),
    Panel("Score: 0 = random, 1 = teacher", each("test_teacher_normalized")),
    Panel("Score: 0 = random, 1 = human", each("test_human_normalized")),
    Panel("Agreement with the teacher", each("test_agreement"), "percentunit", highest=1),
    Panel("KL from the teacher, tests", each("test_kl")),
    Panel("Training return", each("game_return")),
    Panel("Actors", [
        (own("game_actors", by="game"), "{{game}}"),
        (own("game_actors_wanted", by="game"), "{{game}}, wanted"),
        (own("game_actors_pending", by="game"), "{{game}}, waiting for room"),
    ]),
    Panel("Busy", [
        (own("learner_busy"), "learner"),
        (f"{own('actor_stepping')} + {own('actor_network')}", "actors"),
        (own("shard_busy"), "busiest replay shard"),
    ], "percentunit", highest=1),
    Panel("Waiting", several("learner_waiting", "learner_held", "actor_waiting", "actor_held"),
          "percentunit", highest=1, text="Held: by replay, for the other side."),
    Panel("Samples per insert", each("game_samples_per_insert")),
    Panel("Replay fill", [
        (f"{own('game_replay_size', by='game')} / {own('game_replay_capacity', by='game')}",
         "{{game}}"),
    ], "percentunit", highest=1),
    Panel("Age of what is drawn, median", each("game_sample_age_median"),
          text="Entries of the game that a shard has stored since."),
    Panel("Policy lag", each("game_policy_lag"), text="Updates since the weights that acted."),
    Panel("Policy loss", each("game_policy_loss")),
    Panel("Policy distance", each("game_policy_distance")),
    Panel("Bytes moved", several("bytes_chunks", "bytes_batches", "bytes_weights"), "Bps"),
    Panel("Processor", [
        (own("cpu", by="role"), "{{role}}"),
        (own("cpu_used"), "all roles"),
        (own("cpu_cores"), "cores of the machine"),
    ], text="Cores."),
    Panel("GPU", [(own("gpu_busy"), "busy"), (own("gpu_memory_bytes"), "memory, bytes")],
          text="Empty without one."),
    Panel("Faults mended", [
        *each("restarts", "role"),
        (own("faults_redis_reconnects"), "reconnected to Redis"),
        (own("faults_chunks_lost"), "chunks lost"),
    ]),
    Panel("Redis", several("redis_up"), highest=1),
    Panel("Object store", [
        ('sum by (run, Location) (ray_object_store_memory{run=~"$run"})', "{{Location}}"),
    ], "bytes", text="SPILLED is on disk, and slow."),
]  # fmt: skip


def build() -> dict[str, Any]:
    """The whole document."""
    return {
        "uid": "actor-mimic",
        "title": "Actor-Mimic",
        "schemaVersion": 39,
        "editable": False,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "templating": {"list": [_choice_of_run()]},
        "panels": [_panel(number, panel) for number, panel in enumerate(PANELS)],
    }


def _choice_of_run() -> dict[str, Any]:
    return {
        "name": "run",
        "label": "Run",
        "type": "query",
        "datasource": DATASOURCE,
        "query": {"query": "label_values(ray_actor_mimic_updates, run)", "refId": "run"},
        "refresh": 2,
        "sort": 2,
    }


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    row, column = divmod(number, COLUMNS)
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0 if panel.highest else None}
    return {
        "id": number + 1,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.text,
        "datasource": DATASOURCE,
        "gridPos": {"x": WIDTH * column, "y": HEIGHT * row, "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {"defaults": {**defaults, "max": panel.highest}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + index), "expr": expr, "legendFormat": legend,
             "datasource": DATASOURCE}
            for index, (expr, legend) in enumerate(panel.lines)
        ],
    }  # fmt: skip


def as_text() -> str:
    """The dashboard as the text of its file."""
    return json.dumps(build(), indent=1) + "\n"


if __name__ == "__main__":
    PATH.write_text(as_text())
