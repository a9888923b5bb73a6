"""Settings of single games, written as a list of `game=value`: parsed and checked here only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

Value = TypeVar("Value")


def parse_per_game(
    option: str,
    entries: Sequence[str],
    games: Sequence[str],
    *,
    default: Value,
    convert: Callable[[str], Value],
) -> dict[str, Value]:
    """One value for every game.

    Args:
        option: its name, for messages.
        entries: `pong=2`; or a bare `2`, which is for all games not named.
        games: of the run.
        default: for games that no entry covers.
        convert: from text; its ValueError is reported with the entry.

    Raises:
        ValueError: unknown game, a game named twice, or a value that `convert` refuses.
    """
    values: dict[str, Value] = {}
    for entry in entries:
        game, separator, text = entry.rpartition("=")
        if not separator:
            default = _converted(option, entry, text, convert)
            continue
        _check_game(option, entry, game, games)
        if game in values:
            raise ValueError(f"{option}: {game!r} is given twice")
        values[game] = _converted(option, entry, text, convert)
    return {game: values.get(game, default) for game in games}


def parse_lists_per_game(
    option: str, entries: Sequence[str], games: Sequence[str], *, convert: Callable[[str], Value]
) -> dict[str, tuple[Value, ...]]:
    """The values of every game: of its entries, in their order, else of the bare ones.

    Args:
        option: its name, for messages.
        entries: `pong=2 pong=3`; or a bare `2`, which is for all games not named.
        games: of the run.
        convert: from text; its ValueError is reported with the entry.

    Raises:
        ValueError: unknown game, an entry given twice, or a value that `convert` refuses.
    """
    if twice := [entry for number, entry in enumerate(entries) if entry in entries[:number]]:
        raise ValueError(f"{option}: {twice[0]!r} is given twice")
    values: dict[str, list[Value]] = {}
    for entry in entries:
        game, separator, text = entry.rpartition("=")
        if separator:
            _check_game(option, entry, game, games)
        values.setdefault(game, []).append(_converted(option, entry, text, convert))
    return {game: tuple(values.get(game, values.get("", ()))) for game in games}


def _check_game(option: str, entry: str, game: str, games: Sequence[str]) -> None:
    if game not in games:
        raise ValueError(
            f"{option}: {entry!r} names a game that is not in this run ({', '.join(games)})"
        )


def _converted(option: str, entry: str, text: str, convert: Callable[[str], Value]) -> Value:
    try:
        return convert(text)
    except ValueError as error:
        raise ValueError(f"{option}: {entry!r} has a bad value ({error})") from None


def positive_float(text: str) -> float:
    """A number above 0."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError(f"must be a positive number, not {text}")
    return value


def listed(convert: Callable[[str], Value]) -> Callable[[str], tuple[Value, ...]]:
    """A conversion of several values with commas between them."""
    return lambda text: tuple(convert(part) for part in text.split(","))


def number_from_zero(text: str) -> float:
    """A number that is not negative."""
    value = float(text)
    if not 0 <= value < float("inf"):
        raise ValueError(f"must be a number that is not negative, not {text}")
    return value


def positive_int(text: str) -> int:
    """A whole number above 0."""
    value = int(text)
    if value < 1:
        raise ValueError(f"must be a whole number above 0, not {text}")
    return value


def any_text(text: str) -> str:
    """Text that is not empty."""
    if not text:
        raise ValueError("must not be empty")
    return text
