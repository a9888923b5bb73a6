"""Several learners that make every update together, in processes of their own."""

import os
import signal
from dataclasses import replace

import pytest
import torch
from replica_runs import (
    Case,
    build_case_learner,
    learn_parts,
    learn_whole,
    make_part,
    run_replicas,
)

from learner.config import LearnerConfig
from learner.objectives.config import MimicConfig
from learner.replicas import (
    Host,
    LoneReplica,
    MeetingPoint,
    ReplicaGroup,
    ReplicaLostError,
    _open_store,
)

CPU = torch.device("cpu")

MIMIC = Case()
FEATURES = Case(mimic=MimicConfig(temperature=0.5, feature_weight=0.05))
IMPORTANCE = Case(mimic=MimicConfig(temperature=0.5, importance_exponent=0.7))
PAPER = replace(MIMIC, learner=replace(MIMIC.learner, optimizer="actor_mimic_adam"))
VALUES = Case(value_learning=True)
MIMIC_CASES = {
    "policy": MIMIC,
    "features": FEATURES,
    "importance weights": IMPORTANCE,
    "the paper's optimizer": PAPER,
}

COUNTS = [((6, 2), (1, 7)), ((4, 4), (5, 3)), ((7, 1), (7, 1))]
"""Rows of the two games in the parts of a batch, in turn."""


def make_updates(num_updates=20, *, counts=COUNTS, num_successors=0):
    """Batches in parts."""
    return [
        [
            make_part(1_000 * update + rank, part, num_successors=num_successors)
            for rank, part in enumerate(counts[update % len(counts)])
        ]
        for update in range(num_updates)
    ]


def assert_close(replica, lone):
    """The weights have moved a thousand times as far as the tolerance."""
    torch.testing.assert_close(replica["network"], lone["network"], rtol=1e-5, atol=3e-6)
    torch.testing.assert_close(replica["objective"], lone["objective"], rtol=1e-5, atol=3e-6)
    assert replica["metrics"].keys() == lone["metrics"].keys()
    # Lags are of each replica's own part.
    for name in (name for name in replica["metrics"] if not name.endswith("policy_lag")):
        assert replica["metrics"][name] == pytest.approx(lone["metrics"][name], rel=1e-4), name


# As one learner with the whole batch


def do_everything(replicas, updates):
    """All that two replicas do together; one start of the processes serves many tests."""
    conditions = [
        replicas.all_of(True, replicas.rank == 0),
        replicas.all_of(replicas.rank == 1, True),
    ]
    return {
        "cases": dict(
            zip(MIMIC_CASES, learn_parts(replicas, MIMIC_CASES.values(), updates), strict=True)
        ),
        "published": publish_in_all(replicas),
        "conditions": conditions,
    }


def publish_in_all(replicas):
    """(versions published, numbers of priorities sent) in four updates."""
    case = replace(MIMIC, learner=replace(MIMIC.learner, publish_period=2))
    learner = build_case_learner(case, batch_size=16)
    learner.join(replicas)
    for parts in make_updates(4):
        learner.update(learner.load_batch(parts[replicas.rank]))
    learner.flush_priorities()
    sent = [len(update.priorities) for update in learner._replay.updates]
    return learner._weights.tape.details("publish"), sent


@pytest.fixture(scope="module")
def updates():
    return make_updates()


@pytest.fixture(scope="module")
def pair(updates):
    """What both of two replicas did."""
    return run_replicas(do_everything, updates)


@pytest.mark.slow
@pytest.mark.parametrize("name", MIMIC_CASES)
def test_two_replicas_learn_what_one_learner_learns_from_the_same_rows(pair, updates, name):
    lone = learn_whole(MIMIC_CASES[name], updates)
    start = build_case_learner(MIMIC_CASES[name], batch_size=16).state()
    moved = max(
        float((lone["network"][key] - start["network"][key]).abs().max()) for key in lone["network"]
    )
    assert moved > 1e-3
    for done in pair:
        assert_close(done["cases"][name], lone)


@pytest.mark.slow
def test_all_replicas_have_the_same_bits(pair):
    first, second = pair
    for name, one in first["cases"].items():
        other = second["cases"][name]
        torch.testing.assert_close(one["network"], other["network"], rtol=0, atol=0)
        torch.testing.assert_close(one["optimizer"], other["optimizer"], rtol=0, atol=0)


@pytest.mark.slow
def test_three_replicas_learn_values_as_one_learner_does():
    in_parts = make_updates(counts=[((6, 2), (1, 7), (4, 4))], num_successors=3)
    lone = learn_whole(VALUES, in_parts)
    for (replica,) in run_replicas(learn_parts, [VALUES], in_parts, size=3):
        assert_close(replica, lone)


def test_a_learner_that_joins_nobody_learns_as_before():
    updates = make_updates(3)
    learner = build_case_learner(IMPORTANCE, batch_size=16)
    learner.join(LoneReplica())
    for parts in updates:
        learner.update(learner.load_batch(parts[0]))
    alone = build_case_learner(IMPORTANCE, batch_size=16)
    for parts in updates:
        alone.update(alone.load_batch(parts[0]))
    torch.testing.assert_close(learner.state(), alone.state(), rtol=0, atol=0)


# Who does what


@pytest.mark.slow
def test_rank_0_alone_publishes_and_each_sends_its_own_priorities(pair):
    first, second = pair
    assert first["published"] == ([(0, 2), (0, 4)], [8] * 4)
    assert second["published"] == ([], [8] * 4)


@pytest.mark.slow
def test_a_condition_holds_if_it_holds_everywhere(pair):
    for done in pair:
        assert done["conditions"] == [[True, False], [False, True]]


# What goes wrong


def fail_with_the_second(replicas, how):
    """The first one's error when the second one goes in the midst of an update."""
    learner = build_case_learner(MIMIC, batch_size=16)
    learner.join(replicas)
    updates = make_updates(2)
    learner.update(learner.load_batch(updates[0][replicas.rank]))
    before = learner.state()
    if replicas.rank == 1:
        if how == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        replicas.close()
        return "left"
    try:
        learner.update(learner.load_batch(updates[1][0]))
    except ReplicaLostError as error:
        after = learner.state()
        torch.testing.assert_close(before["network"], after["network"], rtol=0, atol=0)
        return str(error)
    return "nothing happened"


@pytest.mark.slow
@pytest.mark.parametrize(("how", "last"), [("dies", None), ("leaves", "left")])
def test_a_replica_that_goes_ends_the_update_of_the_others(how, last):
    first, second = run_replicas(fail_with_the_second, how)
    assert "lost the other learners" in first
    assert "Timed out" not in first, "it waited although nobody was there any more"
    assert second == last


def test_replicas_that_do_not_come_are_not_waited_for_for_ever():
    host = Host("127.0.0.1")
    with pytest.raises(ReplicaLostError, match="lost the other learners"):
        ReplicaGroup(
            host.point,
            rank=0,
            size=2,
            own_address="127.0.0.1",
            device=CPU,
            host=host,
            timeout_s=0.5,
        )


def test_the_meeting_point_listens_on_its_address_alone():
    host = Host("127.0.0.1")
    listening = listening_addresses(host.point.port)
    assert listening == ["0100007F"], "127.0.0.1 as /proc/net/tcp writes it"
    store = _open_store(MeetingPoint("127.0.0.1", host.point.port))
    store.set("key", "value")
    assert host.store.get("key") == b"value"


def listening_addresses(port):
    """Local addresses, in hexadecimal, of the sockets that listen on a port."""
    found = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with open(table) as file:
            for line in file.readlines()[1:]:
                address, number = line.split()[1].split(":")
                if line.split()[3] == "0A" and int(number, 16) == port:
                    found.append(address)
    return found


def test_a_batch_that_does_not_come_out_even_is_refused():
    config = LearnerConfig(num_replicas=3)
    assert config.part_of(96) == 32
    message = r"batch_size \(128\) must be a multiple of learner.num_replicas \(3\); use 126 or 129"
    with pytest.raises(ValueError, match=message):
        config.part_of(128)
