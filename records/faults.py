"""What counts as a fault of a run, and what as its price: one definition for whoever shows it."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import NonNegativeInt

from records.documents import Document


class FaultCounts(Document):
    """Counts since the session began, as engines report them; 0 where an engine has no such role.

    A process that died and was replaced is one fault. What it has cost is counted apart: one dead
    shard may cost thousands of transitions.
    """

    actor_restarts: NonNegativeInt = 0
    shard_restarts: NonNegativeInt = 0
    learner_restarts: NonNegativeInt = 0
    inference_restarts: NonNegativeInt = 0
    # Restarts of the private server, if the run has one.
    redis_restarts: NonNegativeInt = 0
    # Connections to Redis that were lost and opened again, by all processes.
    redis_reconnects: NonNegativeInt = 0
    # Updates made after the checkpoint from which a learner that died was replaced.
    updates_lost: NonNegativeInt = 0
    # Chunks given up because their shard died.
    chunks_lost: NonNegativeInt = 0
    # Transitions of dead shards that were not in the snapshots they came back from.
    transitions_lost: NonNegativeInt = 0


KINDS = tuple(FaultCounts.model_fields)
_MENDED = tuple(kind for kind in KINDS if kind.endswith("_restarts"))


def num_mended(counts: Mapping[str, float]) -> int:
    """How many faults were mended, by the counts of each kind."""
    return int(sum(counts.get(kind, 0) for kind in _MENDED))
