"""The arrays inside the wire format's dataclasses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


def arrays_of(value: object) -> Iterator[NDArray[Any]]:
    """All arrays of nested dataclasses."""
    if isinstance(value, np.ndarray):
        yield value
    elif is_dataclass(value):
        for field in fields(value):
            yield from arrays_of(getattr(value, field.name))


def num_bytes(value: object) -> int:
    """Bytes of all arrays of nested dataclasses."""
    return sum(array.nbytes for array in arrays_of(value))
