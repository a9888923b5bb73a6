#!/usr/bin/env python
"""Export a student or an expert: as weights, as a PyTorch program, as ONNX; with a card.

    python launch/export.py runs/latest --out exported
    python launch/export.py runs/latest --format onnx torch-export --out exported
    python launch/export.py runs/latest --out exported --push OWNER/NAME
    python launch/export.py pong --out exported          the shipped expert by itself

The card says how to use it, what goes in, what comes out, and how well it plays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from launch.options.command_line import parse_options
from launch.options.exit_status import run_command


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """Export a student or an expert."""

    target: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN_STUDENT_OR_EXPERT")]
    """Folder of a run, or of a student; or an expert: its GAME.safetensors, or a shipped one's
    game."""
    out: str
    """Folder to write into; made if it is missing, refused if there is something in it."""
    format: tuple[Literal["safetensors", "torch-export", "onnx"], ...] = ("safetensors",)
    """One or more. TorchScript is not among them: PyTorch has deprecated it for torch.export."""
    licence: str = ""
    """Licence of the weights, for the card: an SPDX identifier if there is one."""
    push: Annotated[str, tyro.conf.arg(metavar="OWNER/NAME")] = ""
    """Also put it on the Hugging Face Hub, with films and a model card; never done unasked."""
    private: bool = False
    """With push: a new repository is seen by its owner alone."""

    def __post_init__(self) -> None:
        """Refuse a list of formats that is empty or names one twice."""
        if not self.format:
            raise ValueError("format names nothing; choose safetensors, torch-export or onnx")
        if len(set(self.format)) != len(self.format):
            raise ValueError(f"format names one twice: {' '.join(self.format)}")
        if self.push and "safetensors" not in self.format:
            raise ValueError("push needs the format safetensors, which a student is loaded from")
        if self.private and not self.push:
            raise ValueError("private is for push; name a repository, or leave it out")


def main(argv: Sequence[str], *, prog: str = "export.py") -> None:
    """Write, check, and say what was written."""
    options = parse_options(ExportOptions, argv, prog=prog, doc=__doc__)
    # Not above: it brings torch, and help, or a mistake in the options, is told without.
    from views.exporting import export

    lines = export(
        options.target,
        options.out,
        formats=options.format,
        licence=options.licence,
        repo=options.push,
        private=options.private,
    )
    print("\n".join(lines))


if __name__ == "__main__":
    run_command(main)
