"""Takes fields out of a JSON object that a stranger wrote, each checked, with clear refusals.

    reader = FieldReader(document, source="pong.json", prefix="", known=frozenset({"game"}))
    game = reader.take("game", as_text)

A parser is a function from any value to a checked one that raises `Unsuitable`, saying what the
value should have been; the reader adds the names of file and field.
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import TypeVar, cast

from teachers.printable import is_obeyed, one_line

T = TypeVar("T")

_DATE = r"[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}[0-9:.Z+-]*)?"


class FieldReader:
    """Takes checked fields out of one JSON object."""

    def __init__(self, document: object, source: str, prefix: str, known: frozenset[str]) -> None:
        """Refuse what is no object, or has other fields.

        Args:
            document: what `json.loads` gave.
            source: file name for messages.
            prefix: of the fields' names in messages, like "architecture.".
            known: names of all fields.
        """
        self._source = source
        self._prefix = prefix
        if not isinstance(document, Mapping):
            where = f"field {prefix.removesuffix('.')!r}" if prefix else "the card"
            raise ValueError(f"{source}: {where} must be an object with the fields {sorted(known)}")
        unknown = sorted(map(str, set(document) - known))
        if unknown:
            raise ValueError(
                f"{source}: unknown field {prefix + unknown[0][:100]!r}; "
                f"known: {', '.join(sorted(known))}"
            )
        self._document = cast("Mapping[str, object]", document)

    def take(self, name: str, parse: Callable[[object], T]) -> T:
        """The field as `parse` gives it; ValueError if it is missing or unsuitable."""
        if name not in self._document:
            raise ValueError(f"{self._source}: field {self._prefix + name!r} is missing")
        value = self._document[name]
        try:
            return parse(value)
        except Unsuitable as error:
            raise ValueError(
                f"{self._source}: field {self._prefix + name!r} must be {error}, not "
                + one_line(repr(value), max_chars=200)
            ) from None

    def maybe(self, name: str, parse: Callable[[object], T]) -> T | None:
        """The same; None if it is missing or null."""
        return None if self._document.get(name) is None else self.take(name, parse)


class Unsuitable(Exception):
    """Says what a value should have been."""


def as_is(value: object) -> object:
    """Whatever it is."""
    return value


def as_text(value: object) -> str:
    """Not empty, and without anything that a terminal would obey."""
    if not isinstance(value, str) or not value.strip():
        raise Unsuitable("a text that is not empty")
    # Cards come from strangers and are printed.
    if any(is_obeyed(char) for char in value if char not in "\n\t"):
        raise Unsuitable("a text without control characters")
    return value


def as_boolean(value: object) -> bool:
    """True or false, not 0 or 1."""
    if not isinstance(value, bool):
        raise Unsuitable("true or false")
    return value


def as_integer(value: object) -> int:
    """A whole number, not true or false."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise Unsuitable("an integer")
    return value


def as_natural(value: object) -> int:
    """0 or more."""
    if (number := as_integer(value)) < 0:
        raise Unsuitable("an integer of at least 0")
    return number


def as_positive(value: object) -> int:
    """1 or more."""
    if (number := as_integer(value)) < 1:
        raise Unsuitable("an integer of at least 1")
    return number


def as_number(value: object) -> float:
    """Finite."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Unsuitable("a finite number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    # Python reads and writes NaN and Infinity in JSON; other programs do not.
    if not math.isfinite(number):
        raise Unsuitable("a finite number")
    return number


def as_not_negative(value: object) -> float:
    """Finite, 0 or more."""
    if (number := as_number(value)) < 0:
        raise Unsuitable("a number of at least 0")
    return number


def as_share(value: object) -> float:
    """From 0 to 1."""
    if not 0 <= (number := as_number(value)) <= 1:
        raise Unsuitable("a number from 0 to 1")
    return number


def as_list(value: object) -> list[object]:
    """A list or tuple."""
    if not isinstance(value, list | tuple):
        raise Unsuitable("a list")
    return list(value)


def as_shape(value: object) -> tuple[int, int, int]:
    """[channels, height, width]."""
    try:
        channels, height, width = map(as_positive, as_list(value))
    except (ValueError, Unsuitable):
        raise Unsuitable("three positive integers [channels, height, width]") from None
    return channels, height, width


def as_sha256(value: object) -> str:
    """64 hexadecimal digits."""
    if not isinstance(value, str) or not re.fullmatch(r"[0-9a-f]{64}", value):
        raise Unsuitable("64 lower-case hexadecimal digits")
    return value


def as_date(value: object) -> str:
    """ISO 8601, with or without a time."""
    if not isinstance(value, str) or not re.fullmatch(_DATE, value):
        raise Unsuitable("a date like '2026-01-31' or '2026-01-31T12:00:00Z'")
    return value
