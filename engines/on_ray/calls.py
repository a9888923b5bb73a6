"""Calls to roles on Ray: their groups, how long an answer may take, and what an error means.

Ray has many errors for one thing: a process or its node has gone. An actor may have died or be out
of reach, a task's worker crashed, a node been lost, a process been killed by the memory monitor, an
object been lost with its owner. Every one of them is a loss here, and everybody who waits for a
role asks `is_loss`. What is no loss is an error in a role itself, which a restart would repeat.
"""

from __future__ import annotations

import secrets
from typing import Any

import ray
from ray.exceptions import (
    LocalRayletDiedError,
    NodeDiedError,
    ObjectLostError,
    ObjectStoreFullError,
    OutOfDiskError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    RayTaskError,
    WorkerCrashedError,
)

# Random name of this process: one that takes a dead one's place has another.
THIS_PROCESS = secrets.token_hex(8)

# Ray concurrency group in which a role's loop runs, beside the calls that ask about it.
RUN_GROUP = "run"

CONTROL_GROUP = "control"
ADD_GROUP = "add"
SAMPLE_GROUP = "sample"
# Ray concurrency groups of a shard: callers that wait in one do not hold up the others.
UPDATE_GROUP = "update"

# Ray concurrency group of the inference server in which actors wait.
INFERENCE_GROUP = "infer"

# Threads of each group. One for updates: a second could apply the older of two last. As many for
# adding as actors may wait at a shard: those beyond wait in Ray's queue, where nobody gives turns.
SHARD_GROUPS = {ADD_GROUP: 256, SAMPLE_GROUP: 4, UPDATE_GROUP: 1, CONTROL_GROUP: 2}

# Longest wait for a role to answer a question; roles answer between two steps of their loop.
CALL_TIMEOUT_S = 30.0

# How long a report waits for the roles, all together; one that is just starting is left out.
REPORT_PATIENCE_S = 5.0

# How long a role whose process has died is left alone before it is called again.
RESTART_PAUSE_S = 0.25

# How long one call may wait inside a shard before it comes back without a result.
SHARD_PATIENCE_S = 1.0

# Ray's errors that mean: a process or its node has gone. A role's error that was caused by one is
# an instance of it as well, since Ray raises it as both.
LOSSES = (
    RayActorError,
    WorkerCrashedError,
    NodeDiedError,
    LocalRayletDiedError,
    OutOfMemoryError,
    ObjectLostError,
)


def ask(handle: Any, question: str, *args: Any, **kwargs: Any) -> Any:
    """Reference of a role's answer to a question, which it gives beside its loop."""
    method = getattr(handle, question).options(concurrency_group=CONTROL_GROUP)
    return method.remote(*args, **kwargs)


def answers(references: list[Any], *, patience_s: float = REPORT_PATIENCE_S) -> list[Any]:
    """What the roles answer in time; None for one that is lost or too busy.

    RayActorError if a role could not even start, as no other one in its place will; ValueError if a
    role refuses, or Ray has no room left (see cause_of).
    """
    ready, _ = ray.wait(references, num_returns=len(references), timeout=patience_s)
    return [_answer(reference) if reference in ready else None for reference in references]


def _answer(reference: Any) -> Any:
    try:
        return ray.get(reference)
    except TimeoutError:
        # A learner in the midst of a long update has passed the question by.
        return None
    except RayError as error:
        if is_loss(error):
            return None
        raise cause_of(error) from None


def error_of(reference: Any) -> RayError | None:
    """The error with which a call has ended; None if it has ended well."""
    try:
        ray.get(reference)
    except RayError as error:
        return error
    return None


def is_loss(error: Exception) -> bool:
    """Whether a process or its node has gone, so that another one in its place may do better."""
    return isinstance(_innermost(error), LOSSES) and not could_not_start(error)


def could_not_start(error: Exception) -> bool:
    """Whether a role has failed while it was built, as every other one in its place will."""
    cause = _innermost(error)
    return isinstance(cause, RayActorError) and cause.actor_init_failed


def is_for_memory(error: Exception) -> bool:
    """Whether Ray's memory monitor has killed the process, since its node had none left."""
    return isinstance(_innermost(error), OutOfMemoryError)


def how_it_died(error: Exception) -> str:
    """What a note says of a process that is lost: that it died, and why if that is known."""
    if is_for_memory(error):
        return "was killed by Ray's memory monitor, since its node had no memory left"
    return "died"


def in_one_line(error: Exception) -> str:
    """The first 300 letters of what an error says; Ray says many lines."""
    return " ".join(str(_innermost(error)).split())[:300]


def cause_of(error: Exception) -> Exception:
    """What a role's error means to whoever launched the run.

    The ValueError with which the role has refused; one that says what to do where Ray has no room
    left; else the error itself.
    """
    cause = _innermost(error)
    if isinstance(cause, ObjectStoreFullError | OutOfDiskError):
        return ValueError(
            "Ray's object store is full on a node, and so is the disk below its temporary folder, "
            "to which it would spill; free room there, or give the store more with 'ray start "
            "--object-store-memory BYTES', and go on with --resume"
        )
    return cause if isinstance(cause, ValueError) else error


def _innermost(error: Exception) -> Exception:
    """The error behind one that a role passes on: its own, or that of another role it has met."""
    while isinstance(error, RayTaskError) and isinstance(error.cause, Exception):
        error = error.cause
    return error
