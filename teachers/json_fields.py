"""Checks JSON that a stranger wrote against a dataclass, with one clear line for a mistake.

The types below say what a field accepts, in the words that a refusal uses; pydantic walks the
document, and `check_json` turns the first thing that it finds into a line with file and field.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Annotated, Any, TypeVar, get_args, get_type_hints

from pydantic import AfterValidator, ConfigDict, PlainValidator, Strict, TypeAdapter
from pydantic import ValidationError as PydanticError
from pydantic_core import ErrorDetails, PydanticCustomError

from teachers.printable import is_obeyed, one_line

T = TypeVar("T")

# Unknown fields are refused, and numbers that are not finite. A dataclass that is read by
# `check_json` has it as `__pydantic_config__`.
FORBID_EXTRA = ConfigDict(extra="forbid", allow_inf_nan=False)

_DATE = r"[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}[0-9:.Z+-]*)?"
# What a field must be, by pydantic's name of the mistake.
_WORDS = {
    "string_type": "a text that is not empty",
    "bool_type": "true or false",
    "int_type": "an integer",
    "float_type": "a finite number",
    "finite_number": "a finite number",
    "tuple_type": "a list",
}


def _accept(accepts: Callable[[Any], bool], words: str) -> AfterValidator:
    """A check whose refusal says that the value must be `words`."""

    def check(value: Any) -> Any:
        if not accepts(value):
            raise PydanticCustomError("unsuitable", "{words}", {"words": words})
        return value

    return AfterValidator(check)


def _is_plain(text: str) -> bool:
    return not any(is_obeyed(char) for char in text if char not in "\n\t")


def _shape(value: Any) -> tuple[int, ...]:
    sizes = tuple(value) if isinstance(value, list | tuple) else ()
    if len(sizes) == 3 and all(type(size) is int and size > 0 for size in sizes):
        return sizes
    words = "three positive integers [channels, height, width]"
    raise PydanticCustomError("unsuitable", "{words}", {"words": words})


def integer(low: int, high: int | None = None) -> AfterValidator:
    """A check of a whole number's range, limits included."""
    words = f"an integer of at least {low}" if high is None else f"an integer from {low} to {high}"
    return _accept(lambda value: low <= value and (high is None or value <= high), words)


Text = Annotated[
    str,
    Strict(),
    _accept(lambda text: bool(text.strip()), "a text that is not empty"),
    # Cards come from strangers and are printed.
    _accept(_is_plain, "a text without control characters"),
]
# Strict: 0 is not false, "18" is not 18, and true is not 1.
Boolean = Annotated[bool, Strict()]
Natural = Annotated[int, Strict(), integer(0)]
Positive = Annotated[int, Strict(), integer(1)]
Number = Annotated[float, Strict()]
NotNegative = Annotated[
    float, Strict(), _accept(lambda number: number >= 0, "a number of at least 0")
]
Share = Annotated[float, Strict(), _accept(lambda number: 0 <= number <= 1, "a number from 0 to 1")]
Shape = Annotated[tuple[int, int, int], PlainValidator(_shape)]
Sha256 = Annotated[
    str,
    Strict(),
    _accept(
        lambda text: re.fullmatch(r"[0-9a-f]{64}", text) is not None,
        "64 lower-case hexadecimal digits",
    ),
]
Date = Annotated[
    str,
    Strict(),
    _accept(
        lambda text: re.fullmatch(_DATE, text) is not None,
        "a date like '2026-01-31' or '2026-01-31T12:00:00Z'",
    ),
]


def check_json(kind: type[T], document: object, *, source: str, what: str = "the card") -> T:
    """Make a `kind` of what `json.loads` gave.

    Args:
        kind: a dataclass with the types above, and FORBID_EXTRA.
        document: from a stranger.
        source: name of its file, for the message.
        what: what the document as a whole is called.

    Raises:
        ValueError: a wrong, missing or unknown field; one line.
    """
    parsed_by: Any = kind  # mypy doubts that a type can be hashed.
    try:
        checked: T = _adapter(parsed_by).validate_python(document)
        return checked
    except PydanticError as error:
        # A field that is not known explains others that are missing.
        found = sorted(error.errors(), key=lambda one: one["type"] != "unexpected_keyword_argument")
    raise ValueError(f"{source}: {_describe(found[0], kind, what)}")


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _describe(error: ErrorDetails, kind: Any, what: str) -> str:
    name = one_line(_dotted(error["loc"]), max_chars=100)
    if error["type"] == "missing":
        return f"field {name!r} is missing"
    if error["type"] == "unexpected_keyword_argument":
        return f"unknown field {name!r}; known: {', '.join(_known(kind, error['loc'][:-1]))}"
    if error["type"] in ("dataclass_type", "dataclass_exact_type"):
        where = f"field {name!r}" if name else what
        return f"{where} must be an object with the fields {_known(kind, error['loc'])}"
    words = _WORDS.get(error["type"], error["msg"])
    if error["type"] == "literal_error":
        words = error["ctx"]["expected"]
    return f"field {name!r} must be {words}, not {one_line(repr(error['input']), max_chars=200)}"


def _dotted(location: Sequence[int | str]) -> str:
    """("scores", 0, "mean") as scores[0].mean."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)[1:]


def _known(kind: Any, location: Sequence[int | str]) -> list[str]:
    """Names of the fields of the dataclass at a place in the document."""
    for part in location:
        if isinstance(part, str):
            kind = _inner(get_type_hints(kind)[part])
    return sorted(field.name for field in fields(kind))


def _inner(hint: Any) -> Any:
    """The dataclass in `Preprocessing | None` or `tuple[ScoreRecord, ...]`."""
    return next((arg for arg in get_args(hint) if is_dataclass(arg)), hint)
