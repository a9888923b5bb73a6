"""An inference server for all actors, as a real process on a real Ray."""

import os
import signal

import numpy as np
import pytest
import ray
import torch
from ray_runs import (
    COUNTING,
    MadeUpRecipe,
    check_contents,
    counting_config,
    drive,
    dump_all,
    started,
    without_start,
)

from actors.config import ActorConfig
from actors.inference import OwnInference
from engines.on_ray.cluster import RemoteInference
from engines.on_ray.inference import RayInference
from engines.on_ray.ray_internals import pid_of
from engines.on_redis.bus import RedisAddress
from engines.on_redis.weights import RedisWeightSink
from networks.snapshots import take_snapshot
from networks.weights import LocalWeights, WeightsVersion

pytestmark = [
    pytest.mark.ray,
    pytest.mark.redis,
    pytest.mark.slow,
    pytest.mark.usefixtures("shared_ray"),
]


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return counting_config(
        tmp_path_factory.mktemp("teachers"),
        actor=ActorConfig(num_envs=3, chunk_steps=7, inference="server"),
    )


def test_a_run_goes_on_when_its_inference_server_is_killed_and_nothing_is_lost(config, redis_url):
    notes = []
    with started(config, redis_url, name="served", notes=notes) as engine:
        drive(engine, lambda progress: progress.updates > 10 and engine.pids("inference"))
        (killed,) = engine.pids("inference")
        os.kill(killed, signal.SIGKILL)
        drive(engine, lambda progress: progress.faults["inference_restarts"] == 1)
        batches = []

        def look(progress):
            batches.append(progress.metrics.get("inference_batch", 0.0))
            return False

        progress = drive(engine, look)
        tables = dump_all(engine)
    assert killed not in engine.pids("inference")
    assert progress.updates == config.num_updates
    assert progress.faults.pop("inference_restarts") == 1
    assert not any(progress.faults.values()), "actors must survive the server"
    notes = without_start(notes)
    assert len(notes) == 1
    assert max(batches) >= config.actor.num_envs
    streams = check_contents(tables)  # Every step once and in order, no older weights after newer.
    newest = WeightsVersion.decode(max(int(stream.versions[-1]) for stream in streams.values()))
    assert newest > (0, config.num_updates // 2), "new weights do not reach the server"


def test_served_logits_are_an_own_networks_also_after_a_kill_and_a_mute_server_is_given_up(
    config, redis_url
):
    recipe = MadeUpRecipe(config)
    torch.manual_seed(5)
    snapshot = take_snapshot(recipe.build_network(), WeightsVersion(2, 30))
    weights = LocalWeights()
    weights.publish(snapshot)
    own = OwnInference(recipe.build_acting_network(COUNTING[1]), weights)
    sink = RedisWeightSink(redis_url, "logits")
    sink.publish(snapshot)
    server = RemoteInference.remote(recipe, redis=RedisAddress(redis_url, "logits"), device="cpu")
    try:
        served = RayInference(server, 1)
        rng = np.random.default_rng(0)
        shape = recipe.build_acting_network(COUNTING[1]).observation_shape
        is_first = np.zeros(40, np.bool_)
        for attempt in range(2):
            observations = rng.integers(256, size=(40, *shape), dtype=np.uint8)
            own.follow_weights()
            own.begin(observations, is_first)
            served.begin(observations, is_first)
            ours, theirs = own.finish(), served.finish()
            np.testing.assert_allclose(theirs, ours, rtol=1e-4, atol=1e-5)
            np.testing.assert_array_equal(theirs.argmax(1), ours.argmax(1))
            assert served.version == own.version == (2, 30)
            if attempt == 0:
                pid = ray.get(server.report.remote()) and pid_of(server)
                os.kill(pid, signal.SIGKILL)
        killed, pid = pid, ray.get(server.report.remote()) and pid_of(server)
        assert pid != killed
        os.kill(pid, signal.SIGSTOP)
        impatient = RayInference(server, 0, patience_s=0.5)
        impatient.begin(observations[:1], is_first[:1])
        with pytest.raises(RuntimeError, match=r"has not answered for 0.5 s"):
            impatient.finish()
        os.kill(pid, signal.SIGCONT)
    finally:
        sink.close()
        ray.kill(server)
