"""Where the processes of a run on Ray find what they share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Link:
    """Where a run's weights are."""

    redis_url: str
    """Never logged: it may hold a password."""
    run: str
    """Prefix of the run's keys."""
    inference: Any = None
    """Handle of the process that computes the student's logits for all actors; None: each has a
    copy of its own, with the weights from Redis."""
