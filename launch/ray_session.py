"""Connects to Ray: the cluster this process belongs to, else one of its own on this machine."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from launch.recipe import Recipe


@contextmanager
def ray_session(recipe: Recipe) -> Iterator[None]:
    """Be connected to Ray inside the `with` block.

    RAY_ADDRESS names a running cluster; `ray job submit` sets it. Without, a Ray of its own is
    started and stopped again. A machine with fewer cores than roles still runs them all: they
    share the cores, as they would in one process.
    """
    if os.environ.get("RAY_ADDRESS"):
        ray.init(log_to_driver=False, logging_level=logging.ERROR)
    else:
        # Said, since Ray would else look for one that somebody has started on this machine.
        ray.init(
            address="local",
            num_cpus=max(os.cpu_count() or 1, num_roles(recipe)),
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    try:
        yield
    finally:
        ray.shutdown()


def num_roles(recipe: Recipe) -> int:
    """Processes of a run: actors, shards and the learner, each of which asks Ray for one CPU."""
    return sum(recipe.num_actors.values()) + recipe.config.replay.num_shards + 1
