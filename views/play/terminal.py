"""Shows moments of play in a terminal: half blocks in colour, two pixels for each character."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from rich.color import Color
from rich.console import Group, RenderableType
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
    """Every player's screen, and what all networks think of it.

    Args:
        spec: the game.
        names: of the networks, in the order of their bars.
        moments: by player.
        columns: of the terminal.
        rows: of the terminal.
    """
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
