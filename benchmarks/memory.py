"""Bytes: those of nested arrays, and copying them, which nothing that hands out bytes can beat.

Needs NumPy alone, so that the scripts that measure other libraries can have it, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


def arrays_of(value: object) -> Iterator[NDArray[Any]]:
    """All arrays of nested dataclasses and mappings."""
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from arrays_of(item)
    elif is_dataclass(value):
        for field in fields(value):
            yield from arrays_of(getattr(value, field.name))


def num_bytes(value: object) -> int:
    """Bytes of all arrays of nested dataclasses and mappings."""
    return sum(array.nbytes for array in arrays_of(value))


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
