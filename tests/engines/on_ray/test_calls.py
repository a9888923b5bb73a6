"""Ray's many errors that mean that a process has gone, and those that mean something else."""

import pytest
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    GetTimeoutError,
    NodeDiedError,
    ObjectLostError,
    ObjectStoreFullError,
    OutOfMemoryError,
    OwnerDiedError,
    RayTaskError,
    WorkerCrashedError,
)

from engines.on_ray.calls import (
    LOSSES,
    cause_of,
    could_not_start,
    how_it_died,
    is_for_memory,
    is_loss,
)

LOST = [
    ActorDiedError(),
    ActorUnavailableError("gone for a moment", None),
    WorkerCrashedError(),
    NodeDiedError("gone"),
    OutOfMemoryError("Task was killed due to the node running low on memory."),
    ObjectLostError("00", None, ""),
    OwnerDiedError("00", None, ""),
]


def in_a_role(error):
    """As Ray raises it where another role has met it."""
    return RayTaskError("run", "a traceback", error).as_instanceof_cause()


@pytest.mark.parametrize("error", LOST, ids=lambda error: type(error).__name__)
def test_whatever_says_that_a_process_has_gone_is_a_loss_also_when_another_role_met_it(error):
    for met in (error, in_a_role(error)):
        assert is_loss(met)
        assert isinstance(met, LOSSES)
        assert not could_not_start(met)
    assert is_loss(RayTaskError("run", "a traceback", in_a_role(error)))


@pytest.mark.parametrize(
    "error", [ValueError("no"), ObjectStoreFullError("full"), GetTimeoutError("late"), KeyError(1)]
)
def test_what_a_role_does_wrong_by_itself_is_none(error):
    assert not is_loss(error)
    assert not is_loss(in_a_role(error))


def test_a_role_that_cannot_be_built_is_no_loss_since_the_next_one_cannot_either():
    error = ActorDiedError(RayTaskError("__init__", "a traceback", ValueError("no such teacher")))
    assert could_not_start(error)
    assert not is_loss(error)
    assert could_not_start(in_a_role(error))


def test_memory_is_named_as_the_cause_of_a_death():
    killed = in_a_role(OutOfMemoryError("killed"))
    assert is_for_memory(killed)
    assert how_it_died(killed) == (
        "was killed by Ray's memory monitor, since its node had no memory left"
    )
    assert not is_for_memory(ActorDiedError())
    assert how_it_died(ActorDiedError()) == "died"


def test_a_refusal_is_passed_on_as_it_is_and_a_full_store_with_what_to_do():
    refusal = ValueError("a quota of 5")
    assert cause_of(in_a_role(refusal)) is refusal
    assert cause_of(RayTaskError("run", "a traceback", in_a_role(refusal))) is refusal
    assert "--object-store-memory" in str(cause_of(in_a_role(ObjectStoreFullError("full"))))
    defect = in_a_role(KeyError("a"))
    assert cause_of(defect) is defect
