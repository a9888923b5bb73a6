"""What roles on Ray answer, within a common patience."""

from __future__ import annotations

from typing import Any

import ray
from ray.exceptions import RayActorError

REPORT_PATIENCE_S = 5.0
"""How long a report waits for the roles, all together; one that is just starting is left out."""


def answers(references: list[Any], *, patience_s: float = REPORT_PATIENCE_S) -> list[Any]:
    """What the roles answer in time; None for one that is dead or too busy.

    Raises:
        RayActorError: a role could not even start, and so will no other one in its place.
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
