"""Connects to Ray: the cluster this process belongs to, else one of its own on this machine."""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.metrics import Gauge

from engines.engine import check_wanted
from engines.on_ray.game_check import check_games
from engines.on_ray.ray_internals import shut_down_without_grace, silence_daemons
from engines.on_ray.room import Room, find_shortage, has_autoscaler, num_roles, wait_for_room
from engines.on_ray.surroundings import (
    find_temporary_folder,
    make_token_if_home_is_unusable,
    started_from_source,
)
from engines.shell_limits import check_limits_for_ray
from engines.signals import ENDING_SIGNALS, children_hear_no_signals
from recipes.limits import check_memory_for_processes
from recipes.recipe import Recipe
from records.machine import available_memory_bytes, usable_cores
from records.prometheus import Exporter, targets_path
from records.trackers import MetricsConfig

_ray: Any = ray  # Some of its functions have no types.

# Letters of what Ray says that are passed on.
_MAX_SAID = 300


@contextmanager
def ray_session(
    recipe: Recipe, *, needs_gpu: bool = False, note: Callable[[str], None] = print
) -> Iterator[None]:
    """Be connected to Ray inside the `with` block.

    RAY_ADDRESS names a running cluster; `ray job submit` sets it. Without, a Ray of its own is
    started and stopped again. A machine with fewer cores than roles still runs them all: they share
    the cores, as they would in one process. ValueError if no cluster answers, or it has no room for
    the run, even after a wait.
    """
    for game, number in recipe.num_actors.items():
        check_wanted(game, number, recipe.games)
    try:
        with _signals_wait(), children_hear_no_signals():
            _connect(recipe)
        if joins_cluster():
            num_gpus = recipe.config.learner.num_replicas if needs_gpu else 0
            need = Room(cpus=num_roles(recipe), gpus=num_gpus)
            wait_for_room(need, wait_s=recipe.config.cluster_wait_s, note=note)
        check_games(recipe)
        yield
    finally:
        ray.shutdown()


def check_room_for(recipe: Recipe, copies: int) -> None:
    """Raises ValueError if there is no room for so many runs of a recipe at once.

    On a cluster that may get more nodes, they are waited for by each run itself.
    """
    if not joins_cluster():
        num_processes = copies * num_roles(recipe)
        check_memory_for_processes(num_processes, available_memory_bytes(), kind="processes")
        return
    try:
        _connect(recipe)
        need = Room(cpus=copies * num_roles(recipe))
        shortage = find_shortage(need, _ray.nodes())
        if shortage and not has_autoscaler() and not recipe.config.cluster_wait_s:
            raise ValueError(
                f"a population of {copies} members {shortage} (one CPU for each actor, replay "
                "shard and learner of each member); use fewer --members or --actors, or more nodes"
            )
    finally:
        ray.shutdown()


def joins_cluster() -> bool:
    """Whether a run uses a cluster that is there already, instead of a Ray of its own."""
    # "local" is Ray's own word for a Ray of one's own.
    return os.environ.get("RAY_ADDRESS", "") not in ("", "local")


def address_for_others() -> str | None:
    """This node's address if the cluster has other nodes or may get some; they must reach it."""
    alive = [node for node in _ray.nodes() if node["Alive"]]
    if len(alive) > 1 or (joins_cluster() and has_autoscaler()):
        return str(_ray.util.get_node_ip_address())
    return None


def ray_address() -> str:
    """Address of the Ray that this process is connected to, for other programs to join it."""
    return str(_ray.get_runtime_context().gcs_address)


def this_node() -> str:
    """Id of the node that this process is on."""
    return str(_ray.get_runtime_context().get_node_id())


def _connect(recipe: Recipe) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    silence_daemons()
    with started_from_source():
        if joins_cluster():
            address = os.environ["RAY_ADDRESS"]
            check_reachable(address)
            with one_line_if_refused(address):
                ray.init(log_to_driver=False, logging_level=logging.ERROR)
        else:
            _start_own_ray(recipe)


def _start_own_ray(recipe: Recipe) -> None:
    available = available_memory_bytes()
    check_memory_for_processes(sum(recipe.num_actors.values()), available)
    check_memory_for_processes(recipe.config.learner.num_replicas, available, kind="learners")
    check_limits_for_ray(num_roles(recipe))
    # Ray would keep a record of the last 100,000 calls, for a dashboard that is not there: memory
    # that grows for hours.
    os.environ.setdefault("RAY_task_events_max_num_task_in_gcs", "1000")
    os.environ["RAY_TMPDIR"] = find_temporary_folder()
    make_token_if_home_is_unusable()
    try:
        ray.init(
            # Said, since Ray would else look for one that somebody has started on this machine.
            address="local",
            num_cpus=max(usable_cores(), num_roles(recipe)),
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except Exception as error:
        # Ray has no class of its own for processes that have not come up in the 30 s they get.
        if "timed out during startup" not in str(error):
            raise
        raise ValueError(
            "Ray did not start within 30 s, as on a machine that is busy with other programs; try "
            "again when it is less so, or run in one process with --engine local"
        ) from None
    shut_down_without_grace()


@contextmanager
def one_line_if_refused(address: str) -> Iterator[None]:
    """Raises ValueError where a cluster does not let this process in; Ray says so in many lines."""
    try:
        yield
    except (ConnectionError, RuntimeError, RayError) as error:
        said = " ".join(str(error).split())
        if "Version mismatch" not in said:
            raise ValueError(
                f"cannot join the Ray cluster at RAY_ADDRESS={address} ({said[:_MAX_SAID]}); are "
                "RAY_ADDRESS, RAY_AUTH_MODE and the token those of the cluster"
            ) from None
        found = re.findall(r"(Ray|Python): (\S+)", said)
        theirs, ours = (" and ".join(map(" ".join, found[i : i + 2])) for i in (0, 2))
        raise ValueError(
            f"the cluster at {address} was started with {theirs}, but this process has {ours}; "
            "all nodes and the launcher need the same versions, to the last digit"
        ) from None


def check_reachable(address: str) -> None:
    """Raises ValueError if this is no address of a cluster, or nothing listens there.

    Ray itself would try for minutes, or fail with a traceback.
    """
    if address == "auto":
        return
    scheme, separator, _ = address.partition("://")
    if separator:
        what = {
            "ray": "Ray Client, which cannot carry a run",
            "http": "the dashboard, for 'ray job submit'",
            "https": "the dashboard, for 'ray job submit'",
        }.get(scheme, "something else")
        raise ValueError(
            f"RAY_ADDRESS={address} is an address of {what}; give HOST:PORT of the cluster's head, "
            "such as 10.0.0.1:6379, or auto on one of its nodes"
        )
    host, separator, port = address.rpartition(":")
    if not separator or not host or not port.isdigit():
        raise ValueError(
            f"RAY_ADDRESS={address} is not of the form HOST:PORT, such as 10.0.0.1:6379; auto "
            "finds the cluster that this machine belongs to, local starts a Ray of the run's own"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5.0).close()
    except (OSError, OverflowError) as error:  # The latter: no such port.
        raise ValueError(
            f"no Ray cluster answers at RAY_ADDRESS={address} ({error}); start it with 'ray start "
            "--head', or unset RAY_ADDRESS to run on this machine alone"
        ) from None


@contextmanager
def _signals_wait() -> Iterator[None]:
    """Signals that ask for an end are handled after the block, by whoever handled them before it.

    Ray leaves processes behind when its start is interrupted, and it takes SIGTERM for itself.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []
    handlers = {
        number: signal.signal(number, lambda number, frame: received.append(number))
        for number in ENDING_SIGNALS
    }
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for missed in received:
            signal.raise_signal(missed)


def open_exporter(config: MetricsConfig, run_dir: Path, stack: ExitStack) -> Exporter | None:
    """Exporter of metrics for Prometheus beside a run on this Ray; None where none is wanted."""
    if not config.prometheus:
        return None

    def find_targets() -> list[str]:
        alive = [node for node in _ray.nodes() if node["Alive"]]
        return sorted(f"{node['NodeManagerAddress']}:{node['MetricsExportPort']}" for node in alive)

    exporter = Exporter(
        targets_path(run_dir), run=run_dir.name, new_gauge=Gauge, find_targets=find_targets
    )
    stack.callback(exporter.close)
    return exporter
