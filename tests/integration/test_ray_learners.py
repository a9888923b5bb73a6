"""Several learner processes on Ray that make every update together."""

import dataclasses
import os
import signal
from concurrent.futures import ThreadPoolExecutor, wait

import pytest
import ray
import torch
from ray_runs import (
    MadeUpRecipe,
    RemoteOpenShard,
    check_contents,
    counting_config,
    cpus_taken,
    drive,
    dump_all,
    started,
    without_start,
)

from engines.local.engine import LocalEngine
from engines.on_ray.learner_team import LearnerTeam
from engines.on_ray.ray_run import RayRun
from engines.on_ray.role_processes import RoleNames
from engines.on_redis.bus import RedisAddress
from learner.config import LearnerConfig

pytestmark = [
    pytest.mark.ray,
    pytest.mark.redis,
    pytest.mark.slow,
    pytest.mark.usefixtures("shared_ray"),
]

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """Two learners."""
    return counting_config(
        tmp_path_factory.mktemp("teachers"),
        learner=LearnerConfig(publish_period=5, num_replicas=2),
    )


def kill(engine, rank) -> int:
    """SIGKILL to one of the learners, once all are known."""
    drive(engine, lambda progress: len(engine.pids("learner")) == 2)
    pid = engine.pids("learner")[rank]
    os.kill(pid, signal.SIGKILL)
    return pid


def test_a_run_with_two_learners_goes_through_the_deaths_of_both_and_on_with_one(config, redis_url):
    notes = []
    with started(config, redis_url, name="two", notes=notes) as engine:
        drive(engine, lambda progress: progress.updates > 10)
        assert len(set(engine.pids("learner"))) == 2
        saved = engine.state()["learner"]["num_updates"]
        killed = kill(engine, 1)
        drive(engine, lambda progress: progress.faults["learner_restarts"] == 1)
        drive(engine, lambda progress: engine.snapshot().version > (1, saved + 5))
        assert killed not in engine.pids("learner")
        kill(engine, 0)
        progress = drive(engine)
        tables = dump_all(engine)
        state, version = engine.state(), engine.snapshot().version
    assert progress.faults["learner_restarts"] == 2
    assert progress.faults["actor_restarts"] == progress.faults["shard_restarts"] == 0
    assert progress.updates == config.num_updates
    assert version == (2, config.num_updates)
    assert without_start(notes) == [f"one of 2 learners died; going on from update {saved}"] * 2
    stored = sum(table.num_inserted for table in tables)
    assert stored >= config.num_steps - config.replay.error_buffer
    sampled = sum(game.sampled for game in progress.games.values())
    assert sampled >= config.num_updates * config.replay.batch_size
    check_contents(tables)

    # The state does not know how many learners there were.
    learner = dataclasses.replace(config.learner, num_replicas=1)
    alone = dataclasses.replace(config, num_steps=config.num_steps + 160, learner=learner)
    local = LocalEngine(MadeUpRecipe(alone), device=CPU, state=state)
    while local.advance(0.5):
        pass
    assert local.snapshot().version == (3, alone.num_updates)
    assert local.progress().updates == alone.num_updates > config.num_updates
    local.close()


def test_an_error_in_one_of_the_learners_ends_the_run_with_its_cause(config, redis_url):
    """And not with the loss that the other one complains of."""
    diverging = dataclasses.replace(
        config, learner=LearnerConfig(learning_rate=1e30, num_replicas=2)
    )
    with (
        started(diverging, redis_url, name="error") as engine,
        pytest.raises(ValueError, match="diverged"),
    ):
        drive(engine)


class NoRoomForLearner:
    def learner(self, **_):
        return {"num_cpus": 7}  # Of 8: no room beside the shard and the holder.


def test_a_learner_that_waits_for_room_is_asked_when_it_is_there(config, redis_url, monkeypatch):
    """The time for an answer does not begin before there is somebody to answer."""
    alone = dataclasses.replace(config.learner, num_replicas=1)
    recipe = MadeUpRecipe(dataclasses.replace(config, learner=alone))
    shard = RemoteOpenShard.remote(recipe, 0)
    ray.get(shard.check_valid.remote())
    monkeypatch.setattr("engines.on_ray.learner_team.REPORT_PATIENCE_S", 0.5)
    monkeypatch.setattr("engines.on_ray.learner_team.CALL_TIMEOUT_S", 1.0)
    with cpus_taken(1) as holder, ThreadPoolExecutor(1) as pool:
        run = RayRun(
            recipe=recipe,
            redis=RedisAddress(redis_url, "room"),
            placement=NoRoomForLearner(),
            names=RoleNames("room"),
            note=lambda text: None,
        )
        team = LearnerTeam(run, shards=[shard], device=CPU, state=None)
        try:
            with pytest.raises(TimeoutError, match=r"has not come up within 0.5 s"):
                team.state()  # A run that is just starting has nothing to tell yet.
            team._has_come_up = True  # But one that takes a dead one's place is waited for.
            answer = pool.submit(team.state)
            done, _ = wait([answer], timeout=3.0)
            assert not done, answer.exception()
            monkeypatch.setattr("engines.on_ray.learner_team.CALL_TIMEOUT_S", 30.0)
            ray.kill(holder)
            assert answer.result(100.0)["num_updates"] == 0
        finally:
            team.end()
            ray.kill(shard)
