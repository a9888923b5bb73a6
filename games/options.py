"""Options of a family of games, written behind a game's name: doom_basic@skip=8,size=42."""

from __future__ import annotations

import re
from collections.abc import Mapping


def parse_options(
    settings: str, defaults: Mapping[str, int], *, max_digits: int
) -> dict[str, int] | None:
    """All options, those that `settings` does not name as in `defaults`.

    Args:
        settings: `name=number,...`, what stands behind the `@`; may be empty.
        defaults: every option that there is.
        max_digits: of a number.

    Returns:
        None if `settings` is not of the form, or names an option twice or one that there is not.
    """
    pairs = dict(re.findall(rf"(\w+)=(\d{{1,{max_digits}}})", settings))
    if settings != ",".join(map("=".join, pairs.items())) or not pairs.keys() <= defaults.keys():
        return None
    return {**defaults, **{name: int(value) for name, value in pairs.items()}}


def suffix_of(options: Mapping[str, int], defaults: Mapping[str, int]) -> str:
    """What tells a game's own name from those with other options: _skip8_size42."""
    return "".join(f"_{name}{v}" for name, v in options.items() if v != defaults[name])
