"""What the benchmarks start from: options, a preset's configuration, teachers, real play."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
import tyro

from games.registry import get_game
from networks.network import MultitaskNetwork
from networks.weights import LocalWeights
from recipes.config import RunConfig
from recipes.limits import choose_device
from recipes.loading import load_config, load_preset
from recipes.recipe import Recipe
from recipes.roles import build_actor, build_own_inference
from replay.types import STREAMS_PER_ACTOR_BITS, Chunk
from teachers.expert import save_expert
from teachers.shipped import shipped_experts

_DEFAULT_SECONDS = {
    "actor": 20.0,
    "replay": 10.0,
    "replay-soak": 600.0,
    "learner": 20.0,
    "system": 35.0,
}
# What the benchmarks of replay measure on when no preset is named: the quickstart, but for these.
# Their experts are made up with a Nature torso, whose features are 512 wide.
_REPLAY_WORDS: Mapping[str, Sequence[str]] = {
    "--games": ("pong", "breakout", "space_invaders"),
    "--replay.batch-size": ("512",),
    # 100,000 transitions in all.
    "--replay.capacity-per-game": ("33334",),
    # So that features are stored.
    "--mimic.feature-weight": ("0.01",),
}
# Real steps of each game behind replay's contents.
_PLAYED_STEPS = 1_000
# A pace that nothing waits for.
_UNLIMITED = 1e15


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchOptions:
    """Measure one part of the system against what it could do at best on this machine."""

    benchmark: Annotated[
        Literal["actor", "replay", "replay-soak", "learner", "system"], tyro.conf.Positional
    ]
    """Part of the system to measure."""
    preset: str = ""
    """Where the settings come from: a preset's name or a YAML file; without, the quickstart, and
    for replay what benchmarks/results/README.md says."""
    seconds: float = 0.0
    """Length of the measurement, without preparations; 0: long enough for a steady figure."""
    games: tuple[str, ...] = ()
    """Games; without, the preset's."""
    num_envs: int = 0
    """Environments of one actor; 0: the preset's."""
    batch_size: int = 0
    """Transitions in a batch; 0: the preset's."""
    torso: str = ""
    """The student's; without, the preset's."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the learner computes."""
    peers_python: tuple[str, ...] = ()
    """Python interpreters of the environments that other replay libraries are installed in, to be
    measured after ours (only `replay`)."""

    def __post_init__(self) -> None:
        """Refuse out-of-range values."""
        for path in self.peers_python:
            if not os.access(path, os.X_OK):
                raise ValueError(f"--peers-python {path} is not a program that can be run")
        for name in ("seconds", "num_envs", "batch_size"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")

    @property
    def measuring_s(self) -> float:
        """Seconds to measure for."""
        return self.seconds or _DEFAULT_SECONDS[self.benchmark]

    @property
    def preset_name(self) -> str:
        """The preset that other options override."""
        return self.preset or "quickstart"

    @property
    def is_of_replay(self) -> bool:
        """Whether only replay is measured, and no expert has to play well."""
        return self.benchmark in ("replay", "replay-soak")


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchSetup:
    """A benchmark's options, resolved."""

    options: BenchOptions
    recipe: Recipe
    # Which of them are shipped and which made up.
    teachers: str
    # Processes that wanted a core in the minute before.
    load_before: float

    @property
    def device(self) -> torch.device:
        """Where the learner computes."""
        return choose_device(self.recipe.config)


def prepare(options: BenchOptions, stack: ExitStack) -> BenchSetup:
    """Resolve the configuration and make up the experts that are not shipped.

    An expert's speed does not depend on its weights, so random ones will do. They lie in a folder
    that goes when `stack` is closed.
    """
    load_before = os.getloadavg()[0]
    config = _build_config(options, teachers={})
    # Where labels are only stored, their width counts: that of the paper's experts.
    kept = () if options.is_of_replay else shipped_experts()
    missing = [game for game in config.games if game not in kept]
    if missing:
        torso = "nature" if options.is_of_replay else "nature_quarter"
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        config = _build_config(options, teachers=random_experts(missing, folder, torso=torso))
    torch.manual_seed(config.seed)
    return BenchSetup(
        options=options,
        recipe=Recipe(config),
        teachers=_describe_teachers(config.games, missing),
        load_before=load_before,
    )


def without_pacing(recipe: Recipe) -> Recipe:
    """Give the recipe one replay shard that never makes anyone wait."""
    config = recipe.config
    unlimited = replace(
        config.replay,
        min_size_per_game=1,
        samples_per_insert_cap=_UNLIMITED,
        error_buffer=_UNLIMITED,
        num_shards=1,
    )
    return Recipe(replace(config, replay=unlimited))


class EndlessPlay:
    """Real chunks of one game, given again and again as if its streams went on."""

    def __init__(self, chunks: Sequence[Chunk], *, serial: int) -> None:
        """Give `chunks`, which one actor has played in a row, as those of actor `serial`."""
        base = serial << STREAMS_PER_ACTOR_BITS
        self._chunks = [
            replace(chunk, streams=base + np.arange(len(chunk.lengths))) for chunk in chunks
        ]
        self._start = chunks[0].first_steps
        self._lengths = sum(chunk.lengths for chunk in chunks)
        self._taken = 0

    def take(self) -> Chunk:
        """The next chunk."""
        repeats, index = divmod(self._taken, len(self._chunks))
        self._taken += 1
        chunk = self._chunks[index]
        first_steps = chunk.first_steps - self._start + repeats * self._lengths
        return replace(chunk, first_steps=first_steps)


def play(recipe: Recipe, game: str, *, serial: int) -> list[Chunk]:
    """About a thousand steps of a game, played by a student that knows nothing yet."""
    actor = build_actor(
        recipe,
        game,
        rank=0,
        num_ranks=1,
        serial=serial,
        replay=NoReplay(),
        inference=build_own_inference(recipe, game, LocalWeights()),
    )
    chunks = []
    try:
        while actor.counts.steps < _PLAYED_STEPS:
            chunks.append(actor.collect())
    finally:
        actor.close()
    return chunks


class NoReplay:
    """A ReplayWriter that keeps nothing."""

    def add(self, chunk: Chunk, *, timeout_s: float) -> bool:
        """Forget the chunk."""
        return True


def _build_config(options: BenchOptions, *, teachers: dict[str, str]) -> RunConfig:
    chosen: dict[str, Sequence[str]] = {
        "--games": options.games,
        "--actor.num-envs": _given(options.num_envs),
        "--replay.batch-size": _given(options.batch_size),
        "--network.torso": _given(options.torso),
        "--teachers": [f"{game}={path}" for game, path in teachers.items()],
        "--device": [options.device],
    }
    given = {name: values for name, values in chosen.items() if values}
    if options.is_of_replay and not options.preset:
        given = {**_REPLAY_WORDS, **given}
    words = [word for name, values in given.items() for word in (name, *values)]
    return load_config(words, preset_text=load_preset(options.preset_name), prog="bench.py")


def _given(value: int | str) -> list[str]:
    return [str(value)] if value else []


def random_experts(games: Sequence[str], folder: Path, *, torso: str) -> dict[str, str]:
    """Paths of experts that have learned nothing."""
    paths = {}
    for game in games:
        spec = get_game(game)
        network = MultitaskNetwork(
            torso=torso,
            observation_shape=spec.observation_shape,
            num_actions=spec.num_actions,
            dueling=True,
        )
        path = folder / f"{game}.safetensors"
        fields = {
            "game": game,
            "algorithm": "none",
            "protocol": "classic",
            "trained_steps": 0,
            "scores": [],
            "origin": "made up for a benchmark",
            "licence": "MIT",
        }
        save_expert(network, fields, path)
        paths[game] = str(path)
    return paths


def _describe_teachers(games: Sequence[str], missing: Sequence[str]) -> str:
    if not missing:
        return "shipped"
    return "random" if len(missing) == len(games) else f"random for {', '.join(missing)}"
