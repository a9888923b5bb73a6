"""Turns the option parser's message boxes into the one line that every mistake of a user gets."""

from __future__ import annotations

import contextlib
import io
import re
import sys
from collections.abc import Callable
from typing import TypeVar

from recipes.ranges import OutOfRangeError, check_ranges

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
            parsed = parse()
        check_ranges(parsed)
        return parsed
    except SystemExit as end:
        if end.code in (0, None):
            raise
        complaint = summarize_box(captured.getvalue())
    except OutOfRangeError as error:
        complaint = str(error)
    print(f"error: {complaint}; see {prog} --help", file=sys.stderr)
    raise SystemExit(2)


def summarize_box(text: str) -> str:
    """The first paragraph of a message box, and the first option it proposes, on one line.

    Where the terminal has no box characters, the title stands in a paragraph of its own.
    """
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    paragraphs: list[list[str]] = [[]]
    for line in plain.splitlines():
        words = line.strip("\u2502 \t")
        if words and set(words) <= {"\u2500", "-"}:
            paragraphs.append([])
        elif words and words[0] not in "\u256d\u2570":
            paragraphs[-1].append(words)
    has_box = "\u256d" in plain
    message = " ".join(paragraphs[0 if has_box or len(paragraphs) == 1 else 1])
    sentence = re.sub(r"^Error parsing \w+: ", "", message).rstrip(".")
    if missing := re.match(r"Missing from [^:]+: (\S+) (.*?) \(required\)", sentence):
        sentence = f"{missing[1]} is missing: {missing[2].rstrip('.')}"
    proposed = re.search(
        r"Perhaps you meant:\s+(--[\w.-]+)", " ".join([w for words in paragraphs for w in words])
    )
    return f"{sentence}; perhaps you meant {proposed[1]}" if proposed else sentence
