"""What the samplers of replay are worth: an ablation over arms and seeds (docs/replay.md).

    python launch/bench.py samplers --output runs/samplers
    python launch/bench.py samplers --output runs/samplers --arms uniform rank --seeds 1 2 3 4

Each arm and seed is a *unit*: a student trained from nothing by the in-process engine, compared
with its teachers on the same held-out states every so many updates, and tested at the end. Units
that are complete in the output folder are not done again, so an interrupted ablation goes on, and
one with more arms or seeds adds to what is there.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import tyro

from benchmarks.reporting import describe_versions
from benchmarks.samplers.figures import (
    charts,
    curves_csv,
    format_table,
    results,
    write_plot,
)
from benchmarks.samplers.states import open_states
from benchmarks.samplers.units import (
    ARMS,
    HELD_OUT_SEED,
    Record,
    UnitSettings,
    make_states,
    read_unit,
    run_unit,
    unit_path,
)
from benchmarks.timing import short
from networks.atomic_file import write_atomically
from recipes.errors import parse_or_fail
from recipes.loading import load_preset
from records.machine import describe_hardware

_PROG = "bench.py samplers"
_Unit = tuple[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplerOptions:
    """Compare the samplers of replay on the same games, settings and seeds."""

    output: Path
    """Folder of the results; one that has some is gone on with."""
    arms: tuple[str, ...] = ("uniform", "proportional", "proportional_weighted", "hierarchical")
    """Samplers to compare, also `rank`."""
    seeds: tuple[int, ...] = (1, 2, 3)
    """Of networks, environments and draws; the same for every arm."""
    games: tuple[str, ...] = ("pong", "breakout")
    """Games of every student."""
    teachers: tuple[str, ...] = ()
    """`game=path/to/GAME.safetensors` where it is not the one that comes with the package."""
    preset: str = "quickstart"
    """Where all other settings come from: a preset's name or a YAML file."""
    num_updates: int = 3_000
    """Of every student."""
    period_updates: int = 200
    """Updates between two comparisons with the teachers."""
    num_states: int = 2_000
    """Held-out states of each game."""
    num_episodes: int = 10
    """Of each game in the test at the end."""
    num_workers: int = 1
    """Units side by side, each on one core."""

    def __post_init__(self) -> None:
        """Refuse values that make no sense, naming them."""
        for arm in self.arms:
            if arm not in ARMS:
                raise ValueError(f"unknown arm {arm!r}; choose among {', '.join(ARMS)}")
        for name in ("arms", "seeds"):
            values = getattr(self, name)
            if not values or len(set(values)) != len(values):
                raise ValueError(f"--{name} must name at least one, and none twice")
        if min(self.seeds) < 0:
            raise ValueError(f"seeds must not be negative, got {min(self.seeds)}")
        if HELD_OUT_SEED in self.seeds:
            raise ValueError(f"seed {HELD_OUT_SEED} is that of the held-out states; take another")
        for name in ("num_updates", "period_updates", "num_states", "num_episodes", "num_workers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    @property
    def unit_settings(self) -> UnitSettings:
        """What all units have in common."""
        return UnitSettings(
            preset_text=load_preset(self.preset),
            games=self.games,
            teachers=tuple(self.teachers),
            num_updates=self.num_updates,
            period_updates=self.period_updates,
            num_episodes=self.num_episodes,
        )


def main(argv: Sequence[str]) -> None:
    """Do what is left to do, then show everything."""
    options = parse_or_fail(lambda: tyro.cli(SamplerOptions, args=argv, prog=_PROG), prog=_PROG)
    settings = options.unit_settings
    for arm in options.arms:
        settings.recipe(arm, options.seeds[0])  # Refused now rather than in an hour.
    load_before = os.getloadavg()[0]
    check_settings(options.output, settings, options.num_states)
    open_states(options.output, lambda: make_states(settings, options.num_states))
    run_units(settings, options.output, missing_units(options), num_workers=options.num_workers)
    show(options, load_before=load_before)


def check_settings(folder: Path, settings: UnitSettings, num_states: int) -> None:
    """Write down what all units have in common; ValueError if the folder has other settings."""
    path = folder / "settings.json"
    document = {**asdict(settings), "num_states": num_states}
    text = json.dumps(document, indent=1)
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text.encode())
        return
    before = json.loads(path.read_text())
    for name, value in json.loads(text).items():
        if before.get(name) != value:
            raise ValueError(
                f"{folder} holds an ablation with another {name}; give the same, or another "
                "--output"
            )


def missing_units(options: SamplerOptions) -> list[_Unit]:
    """What is not complete, seed by seed, so that an unfinished ablation compares all arms."""
    return [
        (arm, seed)
        for seed in options.seeds
        for arm in options.arms
        if read_unit(unit_path(options.output, arm, seed)) is None
    ]


def run_units(
    settings: UnitSettings, folder: Path, units: Sequence[_Unit], *, num_workers: int
) -> None:
    """Each in a process of its own, so many at a time.

    Raises:
        RuntimeError: one has failed; its process has shown why. The others are ended.
    """
    spawn = multiprocessing.get_context("spawn")
    left, running = list(units), dict[_Unit, SpawnProcess]()
    try:
        while left or running:
            while left and len(running) < num_workers:
                arm, seed = left.pop(0)
                print(f"{arm}, seed {seed}: begins, {len(left)} more to come", flush=True)
                process = spawn.Process(
                    target=run_unit, args=(settings, folder, arm, seed), daemon=True
                )
                process.start()
                running[arm, seed] = process
            # Each ends by itself: updates and episodes are bounded.
            wait([process.sentinel for process in running.values()])
            for (arm, seed), process in list(running.items()):
                if process.exitcode is not None:
                    del running[arm, seed]
                    if process.exitcode:
                        raise RuntimeError(f"{arm}, seed {seed} ended with {process.exitcode}")
    finally:
        for process in running.values():
            process.terminate()
            process.join()


def show(options: SamplerOptions, *, load_before: float) -> None:
    """Write curves, results and plot of the units asked for; print table and JSON."""
    records = _read_all(options)
    found = results(records, options.arms, options.games)
    report: dict[str, Any] = {
        "benchmark": "samplers",
        "results": [asdict(result) for result in found],
        "arms": list(options.arms),
        "seeds": list(options.seeds),
        "games": list(options.games),
        "num_updates": options.num_updates,
        "num_states": options.num_states,
        "num_episodes": options.num_episodes,
        "preset": options.preset,
        "versions": describe_versions(),
        "hardware": describe_hardware(),
        "load_before": short(load_before),
    }
    panels = charts(records, options.arms, options.games)
    write_atomically(options.output / "curves.csv", curves_csv(records).encode())
    write_atomically(options.output / "results.json", json.dumps(report, indent=1).encode())
    print(format_table(found))
    print(write_plot(options.output / "samplers.png", panels))
    print(json.dumps(report, allow_nan=False))


def _read_all(options: SamplerOptions) -> list[Record]:
    records: list[Record] = []
    for arm in options.arms:
        for seed in options.seeds:
            records += read_unit(unit_path(options.output, arm, seed)) or []
    return records
