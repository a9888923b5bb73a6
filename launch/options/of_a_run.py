"""What the commands that look at one run share: RUN, --redis-url, --timeout-s, and how they err."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence


def run_parser(prog: str, description: str) -> argparse.ArgumentParser:
    """A parser that takes the folder of a run first."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description=description,
        exit_on_error=False,
        allow_abbrev=False,
    )
    parser.add_argument("run", nargs="?", metavar="RUN", help="folder of the run")
    return parser


def add_redis_url(parser: argparse.ArgumentParser) -> None:
    """Where to find the run from another machine."""
    parser.add_argument(
        "--redis-url", default="", help="of the run's Redis; without, as the run's folder says"
    )


def add_timeout(parser: argparse.ArgumentParser, *, default_s: float, of: str) -> None:
    """`--timeout-s`, the longest wait for something."""
    parser.add_argument(
        "--timeout-s",
        type=_positive_seconds,
        default=default_s,
        help=f"longest wait for {of} ({default_s:g})",
    )


def _positive_seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"must be a positive number of seconds, got {text!r}")
    return seconds


def parse_run_options(parser: argparse.ArgumentParser, argv: Sequence[str]) -> argparse.Namespace:
    """What was given; ValueError with one line for a mistake."""
    hint = f"see {parser.prog} --help"
    try:
        options, unknown = parser.parse_known_intermixed_args(list(argv))
    except argparse.ArgumentError as error:
        raise ValueError(f"{error}; {hint}") from None
    if options.run is None:
        raise ValueError(f"name the folder of a run, such as runs/latest; {hint}")
    if unknown:
        raise ValueError(f"unrecognized options: {' '.join(unknown)}; {hint}")
    return options
