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
    # Number among the game's actors; decides which shard it feeds.
    rank: int
    serial: int
    handle: Any
    # Reference that becomes ready when its loop ends.
    running: Any
    start_step: int
    # (position, number of actors) in the game's ladder of exploration rates.
    place: tuple[int, int]
    # Whether ladder and replay take it for one of the game's; an added one only once it is up.
    is_counted_on: bool
    # None until it has answered.
    process: str | None = None
    counts: ActorCounts = field(default_factory=ActorCounts)
    # Reference of the report that is under way.
    asked: Any = None
    # Whether it was still under way when the last look ended.
    is_late: bool = False
    # While it retires.
    must_end_by: float = 0.0
    asked_for: float = field(default_factory=time.monotonic)
    # Whether there is no room for it, as of the last look.
    is_pending: bool = False


def is_placed(actor: LiveActor) -> bool:
    """Whether Ray has found room for it."""
    return actor.process is not None or pid_of(actor.handle) > 0
