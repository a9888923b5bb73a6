"""A student as the teacher of another network, in one of its games or in a game that is new to it.

Several students may teach one (`--teachers pong=RUN_A pong=RUN_B`), and a network that learns a new
game may be held near the student that it began with.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import torch

from games.registry import get_game
from games.spec import GameSpec
from networks.network import MultitaskNetwork
from networks.student_file import STUDENT_FILES, load_student, load_temperatures
from teachers.card import TeacherCard
from teachers.expert import Expert, architecture_of
from teachers.hub import HubFiles, find_folder, is_hub_reference


def find_student_folder(reference: str | Path, *, files: HubFiles | None = None) -> Path | None:
    """The folder with a student's files, of a run, a student or a repository of the Hub.

    None if it is something else; ValueError if the Hub does not answer.
    """
    if is_hub_reference(reference):
        return find_folder(str(reference), STUDENT_FILES, files=files)
    for folder in (Path(reference), Path(reference) / "student"):
        if all((folder / name).is_file() for name in STUDENT_FILES):
            return folder
    return None


def load_student_as_teacher(folder: Path, game: str) -> Expert:
    """The student's policy in `game`, as an expert whose logits are log-probabilities.

    Args:
        folder: with the student's files.
        game: one of the student's, or another with the same observations and actions if the
            student has one head for all.

    Raises:
        ValueError: the student is damaged, or cannot play the game.
    """
    student = load_student(folder)
    spec = get_game(game)
    _check_plays(student, spec, folder)
    if game in student.games:
        student.act_as(game)
    _divide_scores(student, _temperature(folder, game))
    weights, _ = STUDENT_FILES
    card = TeacherCard(
        game=game,
        algorithm=f"student of {', '.join(student.games)}",
        architecture=replace(architecture_of(student), head="policy"),
        protocol="classic",
        scores=(),
        sha256=hashlib.sha256((folder / weights).read_bytes()).hexdigest(),
        origin=f"the student in {folder}",
        licence="not stated",
    )
    return Expert(spec, card, student)


def _check_plays(student: MultitaskNetwork, spec: GameSpec, folder: Path) -> None:
    if (student.observation_shape, student.num_actions) != (
        spec.observation_shape,
        spec.num_actions,
    ):
        raise ValueError(
            f"the student in {folder} has observations {student.observation_shape} and "
            f"{student.num_actions} actions; {spec.name!r} has {spec.observation_shape} and "
            f"{spec.num_actions}"
        )
    if student.memory is not None:
        raise ValueError(
            f"the student in {folder} has an LSTM, and a teacher is asked for single states; name "
            "a teacher that was trained with network.lstm_width 0"
        )
    if student.heads != "joint" and spec.name not in student.games:
        raise ValueError(
            f"the student in {folder} has a head for each of {', '.join(student.games)}, and none "
            f"for {spec.name!r}"
        )


def _temperature(folder: Path, game: str) -> float:
    """The game's own, or the one that all of the student's games share."""
    temperatures = load_temperatures(folder)
    if game in temperatures:
        return temperatures[game]
    shared = set(temperatures.values())
    if len(shared) > 1:
        raise ValueError(
            f"the student in {folder} has another temperature for each game, and none for {game!r}"
        )
    return shared.pop()


def _divide_scores(student: MultitaskNetwork, temperature: float) -> None:
    """Let the scores be logits of the policy; every layer of the head is linear."""
    with torch.no_grad():
        for name in ("head", "value", "advantage"):
            layer = getattr(student, name, None)
            if layer is not None:
                layer.weight.div_(temperature)
                layer.bias.div_(temperature)
