"""A run on several nodes: where its roles are, a node that is lost, nodes that are asked for."""

import dataclasses

import pytest
import ray
from ray._private.state import actors as actor_table
from ray_clusters import growing_cluster, many_nodes
from ray_runs import (
    COUNTING,
    MadeUpRecipe,
    RemoteOpenLearner,
    check_contents,
    counting_config,
    drive,
    dump_all,
    started,
)

from engines.chaos.processes import RayProcesses
from engines.chaos.recovery import Recovery, Standing
from engines.on_ray.calls import CONTROL_GROUP
from engines.on_ray.placement import Placement
from engines.on_ray.room import has_autoscaler
from engines.on_ray.session import address_for_others, ray_session

pytestmark = [pytest.mark.ray, pytest.mark.redis, pytest.mark.slow]


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """A run that does not end by itself."""
    return counting_config(
        tmp_path_factory.mktemp("teachers"),
        num_steps=1_000_000,
        replay={"capacity_per_game": 200_000, "error_buffer": 300.0, "snapshot_period_s": 0.0},
    )


def nodes_of(role):
    """Nodes on which the living processes of a role are."""
    return [
        entry["Address"]["NodeID"]
        for entry in actor_table().values()
        if entry["State"] == "ALIVE" and entry["ActorClassName"] == role
    ]


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


def test_an_actor_and_a_node_that_are_killed_through_ray_do_not_end_the_run(
    config, redis_url, monkeypatch
):
    notes = []
    wide = dataclasses.replace(config, actors=("3",))
    with many_nodes(4, 3, 3) as cluster:
        monkeypatch.setenv("RAY_ADDRESS", cluster.address)
        with started(wide, redis_url, name="nodes", notes=notes) as engine:
            before = whole(engine)
            assert len(set(nodes_of("ActorProcess"))) == 3
            assert nodes_of("LearnerProcess") == nodes_of("OpenShard"), "replay is not beside it"
            assert nodes_of("LearnerProcess") == [ray.get_runtime_context().get_node_id()]
            processes = RayProcesses("nodes")
            there = [p for p in processes.find() if p.node != processes.here]
            assert {p.role.partition("/")[0] for p in there} == {"actor"}
            processes.kill(there[0])
            recovered(engine, [there[0].role], before)
            with pytest.raises(ValueError, match="has gone meanwhile"):
                processes.kill(there[0])
            before = whole(engine)
            node = there[-1].node
            lost = [p.role for p in processes.find() if p.node == node]
            processes.kill_node(node)
            recovered(engine, lost, before)
            # Seven CPUs are left for eight roles.
            after = drive(engine, lambda p: sum(g.pending for g in p.games.values()) == 1)
            drive(engine, lambda p: p.updates > after.updates + 20)
            last = engine.progress()
            tables = dump_all(engine)
    assert last.faults["actor_restarts"] >= 1 + len(lost)
    assert last.faults["learner_restarts"] == last.faults["shard_restarts"] == 0
    # Ray may still put the next one on the node that is being lost.
    assert sum("died; starting another" in note for note in notes) >= 1 + len(lost)
    check_contents(tables)


def test_replay_is_spread_if_it_is_to_be(config, redis_url, monkeypatch):
    """Here all nodes share one memory; on several machines batches go through the object store."""
    monkeypatch.setattr("engines.on_ray.learner_team.RemoteLearner", RemoteOpenLearner)
    spread = dataclasses.replace(
        config, replay=dataclasses.replace(config.replay, num_shards=2, spread=True)
    )
    with (
        many_nodes(3, 3),
        started(
            spread, redis_url, name="spread", placement=Placement(spreads_shards=True)
        ) as engine,
    ):
        drive(engine, lambda p: p.updates > 10)
        assert len(set(nodes_of("OpenShard"))) == 2
        (learner,) = engine._learners.handles
        answer = learner.num_mapped.options(concurrency_group=CONTROL_GROUP).remote()
        assert ray.get(answer, timeout=30.0) == 2


def test_an_autoscaler_is_asked_for_nodes_at_the_start_and_for_more_actors(config, redis_url):
    said = []
    with (
        growing_cluster(head_cpus=1, worker_cpus=4, max_workers=2),
        ray_session(MadeUpRecipe(config), note=said.append),
    ):
        assert has_autoscaler()
        # Redis must be reachable for nodes that are not there yet.
        assert address_for_others() is not None
        with started(config, redis_url, name="growing") as engine:
            drive(engine, lambda p: p.updates > 10)
            assert len([node for node in ray.nodes() if node["Alive"]]) == 2
            engine.scale(COUNTING[0], 4)
            # Some wait for the node meanwhile, for longer or shorter than it takes to look.
            grown = drive(engine, lambda p: p.games[COUNTING[0]].actors == 4, timeout_s=180.0)
            assert len([node for node in ray.nodes() if node["Alive"]]) == 3
            drive(engine, lambda p: p.updates > grown.updates + 10)
    assert said[0] == (
        "the run needs 4 CPUs, but the cluster has 1 CPU; waiting for the autoscaler"
    )
