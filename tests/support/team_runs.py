"""Engines for small runs of two counting games on Ray."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import counting
import torch
from ray_runs import MadeUpRecipe
from runs import save_random_expert

from actors.config import ActorConfig
from engines.on_ray.engine import RayEngine
from engines.on_redis.bus import RedisAddress
from learner.config import LearnerConfig
from networks.config import NetworkConfig
from recipes.config import RunConfig
from replay.config import ReplayConfig

COUNTING = (counting.CUTS.name, counting.LIVES.name)


def counting_config(folder: Path, **settings: Any) -> RunConfig:
    """One actor for each game, a shard that forgets nothing, and teachers in `folder`."""
    teachers = [f"{game}={save_random_expert(folder, game, torso='minatar')}" for game in COUNTING]
    defaults: dict[str, Any] = {
        "num_steps": 4_000,
        "actor": ActorConfig(num_envs=3, chunk_steps=7),
        "replay": ReplayConfig(
            batch_size=32,
            capacity_per_game=60_000,
            min_size_per_game=100,
            samples_per_insert=2.0,
            samples_per_insert_cap=8.0,
            error_buffer=200.0,
        ),
        "learner": LearnerConfig(publish_period=5),
        "network": NetworkConfig(torso="minatar"),
    }
    return RunConfig(games=COUNTING, teachers=tuple(teachers), **(defaults | settings))


@contextmanager
def started(
    config: RunConfig,
    url: str,
    *,
    name: str,
    state: dict[str, Any] | None = None,
    notes: list[str] | None = None,
) -> Iterator[RayEngine]:
    """An engine, closed at the end."""
    engine = RayEngine(
        MadeUpRecipe(config),
        redis=RedisAddress(url, name),
        device=torch.device("cpu"),
        state=state,
        note=(lambda text: None) if notes is None else notes.append,
    )
    try:
        yield engine
    finally:
        engine.close()
