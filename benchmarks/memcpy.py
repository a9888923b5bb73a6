"""Copying memory: what nothing that hands out bytes can beat."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from recipes.recipe import Recipe


def copy_source_bytes(recipe: Recipe) -> int:
    """Bytes to copy out of: as many as the tables take, so that caches help both alike."""
    capacity = recipe.config.replay.capacity_per_game
    specs = [recipe.table_spec(game, capacity) for game in recipe.games]
    return sum(replace(spec, compression="none").nbytes for spec in specs)


class Memcpy:
    """Copies pieces out of a large array, each from a place of its own, to one and the same."""

    def __init__(self, *, source_bytes: int, piece_bytes: int, rng: np.random.Generator) -> None:
        """Allocate; ValueError if the pieces are larger than the source."""
        if piece_bytes > source_bytes:
            raise ValueError(f"cannot copy {piece_bytes} bytes out of {source_bytes}")
        self._rng = rng
        # Written to, since pages that were never touched are all one and the same in memory.
        self._source = np.ones(source_bytes, np.uint8)
        self._target = np.ones(piece_bytes, np.uint8)

    def run(self) -> int:
        """Copy one piece; returns its bytes."""
        size = len(self._target)
        start = int(self._rng.integers(0, len(self._source) - size + 1))
        np.copyto(self._target, self._source[start : start + size])
        return size
