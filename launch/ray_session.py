"""Connects to Ray: the cluster this process belongs to, else one of its own on this machine."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray

from launch.recipe import Recipe

_ray: Any = ray  # Some of its functions have no types.


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


def head_address_for_many() -> str | None:
    """This node's address if the cluster has other nodes, which must be able to reach it."""
    alive = [node for node in _ray.nodes() if node["Alive"]]
    return str(_ray.util.get_node_ip_address()) if len(alive) > 1 else None


def _connect(recipe: Recipe) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    address = os.environ.get("RAY_ADDRESS")
    if address:
        _check_reachable(address)
        ray.init(log_to_driver=False, logging_level=logging.ERROR)
        _check_room(recipe)
        return
    # Said, since Ray would else look for one that somebody has started on this machine.
    ray.init(
        address="local",
        num_cpus=max(os.cpu_count() or 1, num_roles(recipe)),
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )


def _check_reachable(address: str) -> None:
    """Raises ValueError if nothing listens there; Ray itself would try for minutes."""
    host, separator, port = address.rpartition(":")
    if not separator or "/" in address or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=5.0).close()
    except OSError as error:
        raise ValueError(
            f"no Ray cluster answers at RAY_ADDRESS={address} ({error}); start it with 'ray start "
            "--head', or unset RAY_ADDRESS to run on this machine alone"
        ) from None


def _check_room(recipe: Recipe) -> None:
    """Raises ValueError if the cluster can never hold all roles; they would wait for ever."""
    have, need = int(_ray.cluster_resources().get("CPU", 0)), num_roles(recipe)
    if have < need:
        raise ValueError(
            f"the run needs {need} CPUs, one for each actor, replay shard and the learner, but the "
            f"cluster has {have}; use fewer --actors or more nodes"
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
