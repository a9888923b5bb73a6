"""Tables in plain text that appear row by row, so that long work shows what it has so far."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

_GAP = "  "


class Columns:
    """Columns of known widths; the first is left-aligned, the others are right-aligned."""

    def __init__(self, widths: Mapping[str, int]) -> None:
        """Each column is as wide as said, or as its heading."""
        self._headings = tuple(widths)
        self._widths = [max(width, len(heading)) for heading, width in widths.items()]

    @property
    def head(self) -> str:
        """The line of headings."""
        return self.row(self._headings)

    def row(self, cells: Sequence[str]) -> str:
        """One line; a cell that is too long moves the rest of its line."""
        first, *others = zip(cells, self._widths, strict=True)
        texts = [first[0].ljust(first[1]), *(text.rjust(width) for text, width in others)]
        return _GAP.join(texts).rstrip()


def table_lines(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a table whose rows are all known, each column as wide as its widest cell."""
    known = list(rows)
    widest = [max(map(len, cells)) for cells in zip(headings, *known, strict=True)]
    columns = Columns(dict(zip(headings, widest, strict=True)))
    return [columns.head, *map(columns.row, known)]
