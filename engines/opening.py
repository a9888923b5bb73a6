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

from engines.engine import Engine
from engines.local.engine import LocalEngine
from engines.on_redis.bus import RedisAddress, RedisBus
from engines.on_redis.client import check_takes_data, connect
from engines.on_redis.run_link import RunLink, check_not_carried
from engines.on_redis.server import PrivateRedis, write_private
from networks.weights import LocalWeights
from recipes.config import RunConfig
from recipes.evaluation import InProcessTester, Tester
from recipes.recipe import Recipe
from recipes.roles import build_learner, build_shard, largest_chunk
from replay.client import LocalReplayClient
from replay.pace.slices import shard_of_rank
from replay.snapshots.keeper import clear_snapshots

# Environment variable that stands in for --redis-url, which everybody on the machine can read.
REDIS_URL_VARIABLE = "ACTOR_MIMIC_REDIS_URL"


@dataclass(frozen=True, slots=True)
class RunRedis:
    """The Redis of a run."""

    # Never logged: it may hold a password.
    url: str
    # Name of the run there.
    run: str
    # Starts a private server again if it has died; says whether it had.
    keep_alive: Callable[[], bool]
    # Process id of a private server.
    find_pid: Callable[[], int | None]


def check_redis(config: RunConfig, *, run: str | None = None) -> None:
    """Look, before anything is written, at a server of the user's that a run is to use.

    Args:
        config: of the run.
        run: name in Redis of a run that is to go on; None for a new one.

    Raises:
        ValueError: it does not answer, takes no data, or knows of another launcher of the run.
    """
    url = _configured_url(config)
    if config.engine != "ray" or not url:
        return
    client = connect(url)
    try:
        check_takes_data(client, url)
    finally:
        client.close()
    if run is not None:
        check_not_carried(url, run)


def _configured_url(config: RunConfig) -> str:
    return config.redis_url or os.environ.get(REDIS_URL_VARIABLE, "")


def open_redis(
    config: RunConfig,
    stack: ExitStack,
    *,
    run: str,
    url_path: Path | None = None,
    note: Callable[[str], None],
) -> RunRedis | None:
    """The configured server, else a private one; None for a run in one process.

    A private server is on a socket, or with a password on an address that other nodes reach.

    Args:
        config: of the run.
        stack: ends a private server, and removes the file, when it is closed.
        run: name of the run in Redis; what an earlier session has left under it is deleted.
        url_path: file that tells this user's other programs the address; None for none.
        note: told about a server that listens on an address.

    Raises:
        ValueError: the configured server cannot be reached by all nodes.
    """
    if config.engine == "local":
        return None
    from engines.on_ray.session import address_for_others

    address = address_for_others()
    url, keep_alive, find_pid = _configured_url(config), _leave_alone, _no_pid
    if url.startswith("unix:") and address:
        raise ValueError(
            "a Redis at unix:// serves one machine, but the cluster has other nodes; give a "
            "redis:// address that they reach, or none to get a private server"
        )
    if not url:
        server = stack.enter_context(PrivateRedis(listen_address=address))
        url, keep_alive, find_pid = server.url, server.restart_if_dead, lambda: server.pid
        if address:
            note(f"started a Redis with a password on {address} for the other nodes")
    # A server that outlives runs may still hold weights that would seem newer: a namesake's, or
    # this run's own of a learner that was restarted more often than its checkpoint knows.
    bus = RedisBus(url, run)
    bus.forget_run()
    bus.close()
    if url_path is not None:
        write_private(url_path, url)
        stack.callback(url_path.unlink, missing_ok=True)
    return RunRedis(url, run, keep_alive, find_pid)


def _leave_alone() -> bool:
    return False


def _no_pid() -> int | None:
    return None


def open_board(redis: RunRedis | None, stack: ExitStack) -> RunLink | None:
    """Where the run is seen and asked from outside; None for a run in one process."""
    if redis is None:
        return None
    from engines.on_ray.session import ray_address

    address, find_pid = ray_address(), redis.find_pid
    board = RunLink(
        redis.url, redis.run, whereabouts=lambda: {"ray": address, "redis_pid": find_pid()}
    )
    stack.callback(board.close)
    return board


def check_roles(recipe: Recipe, state: dict[str, Any] | None) -> None:
    """Build replay and learner once in this process, for nothing but their complaints.

    What the settings or the checkpoint make impossible is a ValueError here, before anything is
    written, and not the end of a process somewhere: tables too small, chunks too large for replay
    or for its pace, or a checkpoint of another network, objective or optimizer.
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
        is_restored=state is not None,
    )
    if state is not None:
        learner.load_state(state["learner"])


def open_engine(
    recipe: Recipe,
    *,
    device: torch.device,
    state: dict[str, Any] | None,
    redis: RunRedis | None,
    replay_dir: Path | None = None,
    note: Callable[[str], None],
) -> Engine:
    """Start the roles, on the Ray of `connect_to_ray` or in this process.

    A checkpoint's `state` is of a run that goes on; `replay_dir` takes snapshots of replay.
    """
    if state is None and replay_dir is not None:
        clear_snapshots(replay_dir)  # Of a run that is begun anew.
    if redis is None:
        torch.set_num_threads(1)
        return LocalEngine(recipe, device=device, state=state, replay_dir=replay_dir, note=note)
    from engines.on_ray.engine import RayEngine
    from engines.on_ray.placement import Placement
    from engines.on_ray.session import joins_cluster, this_node

    return RayEngine(
        recipe,
        redis=RedisAddress(redis.url, redis.run),
        device=device,
        state=state,
        replay_dir=replay_dir,
        placement=Placement(
            needs_gpu=device.type == "cuda",
            spreads_shards=recipe.config.replay.spread,
            # Nodes that join later do not reach a socket.
            only_node=this_node() if redis.url.startswith("unix:") else "",
            counts_cpus=joins_cluster(),
        ),
        keep_redis_alive=redis.keep_alive,
        note=note,
    )


def connect_to_ray(recipe: Recipe, stack: ExitStack, *, device: torch.device) -> None:
    """Before anything is written: what is wrong with the cluster is a ValueError here."""
    if recipe.config.engine == "ray":
        # Ray takes a second to import, which a local run can do without.
        from engines.on_ray.session import ray_session

        stack.enter_context(ray_session(recipe, needs_gpu=device.type == "cuda"))


def open_tester(recipe: Recipe) -> Tester:
    """Tests beside the roles on Ray, else in this process."""
    if recipe.config.engine == "local":
        return InProcessTester(recipe)
    from engines.on_ray.cluster import RayTester

    return RayTester(recipe)
