"""Clusters on which a run cannot go on: too small, of other versions, with a full object store.

Each is a real Ray of several nodes on this machine.
"""

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import ray
from ray._common.usage.usage_constants import CLUSTER_METADATA_KEY
from ray.exceptions import ObjectStoreFullError, OutOfDiskError
from ray.experimental.internal_kv import _internal_kv_get, _internal_kv_put
from ray_clusters import many_nodes
from ray_runs import MadeUpRecipe, counting_config, drive, started
from runs import wait_until

from engines.chaos.processes import joined
from engines.on_ray.room import has_autoscaler
from engines.on_ray.session import address_for_others, check_room_for, ray_session

pytestmark = [pytest.mark.ray, pytest.mark.redis, pytest.mark.slow]


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """A run that does not end by itself, and needs four CPUs."""
    return counting_config(tmp_path_factory.mktemp("teachers"), num_steps=10_000_000)


@pytest.fixture(scope="module")
def small_cluster():
    """Two CPUs; nobody is connected to it."""
    with many_nodes(2) as cluster:
        assert not has_autoscaler()
        assert address_for_others() is None
        ray.shutdown()
        yield cluster


def test_no_head_is_killed(small_cluster):
    with joined(small_cluster.address, "run") as processes:
        (head,) = (node["NodeID"] for node in ray.nodes())
        with pytest.raises(ValueError, match="the node is the head of the cluster"):
            processes.kill_node(head)
    assert not ray.is_initialized()


def test_a_ray_that_is_not_there_is_told():
    with pytest.raises(ValueError, match="no Ray cluster answers"), joined("127.0.0.1:1", "run"):
        pass


def test_a_population_with_more_members_than_there_is_room_for_is_refused(
    config, small_cluster, monkeypatch
):
    monkeypatch.setenv("RAY_ADDRESS", small_cluster.address)
    with pytest.raises(ValueError, match="3 members needs 12 CPUs, but the cluster has 2") as said:
        check_room_for(MadeUpRecipe(config), 3)
    assert "\n" not in str(said.value)
    assert not ray.is_initialized()


def test_a_cluster_without_an_autoscaler_is_refused_at_once_and_waited_for_if_asked_to(
    config, small_cluster, monkeypatch
):
    monkeypatch.setenv("RAY_ADDRESS", small_cluster.address)
    begun = time.monotonic()
    recipe = MadeUpRecipe(config)
    with (
        pytest.raises(ValueError, match="needs 4 CPUs, but the cluster has 2 CPUs") as refusal,
        ray_session(recipe),
    ):
        pass
    assert time.monotonic() - begun < 60.0
    assert "--cluster-wait-s" in str(refusal.value)
    with (
        pytest.raises(ValueError, match="and 1 GPU, but the cluster has 2 CPUs"),
        ray_session(recipe, needs_gpu=True),
    ):
        pass
    patient = MadeUpRecipe(replace(config, cluster_wait_s=120.0))
    said = []

    def bring_a_node(text):
        said.append(text)
        small_cluster.add_node(num_cpus=2, object_store_memory=100 << 20)

    with ray_session(patient, note=bring_a_node):
        wait_until(
            lambda: ray.cluster_resources().get("CPU") == 4, timeout_s=30.0, what="it is here"
        )
    assert said == ["the run needs 4 CPUs, but the cluster has 2 CPUs; waiting for more nodes"]


def claim_other_versions():
    """Have the cluster say that it was started with an older Ray and an older Python."""
    told = _internal_kv_get(CLUSTER_METADATA_KEY, namespace="cluster").decode()
    python = ".".join(map(str, sys.version_info[:3]))
    assert python in told
    told = told.replace(ray.__version__, "2.9.3").replace(python, "3.9.1")
    _internal_kv_put(CLUSTER_METADATA_KEY, told.encode(), overwrite=True, namespace="cluster")


def test_other_versions_of_python_and_ray_are_refused_in_one_line(
    config, small_cluster, monkeypatch
):
    """The last of that cluster: nobody can join it any more."""
    ray.init(address=small_cluster.address, log_to_driver=False)
    claim_other_versions()
    ray.shutdown()
    monkeypatch.setenv("RAY_ADDRESS", small_cluster.address)
    with (
        pytest.raises(ValueError, match=r"started with Ray 2\.9\.3 and Python 3\.9\.1") as no,
        ray_session(MadeUpRecipe(config)),
    ):
        pass
    assert f"this process has Ray {ray.__version__}" in str(no.value)
    assert "\n" not in str(no.value)
    # A worker is turned away by Ray itself; the cluster stays as it is.
    program = Path(sys.executable).with_name("ray")
    words = [program, "start", f"--address={small_cluster.address}", "--num-cpus=1"]
    worker = subprocess.run(
        words, env=dict(os.environ), capture_output=True, text=True, timeout=120.0, check=False
    )
    assert worker.returncode != 0
    assert "Version mismatch" in worker.stdout + worker.stderr


def fill_the_object_store(hoard, num_bytes):
    while True:
        hoard.append(ray.put(np.zeros(num_bytes, np.uint8)))


def test_a_full_object_store_ends_the_run_with_what_to_do(config, redis_url, monkeypatch):
    # The disk counts as full, too: else the store would spill to it, and the run go on.
    monkeypatch.setenv("RAY_local_fs_capacity_threshold", "0.0001")
    with many_nodes(8), started(config, redis_url, name="full") as engine:
        drive(engine, lambda progress: progress.updates > 10)
        hoard = []
        for num_bytes in (1 << 20, 1 << 14, 1 << 10):
            with pytest.raises((ObjectStoreFullError, OutOfDiskError)):
                fill_the_object_store(hoard, num_bytes)
        with pytest.raises(ValueError, match="object store is full on a node") as end:
            drive(engine)
        assert "\n" not in str(end.value)
        assert "--object-store-memory" in str(end.value)
        hoard.clear()
        assert engine.state()["learner"]["num_updates"] > 10, "what was learned is lost"
