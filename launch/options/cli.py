"""What all command lines share: presets, resuming, and how they end (exit_status.py)."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from launch.config import CommonConfig, load_config, load_preset
from launch.options.exit_status import run_command as run_command
from launch.records.run_dir import RunDir

ConfigT = TypeVar("ConfigT", bound=CommonConfig)


@dataclass(frozen=True, slots=True)
class Invocation:
    """What a command line asks for, before the options are read."""

    preset: str
    """Name of the preset, or of the run that is resumed."""
    preset_text: str
    """YAML that the options override."""
    options: tuple[str, ...]
    """The rest of the command line."""
    resumed: RunDir | None
    """The run to go on with."""


def parse_invocation(argv: Sequence[str], *, default_preset: str) -> Invocation:
    """Find `--preset` and `--resume`, which decide what the other options override.

    Raises:
        ValueError: unknown preset, both options at once, or a folder that is not a run.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--preset")
    parser.add_argument("--resume")
    known, options = parser.parse_known_args(list(argv))
    if known.resume is None:
        preset = known.preset or default_preset
        text = load_preset(preset) if preset else ""
        return Invocation(Path(preset).stem, text, tuple(options), None)
    if known.preset is not None:
        raise ValueError("--resume goes on with the run's own settings; leave --preset out")
    if any(option.split("=")[0] in ("--run-dir", "--run_dir") for option in options):
        raise ValueError("--resume writes into the run it resumes; leave --run-dir out")
    run = RunDir.open_existing(Path(known.resume))
    return Invocation(run.preset, run.config_path.read_text(), tuple(options), run)


def build_config(config_class: type[ConfigT], invocation: Invocation, *, prog: str) -> ConfigT:
    """Defaults, then the preset, then the options; leaves with status 2 if they are wrong."""
    return load_config(
        config_class, invocation.options, preset_text=invocation.preset_text, prog=prog
    )


def load_run_config(config_class: type[ConfigT], run: RunDir) -> ConfigT:
    """The settings that a run was last carried with; leaves with status 2 if they are damaged."""
    return load_config(
        config_class, (), preset_text=run.config_path.read_text(), prog=str(run.config_path)
    )
