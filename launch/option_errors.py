"""Turns the option parser's message boxes into the one line that every mistake of a user gets."""

from __future__ import annotations

import contextlib
import io
import re
import sys
from collections.abc import Callable
from typing import TypeVar

Parsed = TypeVar("Parsed")


def parse_or_fail(parse: Callable[[], Parsed], *, prog: str) -> Parsed:
    """What `parse` gives; ends the program with status 2 and one line if it complains.

    Args:
        parse: calls tyro.
        prog: the program's name, for the line.
    """
    captured = io.StringIO()
    try:
        # Help goes to standard output and stays as it is; complaints go to standard error.
        with contextlib.redirect_stderr(captured):
            return parse()
    except SystemExit as end:
        if end.code in (0, None):
            raise
        print(f"error: {summarize_box(captured.getvalue())}; see {prog} --help", file=sys.stderr)
        raise SystemExit(2) from None


def summarize_box(text: str) -> str:
    """The first paragraph of a message box, and the first option it proposes, on one line."""
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).strip("\u2502| \t") for line in text.splitlines()]
    body = [line for line in lines if line and line[0] not in "\u256d\u2570"]
    message: list[str] = []
    for line in body:
        if set(line) <= {"\u2500", "-"}:
            break
        message.append(line)
    sentence = re.sub(r"^Error parsing \w+: ", "", " ".join(message)).rstrip(".")
    proposed = re.search(r"Perhaps you meant:\s+(--[\w.-]+)", " ".join(body))
    return f"{sentence}; perhaps you meant {proposed[1]}" if proposed else sentence
