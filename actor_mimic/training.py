"""Runs, as launch/multitask.py carries them, from a program of your own."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actor_mimic.agents import Student
from engines.carrying import Order, carry
from engines.keeping import NewestStudent
from recipes.config import RunConfig
from recipes.loading import (
    HELP_WORDS,
    dump_config,
    load_config,
    load_preset,
    load_run_config,
    to_words,
)
from records.latest import follow_latest
from records.run_dir import RunDir
from views.screens import NoScreens, TerminalAndPage


@dataclass(frozen=True, slots=True)
class Run:
    """A run that has ended."""

    folder: Path

    @property
    def summary(self) -> dict[str, Any]:
        """What summary.json says (docs/summary.schema.json)."""
        document: dict[str, Any] = json.loads((self.folder / "summary.json").read_text())
        return document

    @property
    def student(self) -> Student:
        """The network that was trained."""
        return Student.load(self.folder)


def configure(preset: str = "quickstart", settings: Mapping[str, Any] | None = None) -> RunConfig:
    """The settings of a run: defaults, then a preset, then `settings`.

    Args:
        preset: name of one that comes with the package, or path of a YAML file; "" for none.
        settings: by the names of docs/configuration.md, dotted ("replay.batch_size") or nested.
            None, an empty string and an empty list leave what was there before.

    Raises:
        ValueError: anything that cannot be used; one line.
    """
    text = load_preset(preset) if preset else ""
    return load_config(_as_words(settings, refused=("preset", "resume")), preset_text=text)


def train(config: RunConfig, *, quiet: bool = False) -> Run:
    """Carry a new run to its end, in this process or, with `config.engine` "ray", with Ray's.

    Args:
        config: as `configure` gives it; `run_dir` names the run's folder.
        quiet: serve no live page, write no report, and say nothing but warnings, to Python's
            logging.

    Raises:
        ValueError: anything that cannot be used, before anything is written.
        KeyboardInterrupt: after a checkpoint and a summary of what was reached.
    """
    return _carry(Order(config=config, preset="api", folder=config.run_dir), quiet)


def resume(
    run: str | Path, settings: Mapping[str, Any] | None = None, *, quiet: bool = False
) -> Run:
    """Go on with a run from its newest checkpoint, as --resume does.

    Args:
        run: the run's folder.
        settings: that are to differ from now on, such as {"num_steps": 900_000}.
        quiet: as for `train`.

    Raises:
        ValueError: there is no such run, somebody else carries it, or a setting may not differ.
        KeyboardInterrupt: as `train`.
    """
    resumed = RunDir.open_existing(Path(follow_latest(run)))
    text = dump_config(load_run_config(resumed))
    words = _as_words(settings, refused=("preset", "resume", "run_dir"))
    config = load_config(words, preset_text=text)
    return _carry(Order(config=config, preset=resumed.preset, resumed=resumed), quiet)


def _as_words(settings: Mapping[str, Any] | None, *, refused: Sequence[str]) -> list[str]:
    """Settings as options; ValueError for what is an argument, or asks a command for its help."""
    given = dict(settings or {})
    for name in given:
        if str(name).replace("-", "_") in refused:
            raise ValueError(f"{name} is not among the settings that can be given here")
    words = to_words(given)
    if asked := HELP_WORDS.intersection(words):
        raise ValueError(f"{min(asked)} is for commands; docs/configuration.md has all settings")
    return words


def _carry(order: Order, quiet: bool) -> Run:
    run_dir = carry(
        order,
        keeper_of=lambda recipe, folder: NewestStudent(recipe, folder.student),
        screens=NoScreens() if quiet else TerminalAndPage(),
    )
    return Run(run_dir.path)
