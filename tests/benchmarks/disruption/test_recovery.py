"""When a run counts as recovered: a process in the place is not enough, it must have worked."""

from dataclasses import replace

import pytest

from benchmarks.disruption.recovery import Standing, has_recovered, losses
from benchmarks.disruption.targets import find_target, reached
from records.process_id import ProcessId, RoleProcess

HEAD, WORKER = "head", "worker"


def process(role, rank=0, *, pid, done=10, node=HEAD):
    return RoleProcess(
        role=role,
        rank=rank,
        done=done,
        process=ProcessId(pid=pid, started=5, machine="m", node=node),
    )


ACTOR = process("actor/pong", 0, pid=1, node=WORKER)
OTHER = process("actor/pong", 1, pid=2, node=WORKER)
SHARD = process("shard", pid=3)
LEARNER = process("learner", pid=4)
REDIS = process("redis", pid=5, done=0, node="")
LAUNCHER = process("coordinator", pid=6, done=0)
ALL = (ACTOR, OTHER, SHARD, LEARNER, REDIS, LAUNCHER)
STATUS = {
    "phase": "training",
    "updates": 100,
    "games": {"pong": {"live": 2, "wanted": 2, "waiting": 0}},
    "faults": {"chunks_lost": 1, "transitions_lost": 0, "actor_restarts": 3},
    "processes": [p.to_map() for p in ALL],
}
BEFORE = Standing.of(STATUS, has_weights=True)


def without(*gone, added=(), **changes):
    """The run after some of its processes have gone and others have come."""
    left = tuple(p for p in ALL if p not in gone)
    return replace(BEFORE, processes=(*left, *added), **changes)


def successor(of, *, done):
    return replace(of, done=done, process=replace(of.process, pid=of.process.pid + 100))


def test_a_look_keeps_what_the_run_has_shown():
    assert BEFORE.processes == ALL
    assert BEFORE.of_role("actor") == BEFORE.of_role("actor/pong") == [ACTOR, OTHER]
    assert BEFORE.unready == ""


@pytest.mark.parametrize("killed", [ACTOR, SHARD, LEARNER])
def test_a_role_is_back_when_its_successor_has_worked(killed):
    assert not has_recovered([killed], BEFORE, BEFORE), "nothing has happened yet"
    assert not has_recovered([killed], BEFORE, without(killed)), "nobody is in its place"
    idle = without(killed, added=[successor(killed, done=0)])
    assert not has_recovered([killed], BEFORE, idle), "its successor has done nothing"
    assert has_recovered([killed], BEFORE, without(killed, added=[successor(killed, done=1)]))


def test_an_actor_elsewhere_is_no_successor():
    stranger = replace(successor(ACTOR, done=5), rank=7)
    assert not has_recovered([ACTOR], BEFORE, without(ACTOR, added=[stranger]))


def test_redis_is_back_when_it_has_the_weights_and_the_run_has_gone_on():
    back = without(REDIS, added=[successor(REDIS, done=0)], updates=101)
    assert has_recovered([REDIS], BEFORE, back)
    assert not has_recovered([REDIS], BEFORE, replace(back, has_weights=False))
    assert not has_recovered([REDIS], BEFORE, replace(back, updates=100))
    assert not has_recovered([REDIS], BEFORE, without(REDIS, updates=101))


def test_a_lost_node_is_made_up_for_by_actors_elsewhere_or_that_wait_for_room():
    lost = [ACTOR, OTHER]
    one = without(*lost, added=[successor(ACTOR, done=3)])
    assert not has_recovered(lost, BEFORE, one)
    assert has_recovered(lost, BEFORE, replace(one, waiting={"pong": 1}))
    assert not has_recovered(lost, BEFORE, without(*lost, waiting={"pong": 1}))
    assert has_recovered(lost, BEFORE, without(*lost, waiting={"pong": 2}))
    waited = replace(BEFORE, waiting={"pong": 1})
    assert not has_recovered(lost, waited, replace(one, waiting={"pong": 1}))


@pytest.mark.parametrize("phase", ["starting", "testing", "ended"])
def test_nothing_recovers_outside_training(phase):
    back = without(ACTOR, added=[successor(ACTOR, done=1)], phase=phase)
    assert not has_recovered([ACTOR], BEFORE, back)
    assert back.unready == f"it is {phase}"


def test_a_run_is_not_ready_while_anything_of_it_has_not_worked():
    assert replace(BEFORE, settled=False).unready == "not all of its actors play"
    assert replace(BEFORE, has_weights=False).unready == "its weights are not in Redis"
    idle = without(SHARD, added=[successor(SHARD, done=0)])
    assert idle.unready == "shard 0 has done nothing yet"
    assert without(LEARNER).unready == "learner or replay has done nothing yet"


def test_what_was_lost_is_the_difference():
    after = replace(BEFORE, faults={"chunks_lost": 3, "transitions_lost": 70})
    assert losses(BEFORE, after) == {"chunks_lost": 2, "transitions_lost": 70}


def test_a_run_that_shows_no_processes_is_refused():
    status = {name: value for name, value in STATUS.items() if name != "processes"}
    with pytest.raises(ValueError, match="does not say which processes it has"):
        Standing.of(status, has_weights=True)


def test_targets_are_the_first_of_a_role_or_a_node_without_the_launcher():
    assert find_target(BEFORE, "actor").processes == (ACTOR,)
    assert find_target(BEFORE, "actor/pong").processes == (ACTOR,)
    node = find_target(BEFORE, "node")
    assert (node.node, node.processes) == (WORKER, (ACTOR, OTHER))
    assert str(node) == "node worker with actor/pong 0, actor/pong 1"


@pytest.mark.parametrize(
    ("standing", "role", "message"),
    [
        (BEFORE, "inference", "no process of role 'inference'; it has actor/pong, coordinator"),
        (BEFORE, "actor/boxing", "no process of role 'actor/boxing'"),
        (without(REDIS), "redis", "a Redis that it has not started itself"),
        (without(ACTOR, OTHER), "node", "all of the run is on the launcher's node"),
    ],
)
def test_what_is_not_there_or_not_ours_is_refused(standing, role, message):
    with pytest.raises(ValueError, match=message):
        find_target(standing, role)


@pytest.mark.parametrize(
    ("role", "message"),
    [
        ("coordinator", "launcher is on another machine.*give the command there"),
        ("redis", "Redis is on the launcher's machine; give the command there"),
    ],
)
def test_what_can_only_be_seen_or_killed_on_the_launchers_machine_is_refused_elsewhere(
    role, message
):
    with pytest.raises(ValueError, match=message), reached([find_target(BEFORE, role)]):
        pass
