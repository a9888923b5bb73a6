"""Opens what a configuration asks for: an engine, its Redis, its tester.

Everything opened goes onto the caller's ExitStack, so that it is closed again whatever happens.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch

from launch.config import CommonConfig
from launch.engine import Engine
from launch.local import LocalEngine
from launch.recipe import MultitaskRecipe, Recipe
from launch.redis_bus import RedisBus
from launch.redis_server import PrivateRedis, connect
from launch.testing import InProcessTester, Tester


def open_redis(config: CommonConfig, stack: ExitStack) -> str:
    """URL of the run's Redis: the configured one if it answers, else a private one's.

    The in-process engine needs none and gets an empty URL.

    Raises:
        ValueError: the configured server cannot be reached.
    """
    if config.engine == "local":
        return ""
    if config.redis_url:
        connect(config.redis_url).close()
        return config.redis_url
    return stack.enter_context(PrivateRedis()).url


def open_engine(
    recipe: Recipe,
    stack: ExitStack,
    *,
    device: torch.device,
    state: dict[str, Any] | None,
    link_name: str,
    redis_url: str,
    note: Callable[[str], None],
) -> Engine:
    """Start the roles.

    Args:
        recipe: what to train.
        stack: ends Ray when it is closed.
        device: the learner's.
        state: a checkpoint's, of a run to go on with.
        link_name: under which the run's weights lie in Redis.
        redis_url: from `open_redis`.
        note: told about deaths and restarts.
    """
    if recipe.config.engine == "local":
        torch.set_num_threads(1)
        return LocalEngine(recipe, device=device, state=state)
    # Ray takes a second to import, which a local run can do without.
    from launch.cluster import Link
    from launch.ray_engine import RayEngine
    from launch.ray_session import ray_session

    if state is None:
        # A server that outlives runs may still hold a namesake's weights, which would seem newer.
        bus = RedisBus(redis_url, link_name)
        bus.forget_run()
        bus.close()
    stack.enter_context(ray_session(recipe))
    return RayEngine(recipe, link=Link(redis_url, link_name), device=device, state=state, note=note)


def open_tester(recipe: MultitaskRecipe) -> Tester:
    """Tests beside the roles on Ray, else in this process."""
    if recipe.config.engine == "local":
        return InProcessTester(recipe)
    from launch.cluster import RayTester

    return RayTester(recipe)
