"""Finds what a user names: a run's student, one in a folder by itself or on the Hub, an expert."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from games.registry import known_games
from networks.network import MultitaskNetwork
from networks.student_file import STUDENT_FILES, load_student, load_temperatures
from recipes.config import RunConfig
from recipes.loading import load_run_config
from recipes.recipe import Recipe
from records.run_dir import RunDir
from teachers.expert import Expert, load_expert
from teachers.hub import fetch_folder, is_hub_reference
from teachers.references import load_teacher
from teachers.shipped import shipped_experts
from teachers.students import find_student_folder


@dataclass(frozen=True, slots=True)
class StudentTarget:
    """The place of a student on disk, and the run that it comes from if that is known."""

    # Folder with weights.safetensors and config.json.
    folder: Path
    # The run that trained it; None for a student by itself.
    run: RunDir | None
    # Settings of the run; None where there is no run.
    config: RunConfig | None

    @property
    def protocol(self) -> str:
        """Protocol that the student was trained by; `classic` where there is no run."""
        return self.config.protocol if self.config else "classic"

    def load(self) -> MultitaskNetwork:
        """The student on the CPU, without dropout and the like; ValueError if it is damaged."""
        return load_student(self.folder).eval()

    def temperature(self, game: str) -> float:
        """Temperature of the teacher's policy that the student was taught."""
        return self.config.temperature_of[game] if self.config else 1.0

    def student_temperature(self, game: str) -> float:
        """Temperature that makes a policy of what the student gives."""
        if self.config:
            return Recipe(self.config).student_temperature(game)
        return load_temperatures(self.folder)[game]

    def load_teacher(self, game: str) -> Expert:
        """The run's teacher, or the shipped one for a student without a run.

        Raises:
            ValueError: there is none, or it is damaged.
        """
        if self.config is not None:
            return Recipe(self.config).load_teacher(game)
        if game not in shipped_experts():
            raise ValueError(f"no expert for {game!r} is shipped; name one")
        return load_expert(game)


def check_games(wanted: Sequence[str], there: Sequence[str]) -> Sequence[str]:
    """The games that are wanted, or all; ValueError for one that the student does not play."""
    for game in wanted:
        if game not in there:
            raise ValueError(f"the student does not play {game!r}; it has {', '.join(there)}")
    return wanted or there


def find_trained(target: str) -> StudentTarget | Expert:
    """The student or the expert of a name; the one place that tells them apart.

    Folders are runs or students; GAME.safetensors and other libraries' files are experts; the Hub
    has both. The name of a shipped expert is that expert, also beside a folder that is called so.

    Raises:
        ValueError: there is neither, or it is damaged.
    """
    if not target.strip():
        raise ValueError("the name of a run, a student or an expert is empty")
    if target in shipped_experts():
        return load_teacher(target)
    if is_hub_reference(target):
        folder = find_student_folder(target)
        return load_teacher(target) if folder is None else StudentTarget(folder, None, None)
    is_expert = target.endswith(".safetensors") or target in known_games() or os.path.isfile(target)
    if is_expert and not os.path.isdir(target):
        return load_teacher(target)
    return find_student(target)


def find_student(target: str | Path) -> StudentTarget:
    """The student in a folder, or in a repository of the Hub: hf://OWNER/REPO[@REVISION][/PATH].

    Raises:
        ValueError: the folder is not there, or is neither that of a run nor of a student; or the
            Hub has no such repository, or no student in it.
    """
    if is_hub_reference(target):
        return StudentTarget(fetch_folder(str(target), STUDENT_FILES), None, None)
    folder = Path(target)
    if not folder.is_dir():
        raise ValueError(
            f"there is no folder {target}; name that of a run or of a student (or an expert: "
            f"GAME.safetensors, or one of {', '.join(shipped_experts())})"
        )
    if (folder / "weights.safetensors").is_file():
        return _with_its_run(folder)
    if not (folder / "meta.json").is_file():
        raise ValueError(f"{target} is not the folder of a run, nor that of a student")
    run = RunDir.open_existing(folder)
    config = load_run_config(run)
    if not run.student.is_dir():
        raise ValueError(f"the run in {target} has no student yet; it is saved with a checkpoint")
    return StudentTarget(run.student, run, config)


def _with_its_run(folder: Path) -> StudentTarget:
    """A student by itself, with its run if it lies in one: student/, or student_at/STEPS/."""
    path = folder.absolute()
    for parent in (path.parent, path.parent.parent):
        if (parent / "meta.json").is_file():
            run = RunDir.open_existing(parent)
            return StudentTarget(folder, run, load_run_config(run))
    return StudentTarget(folder, None, None)
