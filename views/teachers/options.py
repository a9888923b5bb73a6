"""How teachers are verified and compared; imports nothing that is slow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro
from annotated_types import Ge, Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyOptions:
    """Play a teacher and compare it with its card; status 1 if it is far worse or near random."""

    teacher: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="TEACHER")]
    """Name of a game whose expert is shipped, a GAME.safetensors file, or hf://..."""
    protocol: str = ""
    """Only this protocol; without, the teacher's own and `classic`, which runs use by default."""
    episodes: Annotated[int, Ge(1)] = 20
    """Whole episodes by each protocol."""
    epsilon: Annotated[float, Interval(ge=0, le=1)] | None = None
    """Share of random actions; without, the card's, else what is usual for the protocol."""
    num_envs: Annotated[int, Ge(1)] = 10
    """Episodes played at the same time."""
    seed: Annotated[int, Ge(0)] = 54321
    """Seed of environments and random actions."""
    threads: Annotated[int, Ge(1)] = 1
    """Threads of the emulators and of the network."""
    write: bool = False
    """Add what was measured to the card."""
    json: bool = False
    """Print one JSON object instead of a table."""

    def __post_init__(self) -> None:
        """Refuse an unknown protocol."""
        if self.protocol:
            # Brings NumPy, which help does without.
            from games.env import get_protocol

            get_protocol(self.protocol)


@dataclass(frozen=True, slots=True, kw_only=True)
class NearestOptions:
    """Order sources by how alike they and a game's own teacher see its states."""

    teacher: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="TEACHER")]
    """The game's own teacher: name of a game whose expert is shipped, a GAME.safetensors file, or
    hf://..."""
    sources: tuple[str, ...] = ()
    """Teachers of other games, in the same forms; without, all shipped experts."""
    num: Annotated[int, Ge(1)] = 3
    """How many are named as the nearest."""
    states: Annotated[int, Interval(ge=8, le=20_000)] = 2_000
    """States of the game that are compared, as its teacher plays it."""
    seed: Annotated[int, Ge(0)] = 1
    """Seed of the environments and of random actions."""
    json: bool = False
    """Print one JSON object instead of a table."""
