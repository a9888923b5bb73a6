"""A run on several nodes: where its roles are, a node that is lost, nodes that are asked for."""

import dataclasses
import time

import counting
import pytest
import ray
import torch
from ray._private.state import actors as actor_table
from ray_clusters import growing_cluster, many_nodes
from ray_runs import (
    MadeUpRecipe,
    RemoteOpenLearner,
    RemoteOpenShard,
    check_contents,
    drive,
    dump_all,
)
from runs import save_random_expert, wait_until

from actors.config import ActorConfig
from engines.on_ray.calls import CONTROL_GROUP
from engines.on_ray.engine import RayEngine
from engines.on_ray.placement import Placement
from engines.on_ray.room import has_autoscaler
from engines.on_ray.session import address_for_others, ray_session
from engines.on_redis.bus import RedisAddress
from engines.on_redis.server import PrivateRedis
from networks.config import NetworkConfig
from recipes.config import RunConfig
from replay.config import ReplayConfig

pytestmark = [pytest.mark.ray, pytest.mark.redis, pytest.mark.slow]

GAMES = (counting.CUTS.name, counting.LIVES.name)
FIRST = GAMES[0]


@pytest.fixture(scope="module")
def redis_url():
    with PrivateRedis() as server:
        yield server.url


@pytest.fixture(scope="module")
def teachers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teachers")
    return tuple(f"{game}={save_random_expert(folder, game, torso='minatar')}" for game in GAMES)


@pytest.fixture
def recipe_of(teachers):
    def build(actors, **options):
        return MadeUpRecipe(
            RunConfig(
                games=GAMES,
                teachers=teachers,
                actors=actors,
                actor=ActorConfig(num_envs=3, chunk_steps=7),
                replay=ReplayConfig(
                    batch_size=32,
                    capacity_per_game=200_000,
                    min_size_per_game=100,
                    error_buffer=300.0,
                    snapshot_period_s=0.0,
                ),
                network=NetworkConfig(torso="minatar"),
                **options,
            )
        )

    return build


def start(recipe, url, *, name, notes=None, **options):
    return RayEngine(
        recipe,
        redis=RedisAddress(url, name),
        device=torch.device("cpu"),
        note=(lambda text: None) if notes is None else notes.append,
        **options,
    )


def nodes_of(role):
    """Nodes on which the living processes of a role are."""
    return [
        entry["Address"]["NodeID"]
        for entry in actor_table().values()
        if entry["State"] == "ALIVE" and entry["ActorClassName"] == role
    ]


def test_a_node_that_is_lost_does_not_end_the_run(recipe_of, redis_url, monkeypatch):
    monkeypatch.setattr("engines.on_ray.shard_fleet.RemoteShard", RemoteOpenShard)
    notes = []
    with many_nodes(4, 3, 3) as cluster:
        recipe = recipe_of(("3",), num_steps=20_000)
        engine = start(recipe, redis_url, name="nodes", notes=notes)
        try:
            everybody = [3, 3]
            drive(engine, lambda p: [g.actors for g in p.games.values()] == everybody and p.updates)
            assert len(set(nodes_of("ActorProcess"))) == 3
            assert nodes_of("LearnerProcess") == nodes_of("OpenShard"), "replay is not beside it"
            assert nodes_of("LearnerProcess") == [ray.get_runtime_context().get_node_id()]
            before = drive(engine, lambda p: p.updates > 10)
            lost = next(node for node in cluster.list_all_nodes() if not node.head)
            num_there = nodes_of("ActorProcess").count(lost.node_id)
            assert num_there > 0
            cluster.remove_node(lost, allow_graceful=False)
            after = drive(
                engine, lambda p: p.faults["actor_restarts"] >= num_there, timeout_s=180.0
            )
            # Seven CPUs are left for eight roles.
            drive(engine, lambda p: sum(g.pending for g in p.games.values()) == 1)
            last = drive(engine, timeout_s=300.0)
            tables = dump_all(engine)
        finally:
            engine.close()
    assert last.updates == recipe.config.num_updates > after.updates > before.updates
    assert last.faults["learner_restarts"] == last.faults["shard_restarts"] == 0
    # Ray may still put the next one on the node that is being lost.
    assert sum("died; starting another" in note for note in notes) >= num_there
    check_contents(tables)


@pytest.mark.parametrize(("num_batch_slots", "num_mapped"), [(3, 2), (0, 0)])
def test_replay_is_spread_if_it_is_to_be(
    num_batch_slots, num_mapped, recipe_of, redis_url, monkeypatch
):
    """Here all nodes share one memory; on several machines batches go through the object store."""
    monkeypatch.setattr("engines.on_ray.learner_team.RemoteLearner", RemoteOpenLearner)
    with many_nodes(3, 3):
        config = recipe_of(("1",), num_steps=1_000_000).config
        replay = dataclasses.replace(
            config.replay, num_shards=2, spread=True, num_batch_slots=num_batch_slots
        )
        config = dataclasses.replace(config, replay=replay)
        engine = start(
            MadeUpRecipe(config), redis_url, name="spread", placement=Placement(spreads_shards=True)
        )
        try:
            drive(engine, lambda p: p.updates > 10)
            assert len(set(nodes_of("ShardProcess"))) == 2
            (learner,) = engine._learners.handles
            answer = learner.num_mapped.options(concurrency_group=CONTROL_GROUP).remote()
            assert ray.get(answer, timeout=30.0) == num_mapped
        finally:
            engine.close()


def test_an_autoscaler_is_asked_for_nodes_at_the_start_and_for_more_actors(recipe_of, redis_url):
    recipe = recipe_of(("1",), num_steps=1_000_000)
    said = []
    with (
        growing_cluster(head_cpus=1, worker_cpus=4, max_workers=2),
        ray_session(recipe, note=said.append),
    ):
        assert has_autoscaler()
        # Redis must be reachable for nodes that are not there yet.
        assert address_for_others() is not None
        engine = start(recipe, redis_url, name="growing")
        try:
            drive(engine, lambda p: p.updates > 10)
            assert len([node for node in ray.nodes() if node["Alive"]]) == 2
            engine.scale(FIRST, 4)
            # Some wait for the node meanwhile, for longer or shorter than it takes to look.
            grown = drive(engine, lambda p: p.games[FIRST].actors == 4, timeout_s=180.0)
            assert len([node for node in ray.nodes() if node["Alive"]]) == 3
            drive(engine, lambda p: p.updates > grown.updates + 10)
        finally:
            engine.close()
    assert said[0] == (
        "the run needs 4 CPUs, but the cluster has 1 CPU; waiting for the autoscaler"
    )


def test_a_cluster_without_one_is_refused_at_once_and_waited_for_if_asked_to(
    recipe_of, redis_url, monkeypatch
):
    recipe = recipe_of(("1",), num_steps=1_000)
    with many_nodes(2) as cluster:
        address = cluster.address
        assert not has_autoscaler()
        assert address_for_others() is None
        ray.shutdown()
        monkeypatch.setenv("RAY_ADDRESS", address)
        begun = time.monotonic()
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
        patient = recipe_of(("1",), num_steps=1_000, cluster_wait_s=120.0)
        said = []

        def bring_a_node(text):
            said.append(text)
            cluster.add_node(num_cpus=2, object_store_memory=100 << 20)

        with ray_session(patient, note=bring_a_node):
            wait_until(
                lambda: ray.cluster_resources().get("CPU") == 4, timeout_s=30.0, what="it is here"
            )
        assert said == ["the run needs 4 CPUs, but the cluster has 2 CPUs; waiting for more nodes"]
