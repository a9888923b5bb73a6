#!/usr/bin/env python
"""Write a report of one or several runs: one HTML page, and every figure as PNG and CSV beside it.

    python launch/report.py runs/latest                     writes runs/latest/report.html
    python launch/report.py runs/seed1 runs/seed2 runs/seed3 --out report.html

Runs that differ in nothing but their seed are taken together; other settings are compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro
from annotated_types import Interval

from launch.options.command_line import parse_options
from launch.options.exit_status import run_command
from views.report import FILM_STEPS


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportOptions:
    """Write a report of one or several runs."""

    runs: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folders of runs, finished or not."""
    out: str = ""
    """The page; without, report.html in the run's folder, or in this one for several runs."""
    film_steps: Annotated[int, Interval(ge=0, le=3000)] = FILM_STEPS
    """Steps of the films of expert and student in each game, of the first run; 0: no films."""

    def __post_init__(self) -> None:
        """Refuse a call without runs, and a page of another kind."""
        if not self.runs:
            raise ValueError("no run is named; for example: report.py runs/latest")
        if self.out and not self.out.endswith((".html", ".htm")):
            raise ValueError(f"out must end in .html, got {self.out!r}")


def main(argv: Sequence[str], *, prog: str = "report.py") -> None:
    """Write, and say where."""
    options = parse_options(ReportOptions, argv, prog=prog, doc=__doc__)
    # Not above: it brings torch, and help, or a mistake in the options, is told without.
    from views.report.writing import figures_folder, write_report

    page = write_report(options.runs, out=options.out or None, film_steps=options.film_steps)
    print(f"{page}: {page.stat().st_size / 1e6:.1f} MB; its figures are in {figures_folder(page)}")


if __name__ == "__main__":
    run_command(main)
