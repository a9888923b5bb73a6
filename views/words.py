"""Figures as people read them: the one place that says how a number becomes text.

Everything here is ASCII, so that log files and CSV files stay so. Places that know that their
reader has more, a terminal or an HTML page, replace PLUS_MINUS by the sign itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from records.run_statistics import Estimate

# Stands where a figure does not exist.
NONE = "-"
PLUS_MINUS = "+-"
_PLUS_MINUS_SIGN = "\u00b1"


def number(value: float | None, digits: int = 0) -> str:
    """A figure with thousands separated, 12,345."""
    return NONE if value is None else f"{value:,.{digits}f}"


def rate(value: float | None) -> str:
    """A figure per second; of a small one two decimals at most, since 0 would mean standstill."""
    if value is None:
        return NONE
    return number(value, 0 if value == 0 or value >= 10 else 1 if value >= 1 else 2)


def score(value: float | None) -> str:
    """A game's score: whole from 1,000 on, one decimal below, two below 1."""
    return NONE if value is None else number(value, _score_digits(value))


def spread(mean: float | None, std: float | None) -> str:
    """A mean score over episodes and, in as many decimals, their standard deviation if known."""
    if mean is None or std is None:
        return score(mean)
    return f"{score(mean)} {PLUS_MINUS} {number(std, _score_digits(mean))}"


def _score_digits(value: float) -> int:
    size = abs(value)
    if size >= 1000:
        return 0
    return 2 if 0 < size < 1 else 1


def percent(value: float | None) -> str:
    """A share of 1 in whole percent."""
    # Rounding first: a small negative share would be written as -0%.
    return NONE if value is None else f"{round(100 * value) + 0:,}%"


def estimated(found: Estimate | None, words: Callable[[float], str]) -> str:
    """A value over runs in these words, with its interval in brackets where there is one."""
    if found is None:
        return NONE
    if found.low is None or found.high is None:
        return words(found.value)
    return f"{words(found.value)} [{words(found.low)}, {words(found.high)}]"


def duration(seconds: float) -> str:
    """Hours, minutes and seconds, 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def plural(count: int, word: str) -> str:
    """A count of things, "2 runs" or "1 run"."""
    return f"{count:,} {word}" if count == 1 else f"{count:,} {word}s"


def with_signs(text: str) -> str:
    """The text with the plus-minus sign, for readers whose screen is known to have it."""
    return text.replace(PLUS_MINUS, _PLUS_MINUS_SIGN)


def for_reader(text: str, file: TextIO) -> str:
    """The text as `file` takes it: with signs on a terminal that knows them, in ASCII elsewhere."""
    try:
        _PLUS_MINUS_SIGN.encode(file.encoding or "ascii")
        return with_signs(text) if file.isatty() else text
    # A file may be closed or have no encoding, and "utf-9" is none.
    except (AttributeError, LookupError, OSError, ValueError):
        return text
