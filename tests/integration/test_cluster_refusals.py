"""Clusters that a run, or chaos.py, has no business with: real ones on this machine."""

import os
import subprocess
import sys
from pathlib import Path

import counting
import pytest
import ray
from ray._common.usage.usage_constants import CLUSTER_METADATA_KEY
from ray.experimental.internal_kv import _internal_kv_get, _internal_kv_put
from ray_clusters import many_nodes
from ray_runs import MadeUpRecipe
from runs import save_random_expert

from actors.actor import ActorConfig
from launch.chaos_nodes import connected
from launch.config import MultitaskConfig
from launch.ray_session import ray_session
from networks.build import NetworkConfig
from replay.config import ReplayConfig

pytestmark = [pytest.mark.ray, pytest.mark.slow]

GAMES = (counting.CUTS.name, counting.LIVES.name)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """A run that does not end by itself."""
    folder = tmp_path_factory.mktemp("teachers")
    teachers = [f"{game}={save_random_expert(folder, game, torso='minatar')}" for game in GAMES]
    return MadeUpRecipe(
        MultitaskConfig(
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


def test_a_ray_that_does_not_carry_the_run_kills_nothing():
    with many_nodes(1) as cluster:
        ray.shutdown()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RAY_ADDRESS", cluster.address)
            with (
                pytest.raises(ValueError, match="is not the one that carries the run"),
                connected({"another node"}),
            ):
                pass
            patch.setenv("RAY_ADDRESS", "127.0.0.1:1")
            with pytest.raises(ValueError, match="no Ray cluster answers"), connected({"any"}):
                pass
