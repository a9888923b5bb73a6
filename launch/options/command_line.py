"""Reads a command's options with tyro: one style of help and of refusals for all commands.

Imports nothing that is slow, and no command imports more before its options are read: help must
be there at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar, overload

import tyro

from recipes.errors import parse_words

Options = TypeVar("Options")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What every command has that looks at one run."""

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of the run, such as runs/latest."""
    redis_url: str = ""
    """Address of the run's Redis; without it, what the run's folder or ACTOR_MIMIC_REDIS_URL
    says."""


@overload
def parse_options(
    kind: type[Options], argv: Sequence[str], *, prog: str, doc: str | None
) -> Options: ...


@overload
def parse_options(kind: Any, argv: Sequence[str], *, prog: str, doc: str | None) -> Any: ...


def parse_options(kind: Any, argv: Sequence[str], *, prog: str, doc: str | None) -> Any:
    """The options in `argv`; ends the program for --help, ValueError of one line for a mistake.

    Args:
        kind: a dataclass, or an annotated union of dataclasses for a command with subcommands.
        argv: words after the command's name.
        prog: the command's name, for help and messages.
        doc: the command's own first lines, with examples, which stand above the options.
    """
    style = (tyro.conf.FlagCreatePairsOff,)
    return parse_words(
        lambda: tyro.cli(kind, args=list(argv), prog=prog, description=doc, config=style),
        prog=prog,
    )


def parse_known_options(
    kind: type[Options], argv: Sequence[str], *, prog: str, doc: str | None
) -> tuple[Options, list[str]]:
    """The same for a command that hands on the words which are no options of its own."""
    unknown: list[str] = []

    def parse() -> Options:
        style = (tyro.conf.FlagCreatePairsOff,)
        options, others = tyro.cli(
            kind,
            args=list(argv),
            prog=prog,
            description=doc,
            config=style,
            return_unknown_args=True,
        )
        unknown.extend(others)
        return options

    return parse_words(parse, prog=prog), unknown
