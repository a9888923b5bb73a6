"""Shows a run on the terminal: a live display, or one plain line per report where there is none.

Draws what the recorder measures (keys: docs/metrics.md) and computes nothing but the time left.
Whatever the terminal does, the run goes on: a display that fails gives way to plain lines.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TextIO

import rich.console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from recipes.config import RunConfig
from views.console_tables import (
    describe_test,
    games_table,
    rates,
    result_lines,
    result_table,
    under,
)
from views.words import duration, for_reader

# Columns of the final table where there is no terminal to ask.
_PLAIN_WIDTH = 100


class Console:
    """What a user sees of a run. `note` may be called from any thread, the rest from one."""

    def __init__(
        self,
        config: RunConfig,
        *,
        games: Sequence[str] | None = None,
        teachers: Mapping[str, float] | None = None,
        file: TextIO | None = None,
    ) -> None:
        """Prepare to show a run; nothing is shown yet.

        Args:
            config: configuration of the run.
            games: games that are shown; by default all of the run.
            teachers: mean scores on the teachers' cards, by game, as far as they are known.
            file: where it is shown; standard output by default.
        """
        self._teachers = dict(teachers or {})
        self._best: dict[str, float] = {}
        self._games = tuple(games or config.games)
        self._capacity = config.replay.capacity_per_game
        self._pace = _Pace(config.num_updates)
        self._file = file or sys.stdout
        is_terminal = _is_terminal(self._file)
        self._rich = (
            _RichConsole(file=self._file)
            if is_terminal
            else _RichConsole(file=self._file, force_terminal=False, width=_PLAIN_WIDTH)
        )
        self._is_live = is_terminal and self._rich.is_terminal and not self._rich.is_dumb_terminal
        self._live: Live | None = None
        self._tests_shown: dict[str, dict[str, float]] = {}

    def __enter__(self) -> Console:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def show(self, latest: Mapping[str, float]) -> None:
        """Show where the run stands; `latest` has the newest value of every key of the recorder."""
        self._pace.update(latest)
        for game in self._games:
            if (mean := latest.get(f"test/{game}/mean")) is not None:
                self._best[game] = max(mean, self._best.get(game, mean))
        self._safely(lambda: self._redraw(latest) if self._is_live else self._print_plain(latest))

    def note(self, text: str) -> None:
        """One line above the display."""
        self._safely(lambda: self._print_line(text))

    def warn(self, text: str) -> None:
        """One line above the display that must not be overlooked."""
        self._safely(lambda: self._print_line(f"warning: {text}", style="bold yellow"))

    def finish(self, summary: Mapping[str, Any]) -> None:
        """End the display and print the result, a summary of records/summary.py."""
        self.close()
        self._safely(lambda: self._rich.print(result_table(summary, write=self._write)))
        for line in result_lines(summary):
            self.note(line)

    def close(self) -> None:
        """Give the terminal back as it was; what was shown last stays on it."""
        live, self._live = self._live, None
        if live is not None:
            self._safely(live.stop)

    def _write(self, text: str) -> str:
        """The text with signs that are not ASCII, where this terminal has them."""
        return for_reader(text, self._file)

    def _safely(self, draw: Callable[[], None]) -> None:
        try:
            draw()
        # Anything at all: a terminal that went away must not end a training run.
        except Exception:
            self._is_live = False
            live, self._live = self._live, None
            if live is not None:
                with suppress(Exception):
                    live.stop()

    def _redraw(self, latest: Mapping[str, float]) -> None:
        picture = self._picture(latest)
        if self._live is None:
            self._live = Live(console=self._rich, auto_refresh=False)
            self._live.start()
        self._live.update(picture, refresh=True)

    def _print_line(self, text: str, *, style: str = "") -> None:
        if self._is_live:
            # As Text, since brackets in a note are not markup.
            self._rich.print(Text(self._write(text), style=style))
            return
        self._file.write(text + "\n")
        self._file.flush()

    def _print_plain(self, latest: Mapping[str, float]) -> None:
        self._print_line("  ".join([self._pace.updates_text, *rates(latest), self._pace.text]))
        for game in self._games:
            test = under(f"test/{game}/", latest)
            if test != self._tests_shown.get(game, {}):
                self._tests_shown[game] = test
                self._print_line(describe_test(game, latest))

    def _picture(self, latest: Mapping[str, float]) -> rich.console.Group:
        head = Table.grid(padding=(0, 2), expand=True)
        head.add_column(ratio=1)
        head.add_column(no_wrap=True)
        head.add_row(
            ProgressBar(total=self._pace.num_updates, completed=self._pace.updates),
            f"{self._pace.updates_text}  {self._pace.text}",
        )
        return rich.console.Group(
            head,
            Text("  ".join(rates(latest))),
            games_table(
                self._games,
                latest,
                capacity=self._capacity,
                teachers=self._teachers,
                best=self._best,
            ),
        )


class _RichConsole(rich.console.Console):
    """A rich console that goes silent when the reader of its pipe goes away.

    The original ends the program.
    """

    def on_broken_pipe(self) -> None:
        self.quiet = True


class _Pace:
    """How far a run is, and how long it still needs."""

    def __init__(self, num_updates: int) -> None:
        self.num_updates = num_updates
        self.updates = 0
        self._seconds = 0.0
        self._left_s: float | None = None

    def update(self, latest: Mapping[str, float]) -> None:
        self.updates = int(latest.get("updates", 0))
        self._seconds = latest.get("wall_seconds", 0.0)
        self._left_s = latest.get("seconds_left")

    @property
    def updates_text(self) -> str:
        share = self.updates / self.num_updates
        return f"{self.updates:,}/{self.num_updates:,} updates ({share:.0%})"

    @property
    def text(self) -> str:
        left = duration(self._left_s) if self._left_s is not None else "-"
        return f"{duration(self._seconds)}, {left} left"


def _is_terminal(file: TextIO) -> bool:
    """What rich believes can be forced by environment variables; a log file stays a file."""
    try:
        return file.isatty()
    except (AttributeError, ValueError, OSError):
        # There may be no standard output, or it is closed.
        return False
