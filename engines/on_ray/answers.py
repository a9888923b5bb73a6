"""What roles on Ray answer, within a common patience."""

from __future__ import annotations

from typing import Any

import ray
from ray._private.state import actors as actor_table
from ray.exceptions import ObjectStoreFullError, OutOfDiskError, RayActorError, RayTaskError

from records.process_id import ProcessId, own_process

CALL_TIMEOUT_S = 30.0
"""Longest wait for a role to answer a question; roles answer between two steps of their loop."""

REPORT_PATIENCE_S = 5.0
"""How long a report waits for the roles, all together; one that is just starting is left out."""

_ray: Any = ray  # Some of its functions have no types.


def answers(references: list[Any], *, patience_s: float = REPORT_PATIENCE_S) -> list[Any]:
    """What the roles answer in time; None for one that is dead or too busy.

    Raises:
        RayActorError: a role could not even start, and so will no other one in its place.
        ValueError: See cause_of.
    """
    ready, _ = ray.wait(references, num_returns=len(references), timeout=patience_s)
    return [_answer(reference) if reference in ready else None for reference in references]


def _answer(reference: Any) -> Any:
    try:
        return ray.get(reference)
    except RayActorError as error:
        if error.actor_init_failed:
            raise
        return None
    except TimeoutError:
        # A learner in the midst of a long update has passed the question by.
        return None
    except RayTaskError as error:
        raise cause_of(error) from None


def cause_of(error: RayTaskError) -> Exception:
    """What a role's error means to whoever launched the run.

    Returns:
        The ValueError with which the role has refused; one that says what to do where Ray has no
        room left; else the error itself.
    """
    cause: Any = error.cause
    while isinstance(cause, RayTaskError):
        cause = cause.cause  # One role's error, met by another one.
    if isinstance(cause, ObjectStoreFullError | OutOfDiskError):
        return ValueError(
            "Ray's object store is full on a node, and so is the disk below its temporary folder, "
            "to which it would spill; free room there, or give the store more with 'ray start "
            "--object-store-memory BYTES', and go on with --resume"
        )
    return cause if isinstance(cause, ValueError) else error


def has_process(handle: Any) -> bool:
    """Whether Ray has given an actor a process; False while it waits for room in the cluster."""
    # Ray's public calls do not tell a role that waits from one that is just starting.
    entry = actor_table(handle._actor_id.hex())
    return bool(entry) and int(entry.get("Pid") or 0) > 0


def own_role_process() -> ProcessId:
    """This process, as it is found on the nodes of Ray."""
    return own_process(node=str(_ray.get_runtime_context().get_node_id()))
