"""Makes texts of strangers fit for a terminal and for one line."""

import unicodedata

_DIRECTIONS = frozenset({"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"})


def is_obeyed(char: str) -> bool:
    """Whether a terminal does something for a character instead of showing it.

    Control characters, halves of characters, and those that turn the direction of writing, by
    which a text can show other letters than it has.
    """
    if unicodedata.category(char) in ("Cc", "Cs"):
        return True
    return unicodedata.bidirectional(char) in _DIRECTIONS


def one_line(text: object, *, max_chars: int = 1000) -> str:
    """The text with escapes for whatever a terminal would obey, cut where it is very long."""
    whole = str(text)
    shown = "".join(ascii(c)[1:-1] if is_obeyed(c) else c for c in whole[:max_chars])
    return shown if len(whole) <= max_chars else f"{shown}..."
