"""Pieces of a page: escaped text, tables with headers, pictures inside the page."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from html import escape

__all__ = ["data_url", "escape", "figure", "picture", "section", "table"]


def section(name: str, title: str, *parts: str) -> str:
    """A part of the page with a heading; `parts` are HTML, empty ones are left out."""
    body = "\n".join(part for part in parts if part)
    return (
        f'<section id="{name}" aria-labelledby="{name}-title">\n'
        f'<h2 id="{name}-title">{escape(title)}</h2>\n{body}\n</section>'
    )


def table(
    caption: str,
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    groups: Sequence[tuple[str, int]] = (),
    is_words: bool = False,
) -> str:
    """A table that scrolls by itself where the screen is narrow; all texts are escaped.

    Args:
        caption: what it shows.
        head: one heading for each column; the first column heads the rows.
        rows: of as many cells.
        groups: headings above the headings, with the number of columns of each.
        is_words: cells hold words, not numbers.
    """
    name = f"t{zlib.crc32(repr((caption, rows)).encode()):x}"
    lines = [
        # Not a <caption>, which would be as wide as the table and scroll out of sight with it.
        f'<p class="caption" id="{name}">{escape(caption)}</p>',
        f'<div class="scroll" tabindex="0" role="region" aria-labelledby="{name}">',
        f'<table{_class("words" if is_words else "")} aria-labelledby="{name}">',
        "<thead>",
    ]
    if groups:
        cells = "".join(
            f'<th scope="colgroup" colspan="{span}">{escape(text)}</th>' if text else "<td></td>"
            for text, span in groups
        )
        lines.append(f"<tr>{cells}</tr>")
    cells = "".join(f'<th scope="col">{escape(text)}</th>' for text in head)
    lines += [f"<tr>{cells}</tr>", "</thead>", "<tbody>"]
    for first, *others in rows:
        cells = "".join(f"<td>{_cell(text)}</td>" for text in others)
        lines.append(f'<tr><th scope="row">{escape(first)}</th>{cells}</tr>')
    return "\n".join([*lines, "</tbody>", "</table>", "</div>"])


def _cell(text: str) -> str:
    """Escaped; an interval in brackets goes below its value, or tables get too wide."""
    value, bracket, interval = text.partition(" [")
    if not bracket:
        return escape(text)
    return f"{escape(value)}<br><small>[{escape(interval)}</small>"


def figure(content: str, caption: str = "", *, kind: str = "") -> str:
    """A framed picture; `content` is HTML, the caption is text."""
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f"<figure{_class(kind)}>{content}{below}</figure>"


def picture(
    image: str, alt: str, *, size: tuple[int, int], instead: Sequence[tuple[str, str]] = ()
) -> str:
    """An image that the reader's settings may replace.

    Args:
        image: data URL.
        alt: for those who do not see it.
        size: width and height, so that the page does not jump while it loads.
        instead: (media query, data URL), the first that fits wins.
    """
    sources = "".join(f'<source media="{media}" srcset="{url}">' for media, url in instead)
    width, height = size
    return (
        f'<picture>{sources}<img src="{image}" alt="{escape(alt)}" width="{width}" '
        f'height="{height}"></picture>'
    )


def data_url(data: bytes, kind: str) -> str:
    """An image inside the page, "image/png" for example."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _class(name: str) -> str:
    return f' class="{name}"' if name else ""
