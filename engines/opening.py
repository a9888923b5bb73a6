"""Opens what a configuration asks for: an engine, its Redis, its tester.

Everything opened goes onto the caller's ExitStack, so that it is closed again whatever happens.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from engines.engine import Engine
from engines.local.engine import LocalEngine
from engines.on_redis.asking import REDIS_URL_VARIABLE
from engines.on_redis.bus import RedisAddress, RedisBus
from engines.on_redis.link import check_takes_data, connect
from engines.on_redis.run_link import RunLink, check_not_carried
from engines.on_redis.server import PrivateRedis, write_private
from games.atari import ATARI_GAMES
from games.registry import get_game, try_game
from networks.weights import LocalWeights
from recipes.config import RunConfig
from recipes.evaluation import InProcessTester, Tester
from recipes.recipe import Recipe
from recipes.roles import build_learner, build_shard, largest_chunk
from replay.client import LocalReplayClient
from replay.pace.slices import shard_of_rank
from replay.snapshots.keeper import clear_snapshots


@dataclass(frozen=True, slots=True)
class RunRedis:
    """The Redis of a run."""

    address: RedisAddress
    # None for a server of the user's.
    private: PrivateRedis | None

    def keep_alive(self) -> bool:
        """Start a private server again if it has died; whether it had."""
        return self.private is not None and self.private.restart_if_dead()


def check_redis(config: RunConfig, *, run: str | None = None) -> None:
    """Look, before anything is written, at a server of the user's that a run is to use.

    ValueError if it does not answer, takes no data, or knows of another launcher of the run that is
    to go on, by its name there.
    """
    url = _configured_url(config)
    if config.engine != "ray" or not url:
        return
    with closing(connect(url)) as client:
        check_takes_data(client, url)
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

    A private server is on a socket, or with a password on an address that other nodes reach. What
    an earlier session of the run has left there is deleted. The file at `url_path` tells this
    user's other programs the address. ValueError if not all nodes reach the configured server.
    """
    if config.engine == "local":
        return None
    from engines.on_ray.session import address_for_others

    others_address, url, private = address_for_others(), _configured_url(config), None
    if url.startswith("unix:") and others_address:
        raise ValueError(
            "a Redis at unix:// serves one machine, but the cluster has other nodes; give a "
            "redis:// address that they reach, or none to get a private server"
        )
    if not url:
        private = stack.enter_context(PrivateRedis(listen_address=others_address))
        url = private.url
        if others_address:
            note(f"started a Redis with a password on {others_address} for the other nodes")
    # A server that outlives runs may still hold weights that would seem newer: a namesake's, or
    # this run's own of a learner that was restarted more often than its checkpoint knows.
    with closing(RedisBus(url, run)) as bus:
        bus.forget_run()
    if url_path is not None:
        write_private(url_path, url)
        stack.callback(url_path.unlink, missing_ok=True)
    return RunRedis(RedisAddress(url, run), private)


def open_board(redis: RunRedis | None, stack: ExitStack) -> RunLink | None:
    """Where the run is seen and asked from outside; None for a run in one process."""
    if redis is None:
        return None
    from engines.on_ray.session import ray_address

    address, private = ray_address(), redis.private
    board = RunLink(
        redis.address.url,
        redis.address.run,
        whereabouts=lambda: {"ray": address, "redis_pid": private.pid if private else None},
    )
    stack.callback(board.close)
    return board


def check_roles(recipe: Recipe, state: dict[str, Any] | None) -> None:
    """Build games, replay and learner once in this process, for nothing but their complaints.

    What the settings or the checkpoint make impossible is a ValueError here, before anything is
    written, and not the end of a process somewhere: a game whose engine is missing or whose spec is
    wrong, tables too small, chunks too large for replay or for its pace, or a checkpoint of another
    network, objective or optimizer.
    """
    for game in recipe.games:
        # Those are installed with the package, and take a fifth of a second each.
        if game not in ATARI_GAMES:
            try_game(get_game(game), recipe.config.protocol)
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
        redis=redis.address,
        device=device,
        state=state,
        replay_dir=replay_dir,
        placement=Placement(
            needs_gpu=device.type == "cuda",
            spreads_shards=recipe.config.replay.spread,
            # Nodes that join later do not reach a socket.
            only_node=this_node() if redis.address.url.startswith("unix:") else "",
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
