"""Shows moments of play in a terminal: half blocks in colour, two pixels for each character."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from rich.color import Color
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.style import Style
from rich.table import Table
from rich.text import Text

from games.actions import action_names
from games.spec import GameSpec
from views.play.playing import Moment

_UPPER_HALF = "\u2580"
_BAR = "\u2588"
_STYLES = ("yellow", "cyan")
_BAR_COLUMNS = 12


def watch(
    spec: GameSpec,
    names: Sequence[str],
    rounds: Iterable[Mapping[str, Moment]],
    *,
    steps_per_second: float,
) -> Mapping[str, Moment]:
    """Show what play_together() yields in this terminal; returns everybody's last moment.

    Raises:
        ValueError: standard output is no terminal.
    """
    console = Console()
    if not console.is_terminal:
        raise ValueError("there is no terminal to watch in; leave --watch away to write a film")
    moments: Mapping[str, Moment] = {}
    with Live(console=console, auto_refresh=False, screen=True) as live:
        due = time.monotonic()
        for moments in rounds:
            # The size is asked for every time, since the window may change it.
            size = {"columns": console.width, "rows": console.height}
            live.update(side_by_side(spec, names, moments, **size), refresh=True)
            # A terminal that is too slow may fall behind by a second, not for ever.
            due = max(due + 1.0 / steps_per_second, time.monotonic() - 1.0)
            time.sleep(max(0.0, due - time.monotonic()))
    return moments


def half_blocks(screen: NDArray[np.uint8], *, columns: int, rows: int) -> Text:
    """A screen [H, W, 3] as text of at most so many columns and rows, in its proportions."""
    height, width, _ = screen.shape
    # A character is about twice as high as wide, and shows two pixels above each other.
    shrink = max(width / columns, height / (2 * rows), 1e-9)
    wide, high = max(1, round(width / shrink)), max(2, 2 * round(height / shrink / 2))
    pixels = screen[
        (np.arange(high) * height // high)[:, None], (np.arange(wide) * width // wide)[None]
    ]
    text = Text(no_wrap=True)
    for upper, lower in zip(pixels[0::2], pixels[1::2], strict=True):
        for one, other in zip(upper.tolist(), lower.tolist(), strict=True):
            text.append(
                _UPPER_HALF, Style(color=Color.from_rgb(*one), bgcolor=Color.from_rgb(*other))
            )
        text.append("\n")
    return text


def side_by_side(
    spec: GameSpec,
    names: Sequence[str],
    moments: Mapping[str, Moment],
    *,
    columns: int,
    rows: int,
) -> RenderableType:
    """Every player's screen, and below it what all networks think."""
    grid = Table.grid(padding=(0, 1))
    width = columns // max(1, len(moments)) - 1
    height = max(6, rows - len(spec.legal_actions) - 3)
    grid.add_row(
        *(
            Group(
                Text(
                    f"{player}: score {moment.score:g}, step {moment.step}",
                    style=_STYLES[list(names).index(player) % len(_STYLES)],
                ),
                half_blocks(moment.screen, columns=width, rows=height),
                _policies(spec, names, moment),
            )
            for player, moment in moments.items()
        )
    )
    return grid


def _policies(spec: GameSpec, names: Sequence[str], moment: Moment) -> Table:
    labels = action_names(spec)
    table = Table.grid(padding=(0, 1))
    for action in spec.legal_actions:
        mark = ">" if action == moment.action else " "
        cells = [Text(f"{mark}{labels[action]}")]
        for index, name in enumerate(names):
            share = float(moment.policies[name][action]) if name in moment.policies else 0.0
            bar = _BAR * round(share * _BAR_COLUMNS)
            cells.append(Text(bar.ljust(_BAR_COLUMNS), style=_STYLES[index % len(_STYLES)]))
        table.add_row(*cells)
    return table
