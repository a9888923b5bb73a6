"""Draws moments of play: screens side by side, with the probabilities of all networks below.

There is one bar for each network and legal action; the action that is played has a mark. Every
network has a colour and, for those who do not see it, a fixed place: the upper bar of an action is
the first network's, the lower one the second's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from games.actions import action_names
from games.spec import GameSpec
from views.play.playing import Moment

# Colours of the first and the second network (Okabe and Ito 2008), apart for the colour-blind.
COLOURS = ((230, 159, 0), (86, 180, 233))

_BACKGROUND = (17, 17, 17)
_TEXT = (238, 238, 238)
_TRACK = (51, 51, 51)
_MIN_WIDTH = 160


class Painter:
    """Draws one game's moments, all of one size."""

    def __init__(self, spec: GameSpec, names: Sequence[str], *, scale: int = 1) -> None:
        """Prepare to draw."""
        self._names = tuple(names)
        self._actions = spec.legal_actions
        self._labels = [action_names(spec)[action] for action in spec.legal_actions]
        self._scale = scale
        self._row = 9 * scale
        self._gap = 4 * scale
        self._font = _font(8 * scale)

    def draw(self, moments: Mapping[str, Moment]) -> Image.Image:
        """One picture with what every player meets now, side by side."""
        panels = [self._panel(name, moment) for name, moment in moments.items()]
        width = sum(panel.width for panel in panels) + self._gap * (len(panels) + 1)
        height = max(panel.height for panel in panels) + 2 * self._gap
        # Even sizes: video encoders insist.
        picture = Image.new("RGB", (width + width % 2, height + height % 2), _BACKGROUND)
        left = self._gap
        for panel in panels:
            picture.paste(panel, (left, self._gap))
            left += panel.width + self._gap
        return picture

    def _panel(self, player: str, moment: Moment) -> Image.Image:
        screen = enlarge(moment.screen, min_width=_MIN_WIDTH * self._scale)
        head = 12 * self._scale
        bars = self._row * len(self._actions) + self._gap
        panel = Image.new("RGB", (screen.width, head + screen.height + bars), _BACKGROUND)
        draw = ImageDraw.Draw(panel)
        colour = COLOURS[self._names.index(player) % len(COLOURS)]
        draw.text((0, 0), f"{player}  score {moment.score:g}", fill=colour, font=self._font)
        draw.text(
            (screen.width, 0), f"step {moment.step}", fill=_TEXT, font=self._font, anchor="ra"
        )
        panel.paste(screen, (0, head))
        top = head + screen.height + self._gap
        for action, label in zip(self._actions, self._labels, strict=True):
            self._bars(draw, top, action, label, moment)
            top += self._row
        return panel

    def _bars(
        self, draw: ImageDraw.ImageDraw, top: int, action: int, label: str, moment: Moment
    ) -> None:
        """Draw one action: its name, a mark if it is played, and a bar for each network."""
        scale = self._scale
        if action == moment.action:
            middle = top + self._row // 2 - scale
            draw.polygon(
                [(0, middle - 3 * scale), (5 * scale, middle), (0, middle + 3 * scale)], fill=_TEXT
            )
        draw.text((8 * scale, top - 2 * scale), label, fill=_TEXT, font=self._font)
        left, right = 74 * scale, (_MIN_WIDTH - 1) * scale
        thickness = max(1, (self._row - 2 * scale) // max(1, len(self._names)))
        for index, name in enumerate(self._names):
            y = top + index * thickness
            draw.rectangle((left, y, right, y + thickness - 2), fill=_TRACK)
            share = float(moment.policies[name][action]) if name in moment.policies else 0.0
            end = left + round(share * (right - left))
            if share > 0:
                draw.rectangle(
                    (left, y, end, y + thickness - 2), fill=COLOURS[index % len(COLOURS)]
                )


def enlarge(screen: NDArray[np.uint8], *, min_width: int) -> Image.Image:
    """A screen [H, W, 3] enlarged by the least whole number that makes it `min_width` wide."""
    height, width, _ = screen.shape
    factor = max(1, -(-min_width // width))
    image = Image.fromarray(np.ascontiguousarray(screen))
    return image.resize((width * factor, height * factor), Image.Resampling.NEAREST)


@lru_cache(maxsize=8)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
