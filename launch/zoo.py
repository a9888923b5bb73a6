#!/usr/bin/env python
"""Teachers: bring them in from other libraries, look at them, and check that they really play.

    python launch/zoo.py import dqn-PongNoFrameskip-v4.zip --game pong
    python launch/zoo.py list
    python launch/zoo.py show teachers_imported/pong.safetensors
    python launch/zoo.py verify teachers_imported/pong.safetensors --episodes 20
    python launch/zoo.py query pong --observations obs.npy --out answers.npz
    python launch/zoo.py nearest breakout               which sources see it as its own teacher does

Wherever a FILE or a TEACHER is asked for, hf://OWNER/REPO[@REVISION][/PATH] will do as well.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeAlias

import tyro

from launch.options.command_line import parse_options
from launch.options.exit_status import run_command
from teachers.printable import one_line
from views.teachers.options import NearestOptions, VerifyOptions

_Teacher: TypeAlias = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="TEACHER")]

# Folder for imported teachers where none is named.
IMPORTED = "teachers_imported"

# What works on teachers brings torch, so each `run` imports it when the options have been read.


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """Read a checkpoint of another library and write it as a teacher of this project."""

    file: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """The checkpoint, or hf://OWNER/REPO[@REVISION][/PATH]."""
    game: str
    """Name of the game that it plays, such as pong."""
    format: str = ""
    """Format of the file; without it, found out from the content."""
    out: str = IMPORTED
    """Folder for GAME.safetensors and its card GAME.json."""
    overwrite: bool = False
    """Replace a teacher that is there already."""
    unsafe_pickle: bool = False
    """Read a file that is a pickle (Dopamine). What it may build is restricted to arrays, but do it
    only for files whose origin you trust."""

    def run(self) -> int:
        """Import, and say what was read and written; returns the exit status."""
        from teachers.formats import FORMATS
        from teachers.importing import import_teacher

        if self.format and self.format not in FORMATS:
            raise ValueError(f"unknown format {self.format!r}; choose one of {', '.join(FORMATS)}")
        print(
            import_teacher(
                self.file,
                game=self.game,
                format=self.format or None,
                folder=Path(self.out),
                overwrite=self.overwrite,
                unsafe_pickle=self.unsafe_pickle,
            )
        )
        return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class List:
    """Show the shipped teachers and those in some folders."""

    folders: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="DIR")] = ()
    """Searched with all folders in them; without, teachers_imported if it is there."""
    json: bool = False
    """Print one JSON list instead of a table."""

    def run(self) -> int:
        """Print the list; returns the exit status."""
        from views.teachers.cards import collect_teachers, print_list

        default = (IMPORTED,) if Path(IMPORTED).is_dir() else ()
        folders = [Path(name) for name in self.folders or default]
        print_list(collect_teachers(folders), as_json=self.json)
        return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Show:
    """Show a teacher's card, after checking it and its weights."""

    teacher: _Teacher
    """Name of a game whose expert is shipped, a GAME.safetensors file, or hf://..."""
    json: bool = False
    """Print the card as JSON."""

    def run(self) -> int:
        """Print the card; returns the exit status."""
        from teachers.references import load_teacher
        from views.teachers.cards import print_card

        print_card(load_teacher(self.teacher), as_json=self.json)
        return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verify(VerifyOptions):
    """Play a teacher and compare it with its card; status 1 if it is far worse or near random."""

    def run(self) -> int:
        """Play and compare; returns the exit status."""
        from views.teachers.verification import verify

        return verify(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Ask a teacher about observations: values, probabilities and features."""

    teacher: _Teacher
    """Name of a game whose expert is shipped, a GAME.safetensors file, or hf://..."""
    observations: str
    """A .npy file of the game's observations: uint8 [N, 4, 84, 84] of Atari, newest frame last."""
    out: str
    """The .npz file to write."""
    temperature: float | None = None
    """Tau of the probabilities; without, what runs use: 0.05, and 1 for a policy."""

    def run(self) -> int:
        """Write the answers, and say what they are; returns the exit status."""
        from learner.objectives.config import MimicConfig
        from teachers.query import answer

        line = answer(
            self.teacher,
            Path(self.observations),
            Path(self.out),
            tau=self.temperature,
            default_tau=MimicConfig().temperature,
        )
        print(line)
        return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Nearest(NearestOptions):
    """Order sources by how alike they and a game's own teacher see its states."""

    def run(self) -> int:
        """Play, compare and print; returns the exit status."""
        from views.teachers.nearest import nearest

        return nearest(self)


_Command: TypeAlias = (
    Annotated[Import, tyro.conf.subcommand("import", prefix_name=False)]
    | Annotated[List, tyro.conf.subcommand("list", prefix_name=False)]
    | Annotated[Show, tyro.conf.subcommand("show", prefix_name=False)]
    | Annotated[Verify, tyro.conf.subcommand("verify", prefix_name=False)]
    | Annotated[Query, tyro.conf.subcommand("query", prefix_name=False)]
    | Annotated[Nearest, tyro.conf.subcommand("nearest", prefix_name=False)]
)


def main(argv: Sequence[str], *, prog: str = "zoo.py") -> None:
    """Run one command; SystemExit with status 1 for a teacher that fails its verification."""
    command: Import | List | Show | Verify | Query | Nearest = parse_options(
        _Command, argv, prog=prog, doc=__doc__
    )
    try:
        status = command.run()
    # Names of files and what is in them come from strangers as often as not.
    except ValueError as error:
        raise ValueError(one_line(error)) from error
    if status:
        sys.exit(status)


if __name__ == "__main__":
    run_command(main)
