"""One actor process of a run on Ray, as the fleet of actors knows it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from actors.actor import ActorCounts
from engines.on_ray.ray_internals import pid_of


@dataclass(slots=True)
class LiveActor:
    """One actor process, or one that waits for room."""

    game: str
    rank: int
    """Number among the game's actors; decides which shard it feeds."""
    serial: int
    handle: Any
    running: Any
    """Reference that becomes ready when its loop ends."""
    start_step: int
    place: tuple[int, int]
    """(position, number of actors) in the game's ladder of exploration rates."""
    is_counted_on: bool
    """Whether ladder and replay take it for one of the game's; an added one only once it is up."""
    process: str | None = None
    """None until it has answered."""
    counts: ActorCounts = field(default_factory=ActorCounts)
    asked: Any = None
    """Reference of the report that is under way."""
    is_late: bool = False
    """Whether it was still under way when the last look ended."""
    must_end_by: float = 0.0
    """While it retires."""
    asked_for: float = field(default_factory=time.monotonic)
    is_pending: bool = False
    """Whether there is no room for it, as of the last look."""


def is_placed(actor: LiveActor) -> bool:
    """Whether Ray has found room for it."""
    return actor.process is not None or pid_of(actor.handle) > 0
