"""What has been measured of a run so far, for curves: from metrics.jsonl as it grows, or Redis.

A page shows a few hundred points, whatever the length of the run: here are at most `max_rows` rows,
and a file that is too long to be read in a second is read at places spread evenly over it.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from records.newest import take_look
from records.run_record import Row, is_test_row, parse_row

# Points of a curve; more cannot be told apart on a screen.
NUM_POINTS = 240

_READ_WHOLE_BYTES = 16 << 20
_NUM_SAMPLES = 800
_TAIL_BYTES = 256 << 10
_TEST_KEY = b'"test/'


class History:
    """Rows of one run, oldest first; what a resumed run did again counts once."""

    def __init__(self, path: Path, *, max_rows: int = 4_000) -> None:
        """Prepare to read; nothing is read yet."""
        self._path = path
        self._max_rows = max_rows
        self._offset = 0
        # Rows with the figures of the run, as the launcher looked at it.
        self.looks: list[Row] = []
        # Rows with the results of tests, and of teachers that were tried.
        self.tests: list[Row] = []
        # The newest value of every key; rates only as of the last look.
        self.latest: Row = {}

    @property
    def seconds(self) -> float:
        """Time of the newest look since the run began; -inf where there is none."""
        return self.looks[-1].get("seconds", -math.inf) if self.looks else -math.inf

    def read_file(self) -> None:
        """Take in what has been written since the last time."""
        try:
            size = self._path.stat().st_size
        except OSError:
            return
        if size < self._offset:  # Another file: begin again.
            self._offset, self.looks, self.tests, self.latest = 0, [], [], {}
        if size == self._offset:
            return
        if size - self._offset > _READ_WHOLE_BYTES:
            self.add(_sample(self._path, self._offset, size - _TAIL_BYTES))
            self._offset = _line_after(self._path, size - _TAIL_BYTES)
        with self._path.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]  # What is being written now comes next time.
        self._offset += len(whole)
        self.add(row for line in whole.splitlines() if (row := parse_row(line)) is not None)

    def add(self, rows: Iterable[Row]) -> None:
        """Append rows, oldest first; one that goes back in time replaces what came after it."""
        for row in rows:
            is_test = is_test_row(row)
            seconds = row.get("seconds")
            if seconds is not None:
                _drop_after(self.looks, seconds)
                _drop_after(self.tests, seconds)
            (self.tests if is_test else self.looks).append(row)
            if is_test:
                # It may be of older weights, so how far the run is, its looks alone say.
                self.latest |= {k: v for k, v in row.items() if "/" in k}
            else:
                take_look(self.latest, row)
        # Every second row of the older half goes, so the newest stay close together.
        while len(self.looks) > self._max_rows:
            half = len(self.looks) // 2
            self.looks[:half] = self.looks[:half:2]

    def curves(self, keys: Sequence[str], *, num_points: int = NUM_POINTS) -> dict[str, Any]:
        """Columns of numbers: `seconds`, `steps`, and each key, None where there is no value.

        A point is the mean of the rows that it stands for.
        """
        names = ["seconds", "steps", *keys]
        groups = list(_groups(self.looks, num_points))
        return {name: [_mean(group, name) for group in groups] for name in names}


def _groups(rows: Sequence[Row], count: int) -> Iterator[Sequence[Row]]:
    count = min(count, len(rows))
    for k in range(count):
        yield rows[k * len(rows) // count : (k + 1) * len(rows) // count]


def _mean(rows: Sequence[Row], key: str) -> float | None:
    values = [row[key] for row in rows if key in row]
    return float(f"{sum(values) / len(values):.5g}") if values else None


def _drop_after(rows: list[Row], seconds: float) -> None:
    while rows and rows[-1].get("seconds", -math.inf) > seconds:
        rows.pop()


def _sample(path: Path, start: int, end: int) -> list[Row]:
    """Lines spread evenly over a part of a file, and all lines of tests in it, in their order."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        places = {
            text.find(b"\n", start + k * (end - start) // _NUM_SAMPLES) + 1
            for k in range(_NUM_SAMPLES)
        }
        found = text.find(_TEST_KEY, start, end)
        while found >= 0:
            places.add(text.rfind(b"\n", 0, found) + 1)
            after = text.find(b"\n", found)
            found = text.find(_TEST_KEY, after, end) if after >= 0 else -1
        lines = [text[at : text.find(b"\n", at)] for at in sorted(places)]
    return [row for line in lines if (row := parse_row(line)) is not None]


def _line_after(path: Path, offset: int) -> int:
    with path.open("rb") as file:
        file.seek(offset)
        return offset + len(file.readline())
