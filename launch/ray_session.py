"""Connects to Ray: the cluster this process belongs to, else one of its own on this machine."""

from __future__ import annotations

import logging
import os
import signal
import threading
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
    try:
        with _signals_wait():
            _connect(recipe)
        yield
    finally:
        ray.shutdown()


def _connect(recipe: Recipe) -> None:
    if os.environ.get("RAY_ADDRESS"):
        ray.init(log_to_driver=False, logging_level=logging.ERROR)
        return
    # Said, since Ray would else look for one that somebody has started on this machine.
    ray.init(
        address="local",
        num_cpus=max(os.cpu_count() or 1, num_roles(recipe)),
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )


@contextmanager
def _signals_wait() -> Iterator[None]:
    """Ctrl-C and SIGTERM are handled after the block, and by whoever handled them before it.

    Ray leaves processes behind when its start is interrupted, and it takes SIGTERM for itself.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []
    handlers = {
        number: signal.signal(number, lambda number, frame: received.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for missed in received:
            signal.raise_signal(missed)


def num_roles(recipe: Recipe) -> int:
    """Processes of a run: actors, shards and the learner, each of which asks Ray for one CPU."""
    return sum(recipe.num_actors.values()) + recipe.config.replay.num_shards + 1
