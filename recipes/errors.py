"""Turns the option parser's message boxes into a ValueError of one line."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable
from typing import TypeVar

from recipes.ranges import OutOfRangeError, check_ranges

Parsed = TypeVar("Parsed")


def parse_words(parse: Callable[[], Parsed], *, prog: str) -> Parsed:
    """What `parse` gives, with every number in its range.

    Args:
        parse: calls tyro; with --help it ends the program with status 0.
        prog: the program whose --help the message points to; empty for none.

    Raises:
        ValueError: the parser's complaint, or that of a range, in one line.
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
    raise ValueError(f"{complaint}; see {prog} --help" if prog else complaint)


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
