"""What the benchmarks start from: options, a preset's configuration, teachers, real play."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from actors.actor import Actor
from benchmarks.options import BenchOptions
from games.registry import get_game
from networks.network import MultitaskNetwork
from networks.weights import LocalWeights
from recipes.config import RunConfig
from recipes.limits import choose_device
from recipes.loading import load_config, load_preset
from recipes.recipe import Recipe
from recipes.roles import build_actor, build_own_inference
from replay.client import ReplayWriter
from replay.types import Chunk
from teachers.expert import save_expert
from teachers.shipped import shipped_experts

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


def copy_source_bytes(recipe: Recipe) -> int:
    """Bytes for memcpy to copy out of: as many as the tables take, so that caches help both."""
    capacity = recipe.config.replay.capacity_per_game
    specs = [recipe.table_spec(game, capacity) for game in recipe.games]
    return sum(replace(spec, compression="none").nbytes for spec in specs)


def play(recipe: Recipe, game: str, *, serial: int) -> list[Chunk]:
    """About a thousand steps of a game, played by a student that knows nothing yet."""
    chunks = []
    with closing(lone_actor(recipe, game, serial=serial)) as actor:
        while actor.counts.steps < _PLAYED_STEPS:
            chunks.append(actor.collect())
    return chunks


def lone_actor(
    recipe: Recipe,
    game: str,
    *,
    serial: int,
    replay: ReplayWriter | None = None,
    weights: LocalWeights | None = None,
) -> Actor:
    """An actor of a game with no other beside it; by default nobody keeps what it plays."""
    return build_actor(
        recipe,
        game,
        rank=0,
        num_ranks=1,
        serial=serial,
        replay=replay or NoReplay(),
        inference=build_own_inference(recipe, game, weights or LocalWeights()),
    )


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
