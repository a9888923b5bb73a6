"""What a game is, apart from playing it: its actions, its frames, its reference scores.

A GameSpec is a plain value that every process can hold and send. How to make an environment for
it is kept beside it in the registry, so that this module (and everybody who only needs masks and
shapes) stays free of emulators.

Units: 1 step = one decision of the agent = `frames_per_step` frames (4 in Atari).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

# Observations of any number of environments, or frames: images of bytes, or vectors of floats.
Observations: TypeAlias = NDArray[np.uint8 | np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class GameSpec:
    """One game: what goes in, what comes out, and the scores it is measured against."""

    # Lower snake case, "space_invaders"; unique over all families and usable as a file name.
    name: str

    # "atari", "minatar", or what a user registers. One family shares one joint action set.
    family: str

    # Size of the family's joint action set: 18 for Atari.
    num_actions: int

    # Joint action ids that this game accepts, ascending.
    legal_actions: tuple[int, ...]

    # One stored frame: uint8 [C, H, W], (1, 84, 84) for Atari; or float32 [C], a vector.
    frame_shape: tuple[int, ...]

    # Frames in one observation: 4 for Atari, 1 for MinAtar.
    num_stack: int = 1

    # Frames that pass in one step: 4 for Atari, 1 elsewhere.
    frames_per_step: int = 1

    # Mean return of uniformly random play, None if unknown.
    random_score: float | None = None

    # Mean return of a human tester, None if unknown.
    human_score: float | None = None

    def __post_init__(self) -> None:
        """Refuse values that contradict each other."""
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.name):
            raise ValueError(f"game name {self.name!r} must be lower snake case, like 'pong'")
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.family):
            raise ValueError(f"game family {self.family!r} must be lower snake case, like 'atari'")
        legal = self.legal_actions
        if not legal or list(legal) != sorted(set(legal)):
            raise ValueError(
                f"legal_actions of {self.name!r} must be ascending, without repeats and not "
                f"empty, not {legal}"
            )
        if legal[0] < 0 or legal[-1] >= self.num_actions:
            raise ValueError(
                f"legal_actions of {self.name!r} must lie in 0..{self.num_actions - 1} "
                f"(num_actions is {self.num_actions}), not {legal}"
            )
        if len(self.frame_shape) not in (1, 3) or min(self.frame_shape) < 1:
            raise ValueError(
                f"frame_shape of {self.name!r} must be three positive sizes (C, H, W), or the one "
                f"of a vector (C,), not {self.frame_shape}"
            )
        if self.num_stack < 1 or self.frames_per_step < 1:
            raise ValueError(
                f"num_stack and frames_per_step of {self.name!r} must be at least 1, "
                f"not {self.num_stack} and {self.frames_per_step}"
            )

    @property
    def is_vector(self) -> bool:
        """Whether it shows numbers instead of images."""
        return len(self.frame_shape) == 1

    @property
    def frame_dtype(self) -> type[np.uint8 | np.float32]:
        """Type of its frames and observations."""
        return np.float32 if self.is_vector else np.uint8

    @property
    def observation_shape(self) -> tuple[int, ...]:
        """One observation, [num_stack * C, H, W] or [num_stack * C], newest frame last."""
        channels, *sides = self.frame_shape
        return (self.num_stack * channels, *sides)

    def legal_mask(self) -> NDArray[np.bool_]:
        """Bool [num_actions], True for the legal joint actions; a fresh array at every call."""
        mask = np.zeros(self.num_actions, dtype=np.bool_)
        mask[list(self.legal_actions)] = True
        return mask


def normalized_score(score: float, low: float | None, high: float | None) -> float | None:
    """(score - low) / (high - low), or None where that is undefined.

    Undefined means a bound that is missing or not finite, equal bounds, or a score that is not
    finite.
    """
    if low is None or high is None or not all(map(math.isfinite, (score, low, high))):
        return None
    return None if high == low else (score - low) / (high - low)


def human_normalized_score(score: float, spec: GameSpec) -> float | None:
    """0 at random play, 1 at the human tester; None for a game without both reference scores."""
    return normalized_score(score, spec.random_score, spec.human_score)
