"""Ray clusters of several nodes on this machine: fixed ones, and one that an autoscaler lets grow.

Each is used by nobody else and leaves no process behind. Ray's own AutoscalingCluster would stop
every other Ray on the machine.
"""

from __future__ import annotations

import json
import logging
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster
from runs import kill, pids_of, ray_environment, wait_until


@contextmanager
def many_nodes(*num_cpus: int) -> Iterator[Cluster]:
    """Be connected to a cluster of nodes with so many CPUs each; the first one is the head."""
    with _private_environment() as scratch:
        cluster = Cluster()
        try:
            for number, cpus in enumerate(num_cpus):
                head = {"include_dashboard": False} if not number else {}
                cluster.add_node(num_cpus=cpus, object_store_memory=100 << 20, **head)
            ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
            yield cluster
        finally:
            ray.shutdown()
            cluster.shutdown()
            _end_all(scratch)


@contextmanager
def growing_cluster(*, head_cpus: int, worker_cpus: int, max_workers: int) -> Iterator[None]:
    """RAY_ADDRESS names a cluster whose autoscaler starts workers as they are asked for."""
    with _private_environment() as scratch, pytest.MonkeyPatch.context() as patch:
        address = f"127.0.0.1:{_free_port()}"
        config = scratch / "autoscaler.json"
        config.write_text(
            json.dumps(_autoscaler_config(address, head_cpus, worker_cpus, max_workers))
        )
        patch.setenv("RAY_ADDRESS", address)
        # The newer one needs more settings of Ray's own tests to know this provider.
        patch.setenv("RAY_enable_autoscaler_v2", "0")
        patch.setenv("RAY_FAKE_CLUSTER", "1")
        patch.setenv("AUTOSCALER_UPDATE_INTERVAL_S", "1")
        options = ["--include-dashboard=false", f"--autoscaling-config={config}"]
        with _head(scratch, address, num_cpus=head_cpus, options=options):
            yield


@contextmanager
def cluster_with_jobs(*, num_cpus: int) -> Iterator[str]:
    """The address at which a cluster of one node takes jobs."""
    with _private_environment() as scratch:
        dashboard = _free_port()
        options = ["--include-dashboard=true", f"--dashboard-port={dashboard}"]
        with _head(scratch, f"127.0.0.1:{_free_port()}", num_cpus=num_cpus, options=options):
            wait_until(
                lambda: _answers(f"127.0.0.1:{dashboard}"),
                timeout_s=120.0,
                what="the job server answers",
            )
            yield f"http://127.0.0.1:{dashboard}"


@contextmanager
def _head(scratch: Path, address: str, *, num_cpus: int, options: list[str]) -> Iterator[None]:
    command = [
        str(Path(sys.executable).with_name("ray")), "start", "--head", "--block",
        f"--port={address.rpartition(':')[2]}", f"--num-cpus={num_cpus}",
        f"--object-store-memory={100 << 20}", *options,
    ]  # fmt: skip
    with (scratch / "head.log").open("w") as log:
        head = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_until(lambda: _answers(address), timeout_s=120.0, what="the head answers")
        yield
    finally:
        ray.shutdown()
        head.terminate()
        _end_all(scratch)
        head.wait(30.0)


def _autoscaler_config(
    address: str, head_cpus: int, worker_cpus: int, max_workers: int
) -> dict[str, object]:
    empty_lists = (
        "initialization_commands", "setup_commands", "head_setup_commands",
        "worker_setup_commands", "head_start_ray_commands", "worker_start_ray_commands",
        "cluster_synced_files", "rsync_exclude", "rsync_filter",
    )  # fmt: skip
    return {
        "cluster_name": "growing",
        "max_workers": max_workers,
        "idle_timeout_minutes": 10,
        "provider": {
            "type": "fake_multinode",
            "gcs_address": address,
            "launch_multiple": True,
            "use_node_id_as_ip": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
        },
        "head_node_type": "ray.head.default",
        "available_node_types": {
            "ray.head.default": {
                "resources": {"CPU": head_cpus},
                "node_config": {},
                "max_workers": 0,
            },
            "worker": {
                "resources": {"CPU": worker_cpus, "object_store_memory": 100 << 20},
                "node_config": {},
                "min_workers": 0,
                "max_workers": max_workers,
            },
        },
        "auth": {},
        "docker": {},
        "file_mounts": {},
        "file_mounts_sync_files": [],
        **{name: [] for name in empty_lists},
    }


@contextmanager
def _private_environment() -> Iterator[Path]:
    with (
        # Not under pytest's folder: the paths of Ray's sockets would be too long.
        tempfile.TemporaryDirectory(prefix="amt", ignore_cleanup_errors=True) as name,
        pytest.MonkeyPatch.context() as patch,
    ):
        for variable, value in ray_environment(Path(name)).items():
            patch.setenv(variable, value)
        patch.delenv("RAY_ADDRESS", raising=False)
        yield Path(name)


def _end_all(scratch: Path) -> None:
    def are_gone() -> bool:
        left = pids_of(scratch)
        for pid in left:
            kill(pid)
        return not left

    wait_until(are_gone, timeout_s=30.0, what="the cluster's processes are gone")


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=1.0).close()
    except OSError:
        return False
    return True


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
