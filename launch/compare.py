#!/usr/bin/env python
"""Compare runs at the terminal: settings that differ, scores with intervals, speed.

    python launch/compare.py runs/one runs/two
    python launch/compare.py runs/tau*_seed* --csv > runs.csv

Runs that differ in nothing but their seed are taken together. `report.py RUN RUN ...` draws the
same runs' curves on a page.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro

from launch.options.command_line import parse_options
from launch.options.exit_status import run_command
from views.words import for_reader


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareOptions:
    """Compare runs at the terminal."""

    runs: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folders of runs, finished or not."""
    json: bool = False
    """Write JSON instead: an object for each group of runs."""
    csv: bool = False
    """Write CSV instead: a row for each group of runs and game."""

    def __post_init__(self) -> None:
        """Refuse a call with nothing to compare, or with two forms of output."""
        if not self.runs:
            raise ValueError("no run is named; for example: compare.py runs/one runs/two")
        if self.json and self.csv:
            raise ValueError("json and csv are two forms of the same output; choose one")


def main(argv: Sequence[str], *, prog: str = "compare.py") -> None:
    """Read the runs and print what they came to."""
    options = parse_options(CompareOptions, argv, prog=prog, doc=__doc__)
    # Not above: help, or a mistake in the options, is told without.
    from views.report.comparing import as_csv, as_lines, compare_runs

    found = compare_runs(options.runs)
    if options.json:
        print(json.dumps(found, indent=2))
    elif options.csv:
        print(as_csv(found), end="")
    else:
        print(for_reader("\n".join(as_lines(found)), sys.stdout))


if __name__ == "__main__":
    run_command(main)
