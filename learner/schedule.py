"""How large the optimizer's steps are as the run goes on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class LearningRate:
    """Constant, then falling in a straight line to 0 at the run's end.

    A constant rate leaves the weights trembling around what they have learned; where two actions
    are nearly as good, the trembling decides which of them is preferred. The fall lets it settle.
    """

    start: float
    # Updates of the whole run.
    num_updates: int
    # Last part of the run over which the rate falls; 0 keeps it constant.
    decay_share: float

    def at(self, num_updates: int) -> float:
        """The rate of the update that comes after `num_updates`; never negative."""
        if self.decay_share == 0:
            return self.start
        left = 1 - num_updates / self.num_updates
        return self.start * max(0.0, min(1.0, left / self.decay_share))
