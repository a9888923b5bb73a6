"""Runs in slices, between which the members of a population wait for each other."""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeAlias, TypeVar

# (comparisons scored, comparisons decided): members are brought forward from the lowest.
Position: TypeAlias = tuple[int, int]

Result = TypeVar("Result")


def run_through(slices: Generator[Position, None, Result]) -> Result:
    """Carry a run that nobody has to wait for from its beginning to its end."""
    while True:
        try:
            next(slices)
        except StopIteration as end:
            result: Result = end.value
            return result
