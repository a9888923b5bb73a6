"""Renders the pages that are written as Jinja templates beside the code that fills them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jinja2

from views.words import estimated, number, percent, score, with_signs


def render(
    package: str,
    template: str,
    *,
    escape: bool = False,
    filters: dict[str, Callable[..., Any]] | None = None,
    **values: Any,
) -> str:
    """A template of a package with these values; figures in words are filters of all templates.

    With `escape` every value is escaped, so that nothing that a run wrote becomes markup.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(package, ""),
        autoescape=escape,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "estimated": estimated,
        "number": number,
        "percent": percent,
        "score": score,
        "with_signs": with_signs,
        **(filters or {}),
    }
    return environment.get_template(template).render(values)
