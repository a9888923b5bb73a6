"""Clusters on which a run cannot go on: other versions, a full object store; kills through Ray.

Each is a real Ray of several nodes on this machine.
"""

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import counting
import numpy as np
import pytest
import ray
import torch
from ray._common.usage.usage_constants import CLUSTER_METADATA_KEY
from ray.exceptions import ObjectStoreFullError, OutOfDiskError
from ray.experimental.internal_kv import _internal_kv_get, _internal_kv_put
from ray_clusters import many_nodes
from ray_runs import MadeUpRecipe, drive
from runs import save_random_expert

from actors.config import ActorConfig
from engines.chaos.processes import RayProcesses, joined
from engines.chaos.recovery import Recovery, Standing
from engines.on_ray.engine import RayEngine
from engines.on_ray.session import ray_session
from engines.on_redis.bus import RedisAddress
from engines.on_redis.server import PrivateRedis
from networks.config import NetworkConfig
from recipes.config import RunConfig
from replay.config import ReplayConfig

pytestmark = [pytest.mark.ray, pytest.mark.redis, pytest.mark.slow]

GAMES = (counting.CUTS.name, counting.LIVES.name)


@pytest.fixture(scope="module")
def redis_url():
    with PrivateRedis() as server:
        yield server.url


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """A run that does not end by itself."""
    folder = tmp_path_factory.mktemp("teachers")
    teachers = [f"{game}={save_random_expert(folder, game, torso='minatar')}" for game in GAMES]
    return MadeUpRecipe(
        RunConfig(
            games=GAMES,
            num_steps=10_000_000,
            teachers=tuple(teachers),
            actor=ActorConfig(num_envs=3, chunk_steps=7),
            replay=ReplayConfig(
                batch_size=32,
                capacity_per_game=20_000,
                min_size_per_game=100,
                error_buffer=300.0,
                snapshot_period_s=0.0,
            ),
            network=NetworkConfig(torso="minatar"),
        )
    )


def start(recipe, url, *, name):
    return RayEngine(recipe, redis=RedisAddress(url, name), device=torch.device("cpu"))


def claim_other_versions():
    """Have the cluster say that it was started with an older Ray and an older Python."""
    told = _internal_kv_get(CLUSTER_METADATA_KEY, namespace="cluster").decode()
    python = ".".join(map(str, sys.version_info[:3]))
    assert python in told
    told = told.replace(ray.__version__, "2.9.3").replace(python, "3.9.1")
    _internal_kv_put(CLUSTER_METADATA_KEY, told.encode(), overwrite=True, namespace="cluster")


def test_other_versions_of_python_and_ray_are_refused_in_one_line(recipe, monkeypatch):
    with many_nodes(4) as cluster:
        claim_other_versions()
        ray.shutdown()
        monkeypatch.setenv("RAY_ADDRESS", cluster.address)
        with (
            pytest.raises(ValueError, match=r"started with Ray 2\.9\.3 and Python 3\.9\.1") as no,
            ray_session(recipe),
        ):
            pass
        assert f"this process has Ray {ray.__version__}" in str(no.value)
        assert "\n" not in str(no.value)
        # A worker is turned away by Ray itself; the cluster stays as it is.
        program = Path(sys.executable).with_name("ray")
        words = [program, "start", f"--address={cluster.address}", "--num-cpus=1"]
        worker = subprocess.run(
            words, env=dict(os.environ), capture_output=True, text=True, timeout=120.0, check=False
        )
        assert worker.returncode != 0
        assert "Version mismatch" in worker.stdout + worker.stderr


def fill_the_object_store(hoard, num_bytes):
    while True:
        hoard.append(ray.put(np.zeros(num_bytes, np.uint8)))


def test_a_full_object_store_ends_the_run_with_what_to_do(recipe, redis_url, monkeypatch):
    # The disk counts as full, too: else the store would spill to it, and the run go on.
    monkeypatch.setenv("RAY_local_fs_capacity_threshold", "0.0001")
    with many_nodes(8):
        engine = start(recipe, redis_url, name="full")
        try:
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
        finally:
            engine.close()


def standing_of(engine):
    progress = engine.progress()
    return Standing(
        phase="training",
        updates=progress.updates,
        steps={name: game.steps for name, game in progress.games.items()},
        settled=all(g.actors + g.pending == g.wanted for g in progress.games.values()),
        faults=progress.faults,
        has_weights=True,
        host="",
        pid=0,
        redis_pid=None,
        ray="",
    )


def whole(engine):
    drive(engine, lambda progress: not standing_of(engine).unready, timeout_s=120.0)
    return standing_of(engine)


def recovered(engine, roles, before):
    recovery = Recovery(roles, before)
    drive(engine, lambda _: recovery.is_over(standing_of(engine)), timeout_s=120.0)


@contextmanager
def soon(what):
    """Recovery from a death within the half minute that is promised."""
    begun = time.monotonic()
    yield
    seconds = time.monotonic() - begun
    print(f"{what} was back after {seconds:.1f} s")
    assert seconds < 30.0


def test_an_actor_and_a_node_are_killed_through_ray_and_the_run_recovers(
    recipe, redis_url, monkeypatch
):
    crowd = MadeUpRecipe(replace(recipe.config, actors=("2",)))
    with many_nodes(4, 2) as cluster:
        monkeypatch.setenv("RAY_ADDRESS", cluster.address)
        engine = start(crowd, redis_url, name="remote")
        try:
            before = whole(engine)
            processes = RayProcesses("remote")
            everybody = processes.find()
            there = [p for p in everybody if p.node != processes.here]
            assert [p.role.partition("/")[0] for p in there] == ["actor", "actor"]
            with soon("an actor"):
                processes.kill(there[0])
                recovered(engine, [there[0].role], before)
            with pytest.raises(ValueError, match="has gone meanwhile"):
                processes.kill(there[0])
            before = whole(engine)
            node = there[1].node
            lost = [p.role for p in processes.find() if p.node == node]
            assert len(lost) == 2
            with soon("a node"):
                processes.kill_node(node)
                recovered(engine, lost, before)
            after = engine.progress()
        finally:
            engine.close()
    assert sum(game.pending for game in after.games.values()) == 2, "four CPUs are left for six"
    assert after.faults["learner_restarts"] == after.faults["shard_restarts"] == 0


def test_no_head_is_killed_and_a_ray_that_is_not_there_is_told():
    with many_nodes(1) as cluster:
        (head,) = (node["NodeID"] for node in ray.nodes())
        ray.shutdown()
        with (
            joined(cluster.address, "run") as processes,
            pytest.raises(ValueError, match="the node is the head of the cluster"),
        ):
            processes.kill_node(head)
        assert not ray.is_initialized()
    with pytest.raises(ValueError, match="no Ray cluster answers"), joined("127.0.0.1:1", "run"):
        pass
