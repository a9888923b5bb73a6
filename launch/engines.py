"""Opens what a configuration asks for: an engine, its Redis, its tester.

Everything opened goes onto the caller's ExitStack, so that it is closed again whatever happens.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from launch.config import CommonConfig
from launch.engine import Engine
from launch.local import LocalEngine
from launch.recipe import MultitaskRecipe, Recipe
from launch.redis_bus import RedisBus
from launch.redis_server import PrivateRedis, connect
from launch.roles import build_learner, build_shard, largest_chunk
from launch.testing import InProcessTester, Tester
from networks.weights import LocalWeights
from replay.client import LocalReplayClient
from replay.keeper import clear_snapshots
from replay.slices import shard_of_rank

REDIS_URL_VARIABLE = "ACTOR_MIMIC_REDIS_URL"
"""Environment variable that stands in for --redis-url, which everybody on the machine can read."""


@dataclass(frozen=True, slots=True)
class RunRedis:
    """The Redis of a run."""

    url: str
    """Never logged: it may hold a password."""
    keep_alive: Callable[[], bool]
    """Starts a private server again if it has died; says whether it had."""


def check_redis(config: CommonConfig) -> None:
    """Raises ValueError if the run is to use a server of the user's and it does not answer."""
    if config.engine == "ray" and (url := _configured_url(config)):
        connect(url).close()


def _configured_url(config: CommonConfig) -> str:
    return config.redis_url or os.environ.get(REDIS_URL_VARIABLE, "")


def _open_redis(config: CommonConfig, stack: ExitStack, *, address: str | None) -> RunRedis:
    """The configured server, else a private one: on a socket, or on `address` with a password."""
    if url := _configured_url(config):
        return RunRedis(url, _leave_alone)
    server = stack.enter_context(PrivateRedis(listen_address=address))
    return RunRedis(server.url, server.restart_if_dead)


def _leave_alone() -> bool:
    return False


def check_roles(recipe: Recipe, state: dict[str, Any] | None) -> None:
    """Build replay and learner once in this process, for nothing but their complaints.

    What the settings or the checkpoint make impossible shows here, before anything is written, and
    not as the end of a process somewhere.

    Args:
        recipe: what to train.
        state: a checkpoint's, of a run to go on with.

    Raises:
        ValueError: tables too small, chunks too large for replay or for its pace, or a checkpoint
            of another network, objective or optimizer.
    """
    shards = [build_shard(recipe, shard=n) for n in range(recipe.config.replay.num_shards)]
    for index, game in enumerate(recipe.games):
        shard = shards[shard_of_rank(index, 0, len(shards))]
        shard.add(largest_chunk(recipe, game))
    learner = build_learner(
        recipe,
        replay=LocalReplayClient(shards),
        weights=LocalWeights(),
        device=torch.device("cpu"),
    )
    if state is not None:
        learner.load_state(state["learner"])


def open_engine(
    recipe: Recipe,
    stack: ExitStack,
    *,
    device: torch.device,
    state: dict[str, Any] | None,
    link_name: str,
    replay_dir: Path | None = None,
    note: Callable[[str], None],
) -> Engine:
    """Start the roles, on the Ray of `connect_to_ray` or in this process.

    Args:
        recipe: what to train.
        stack: ends a private Redis when it is closed.
        device: the learner's.
        state: a checkpoint's, of a run to go on with.
        link_name: under which the run's weights lie in Redis.
        replay_dir: for snapshots of replay; None for none.
        note: told about deaths and restarts.
    """
    if state is None and replay_dir is not None:
        clear_snapshots(replay_dir)  # Of a run that is begun anew.
    if recipe.config.engine == "local":
        torch.set_num_threads(1)
        return LocalEngine(recipe, device=device, state=state, replay_dir=replay_dir, note=note)
    from launch.cluster import Link
    from launch.ray_engine import RayEngine
    from launch.ray_session import head_address_for_many

    address = head_address_for_many()
    redis = _open_redis(recipe.config, stack, address=address)
    if address and not _configured_url(recipe.config):
        note(f"started a Redis with a password on {address} for the other nodes")
    # A server that outlives runs may still hold weights that would seem newer: a namesake's, or
    # this run's own of a learner that was restarted more often than its checkpoint knows.
    bus = RedisBus(redis.url, link_name)
    bus.forget_run()
    bus.close()
    return RayEngine(
        recipe,
        link=Link(redis.url, link_name),
        device=device,
        state=state,
        replay_dir=replay_dir,
        keep_redis_alive=redis.keep_alive,
        note=note,
    )


def connect_to_ray(recipe: Recipe, stack: ExitStack) -> None:
    """Before anything is written: what is wrong with the cluster shows here.

    Raises:
        ValueError: it does not answer, or has no room for the run.
    """
    if recipe.config.engine == "ray":
        # Ray takes a second to import, which a local run can do without.
        from launch.ray_session import ray_session

        stack.enter_context(ray_session(recipe))


def open_tester(recipe: MultitaskRecipe) -> Tester:
    """Tests beside the roles on Ray, else in this process."""
    if recipe.config.engine == "local":
        return InProcessTester(recipe)
    from launch.cluster import RayTester

    return RayTester(recipe)
