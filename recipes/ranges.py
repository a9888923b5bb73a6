"""Checks the ranges that fields of configurations declare, in one walk over the whole tree.

A field says what it accepts beside its type, `Annotated[int, Ge(1)]`, with the words of
annotated-types. Relations between fields stay with the dataclass that has them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Interval, Le, Lt


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one field accepts; a limit that it does not have is None."""

    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None

    def accept(self, value: float) -> bool:
        """Whether a number, which must not be nan, lies within."""
        return (
            (self.ge is None or value >= self.ge)
            and (self.gt is None or value > self.gt)
            and (self.le is None or value <= self.le)
            and (self.lt is None or value < self.lt)
        )


class OutOfRangeError(ValueError):
    """A setting has a value that its field does not accept; the message says which and why."""


def check_ranges(config: object, prefix: str = "") -> None:
    """Refuse numbers outside of the ranges that their fields declare, and such as are not finite.

    Args:
        config: a dataclass; those inside it are walked too, and anything else passes.
        prefix: put before every name, such as `replay.`.

    Raises:
        OutOfRangeError: with the full dotted name, what it must be, and the value.
    """
    kind: Any = type(config)  # mypy doubts that a type of dataclasses can be hashed.
    for name, hint in _hints(kind).items():
        value = getattr(config, name)
        if is_dataclass(value):
            check_ranges(value, f"{prefix}{name}.")
        elif isinstance(value, int | float):
            _check(f"{prefix}{name}", value, find_limits(hint))


def _check(name: str, value: float, limits: Limits) -> None:
    # First, because comparisons with a limit let nan through.
    if isinstance(value, float) and not math.isfinite(value):
        raise OutOfRangeError(f"{name} must be a finite number, got {value}")
    if not limits.accept(value):
        raise OutOfRangeError(f"{name} must {describe_limits(limits)}, got {value}")


@cache
def _hints(kind: type[Any]) -> dict[str, Any]:
    """Types of a dataclass's fields with what is annotated to them; empty for anything else."""
    if not is_dataclass(kind):
        return {}
    hints = get_type_hints(kind, include_extras=True)
    return {item.name: hints[item.name] for item in fields(kind)}


def find_limits(hint: Any) -> Limits:
    """The limits in a field's type; an alternative such as `| None` may stand around them."""
    found: dict[str, Any] = {}
    for mark in _marks(hint):
        for limit in mark if isinstance(mark, Interval) else (mark,):
            match limit:
                case Ge(bound):
                    found["ge"] = bound
                case Gt(bound):
                    found["gt"] = bound
                case Le(bound):
                    found["le"] = bound
                case Lt(bound):
                    found["lt"] = bound
    return Limits(**found)


def _marks(hint: Any) -> Iterator[Any]:
    if get_origin(hint) is Annotated:
        yield from hint.__metadata__
        yield from _marks(hint.__origin__)
    elif get_origin(hint) in (Union, UnionType):
        for alternative in get_args(hint):
            yield from _marks(alternative)


def describe_limits(limits: Limits) -> str:
    """What a value must do, for messages: "be at least 1"; empty where anything is accepted."""
    low, high = limits.ge, limits.le
    if limits.gt is not None:
        above = "positive" if limits.gt == 0 else f"above {_plain(limits.gt)}"
        return f"be {above}" + (f" and at most {_plain(high)}" if high is not None else "")
    if low is not None and limits.lt is not None:
        return f"lie in [{_plain(low)}, {_plain(limits.lt)})"
    if low is not None and high is not None:
        return f"lie between {_plain(low)} and {_plain(high)}"
    if high is not None:
        return f"be at most {_plain(high)}"
    if low is None:
        return ""
    return "not be negative" if low == 0 else f"be at least {_plain(low)}"


def _plain(bound: float) -> str:
    """The number in full if it is whole in the declaration: `:g` would round 65536."""
    return str(bound) if isinstance(bound, int) else f"{bound:g}"
