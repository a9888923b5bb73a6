"""One unit of the ablation of samplers: one arm, one seed, trained from nothing.

FOLDER/units/ARM-SEED.jsonl has a line for every measurement and a last one that says that the unit
is complete. A file without that line is of a unit that was interrupted: it is done again.

The training clock runs only while the engine does: comparing and testing stand outside. It counts
CPU seconds of the process, playing and learning together, and seconds of the wall.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import nn

from benchmarks.samplers.states import (
    HeldOutStates,
    compare,
    load_states,
    play_states,
)
from engines.local.engine import LocalEngine
from networks.build import use_channels_last
from networks.weights import WeightSnapshot, apply_snapshot
from recipes.evaluation import run_test
from recipes.loading import load_config
from recipes.recipe import Recipe
from recipes.roles import build_env

Record: TypeAlias = dict[str, Any]

ARMS: Mapping[str, Sequence[str]] = {
    "uniform": ("--replay.sampler", "uniform"),
    "proportional": ("--replay.sampler", "proportional"),
    "proportional_weighted": (
        *("--replay.sampler", "proportional"),
        *("--mimic.importance-exponent", "1"),
    ),
    "hierarchical": (
        *("--replay.sampler", "hierarchical"),
        *("--mimic.importance-exponent", "1"),
    ),
    "rank": ("--replay.sampler", "rank"),
}
"""Options of each arm; `proportional` is the default of the presets."""

HELD_OUT_SEED = 7_001
"""Of the student that plays the held-out states, and of its environments; no arm trains with it."""
_HELD_OUT_ENVS = 16
_COMPLETE = {"kind": "complete"}


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitSettings:
    """What all units of an ablation have in common."""

    preset_text: str
    """YAML that everything else overrides."""
    games: tuple[str, ...]
    teachers: tuple[str, ...]
    num_updates: int
    period_updates: int
    """Updates between two measurements."""
    num_episodes: int
    """Of the test at the end, in each game."""

    def recipe(self, arm: str, seed: int) -> Recipe:
        """What a unit trains; exits with status 2 for settings that make no sense."""
        words = [
            *("--games", *self.games),
            *(("--teachers", *self.teachers) if self.teachers else ()),
            *("--seed", str(seed)),
            *("--engine", "local"),
            # Of the games given, whatever the preset has; replaced below.
            *("--num-steps", "1"),
            *("--device", "cpu"),
            *("--replay.snapshot-period-s", "0"),
            *("--evaluation.num-episodes", str(self.num_episodes)),
            *ARMS[arm],
        ]
        config = load_config(words, preset_text=self.preset_text, prog="bench.py samplers")
        steps = int(self.num_updates * config.replay.batch_size / config.replay.samples_per_insert)
        return Recipe(replace(config, num_steps=max(1, steps)))

    @property
    def measured_at(self) -> list[int]:
        """Updates after which the student is compared; the first and the last always."""
        return [*range(0, self.num_updates, self.period_updates), self.num_updates]


class TrainingClock:
    """Seconds that training has taken so far, of the CPU and of the wall."""

    def __init__(
        self,
        *,
        cpu: Callable[[], float] = time.process_time,
        wall: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Nothing has been timed yet."""
        self._cpu, self._wall = cpu, wall
        self.cpu_s = 0.0
        self.wall_s = 0.0

    def time(self, work: Callable[[], object]) -> None:
        """Do some work and count it."""
        cpu, wall = self._cpu(), self._wall()
        work()
        self.cpu_s += self._cpu() - cpu
        self.wall_s += self._wall() - wall


def unit_path(folder: Path, arm: str, seed: int) -> Path:
    """Where a unit's measurements are."""
    return folder / "units" / f"{arm}-{seed}.jsonl"


def read_unit(path: Path) -> list[Record] | None:
    """The measurements of a complete unit; None if there is none."""
    if not path.exists():
        return None
    try:
        records = [json.loads(line) for line in path.read_text().splitlines()]
    except ValueError:
        return None  # Its last line was cut short.
    return records[:-1] if records and records[-1] == _COMPLETE else None


def run_unit(settings: UnitSettings, folder: Path, arm: str, seed: int) -> None:
    """Train one student and write down what becomes of it."""
    torch.set_num_threads(1)
    recipe = settings.recipe(arm, seed)
    held_out = load_states(folder)
    path = unit_path(folder, arm, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:

        def write(record: Record) -> None:
            file.write(json.dumps(record) + "\n")
            file.flush()

        snapshot, steps = _train(settings, recipe, held_out, {"arm": arm, "seed": seed}, write)
        for game in recipe.games:
            result = run_test(recipe, game, snapshot, steps).result
            score = {"kind": "score", "arm": arm, "seed": seed, "game": game, "steps": steps}
            write({**score, "returns": list(result.returns)})
        write(_COMPLETE)


def _train(
    settings: UnitSettings,
    recipe: Recipe,
    held_out: Mapping[str, HeldOutStates],
    names: Record,
    write: Callable[[Record], None],
) -> tuple[WeightSnapshot, int]:
    """Weights after the last update, and the steps played for them; measures on the way."""
    engine, clock = LocalEngine(recipe, device=torch.device("cpu")), TrainingClock()
    try:
        for updates in settings.measured_at:
            clock.time(lambda: engine.advance_to(updates))  # noqa: B023 - called at once
            snapshot = engine.snapshot()
            for game, states in held_out.items():
                temperature = recipe.config.temperature_of[game]
                student = _student(recipe, game, snapshot)
                found = compare(student, states, temperature=temperature)
                record = {"kind": "curve", **names, "game": game, "updates": updates}
                times = {"cpu_s": round(clock.cpu_s, 3), "wall_s": round(clock.wall_s, 3)}
                write({**record, **times, "kl": found.kl, "agreement": found.agreement})
        return snapshot, engine.progress().steps
    finally:
        engine.close()


def make_states(settings: UnitSettings, num_states: int) -> dict[str, HeldOutStates]:
    """Train a student for a third of the updates, uniformly, and play with it and its teachers."""
    torch.set_num_threads(1)
    recipe = settings.recipe("uniform", HELD_OUT_SEED)
    engine = LocalEngine(recipe, device=torch.device("cpu"))
    try:
        engine.advance_to(max(1, settings.num_updates // 3))
        snapshot = engine.snapshot()
    finally:
        engine.close()
    return {game: _play_game(recipe, game, snapshot, num_states) for game in recipe.games}


def _play_game(
    recipe: Recipe, game: str, snapshot: WeightSnapshot, num_states: int
) -> HeldOutStates:
    env = build_env(recipe.config, game, num_envs=_HELD_OUT_ENVS, seed=HELD_OUT_SEED)
    try:
        return play_states(
            env,
            recipe.load_teacher(game),
            _student(recipe, game, snapshot),
            num_states=num_states,
            seed=HELD_OUT_SEED,
        )
    finally:
        env.close()


def _student(recipe: Recipe, game: str, snapshot: WeightSnapshot) -> nn.Module:
    network = recipe.build_acting_network(game).eval()
    apply_snapshot(network, snapshot)
    use_channels_last(network)
    return network
