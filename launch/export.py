#!/usr/bin/env python
"""Export a student: as weights, as a PyTorch program, as ONNX; with a card on how to use it.

    python launch/export.py runs/latest --out exported
    python launch/export.py runs/latest --format onnx torch-export --out exported

The card says what goes in, what comes out, and how well it plays.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro

from launch.options.command_line import parse_options
from launch.options.exit_status import run_command
from networks.atomic_file import write_atomically
from networks.network import MultitaskNetwork
from networks.programs import (
    FILE_NAMES,
    MaskedPolicy,
    check_can_write,
    collect_states,
    largest_difference,
    write_program,
)
from recipes.student import StudentTarget, find_student
from records.run_record import read_run
from views.export_card import build_card, card_as_json, card_as_text

_STUDENT_FILES = ("weights.safetensors", "config.json")
_STATES_PER_GAME = 32
_SEED = 20_240


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """Export a student."""

    target: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN_OR_STUDENT")]
    """Folder of a run, or of a student."""
    out: str
    """Folder to write into; made if it is missing, refused if there is something in it."""
    format: tuple[Literal["safetensors", "torch-export", "onnx"], ...] = ("safetensors",)
    """One or more. TorchScript is not among them: PyTorch has deprecated it for torch.export."""
    licence: str = ""
    """Licence of the weights, for the card: an SPDX identifier if there is one."""

    def __post_init__(self) -> None:
        """Refuse a list of formats that is empty or names one twice."""
        if not self.format:
            raise ValueError("format names nothing; choose safetensors, torch-export or onnx")
        if len(set(self.format)) != len(self.format):
            raise ValueError(f"format names one twice: {' '.join(self.format)}")


def main(argv: Sequence[str], *, prog: str = "export.py") -> None:
    """Write, check, and say what was written."""
    options = parse_options(ExportOptions, argv, prog=prog, doc=__doc__)
    torch.set_num_threads(1)
    found = find_student(options.target)
    student = found.load()
    record = read_run(found.run.path) if found.run else None
    check_can_write(options.format)
    with _new_folder(options.out) as folder:
        verified, num_states = _write_files(found, student, options.format, folder)
        files = {path.name: _digest(path) for path in sorted(folder.iterdir())}
        card = build_card(
            student,
            found,
            record,
            files=files,
            verified=verified,
            num_states=num_states,
            licence=options.licence,
        )
        write_atomically(folder / "card.json", card_as_json(card))
        write_atomically(folder / "card.md", card_as_text(card).encode())
    for name in files:
        path = Path(options.out) / name
        difference = verified.get(name)
        note = "" if difference is None else f", within {difference:.1e} of the student"
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB{note}")
    print(f"{Path(options.out) / 'card.md'}: how to use it")


def _write_files(
    found: StudentTarget, student: MultitaskNetwork, formats: Sequence[str], folder: Path
) -> tuple[dict[str, float], int]:
    """Write everything but the card.

    Returns:
        By file, the largest difference of a logit from the student's; and the number of states
        that it was found in.
    """
    states = collect_states(
        student.games, protocol=found.protocol, per_game=_STATES_PER_GAME, seed=_SEED
    )
    policy = MaskedPolicy(student)
    # Copies: the program keeps its example, and with a slice all that it is a slice of.
    example = states[0][:2].clone(), states[1][:2].clone()
    verified = {}
    for kind, name in FILE_NAMES.items():
        if kind in formats:
            write_program(policy, kind, folder / name, example)
            verified[name] = largest_difference(policy, kind, folder / name, states)
    if "safetensors" in formats:
        for name in _STUDENT_FILES:
            write_atomically(folder / name, (found.folder / name).read_bytes())
    return verified, len(states[0])


@contextlib.contextmanager
def _new_folder(name: str) -> Iterator[Path]:
    """A folder to fill; it gets its name at the end of the block, so that it is whole or absent.

    Raises:
        ValueError: there is something of this name already, or it cannot be made.
    """
    folder = Path(name).absolute()
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ValueError(f"{name} has something in it already; choose another folder")
        filling = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
        filling.mkdir(parents=True)
    except OSError as error:
        raise ValueError(f"cannot make the folder {name}: {error.strerror}") from error
    try:
        yield filling
        filling.replace(folder)
    finally:
        shutil.rmtree(filling, ignore_errors=True)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    run_command(main)
