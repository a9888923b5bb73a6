"""What a user may name a teacher by: a shipped game, a file of ours, one on the Hub, a student."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from teachers.expert import Expert, load_expert
from teachers.hub import HubFiles, fetch, is_hub_reference
from teachers.importing import import_teacher
from teachers.shipped import shipped_experts
from teachers.students import find_student_folder, load_student_as_teacher

_OWN_SUFFIX = ".safetensors"


def load_teacher(
    reference: str | Path, game: str | None = None, *, files: HubFiles | None = None
) -> Expert:
    """Load a teacher in float32 on the CPU.

    Args:
        reference: name of a game whose expert is shipped, path of a GAME.safetensors with its card
            beside it, hf://OWNER/REPO[@REVISION][/PATH] of such a file or of a checkpoint of
            another library, or of a student, or the folder of a run or of a student; a student's
            policy in `game` is then the teacher's.
        game: the game it is needed for, if that is known already.
        files: the Hub by default.

    Raises:
        ValueError: as `load_expert`; or a checkpoint of another library that is not on the Hub, or
            whose game is not known, with the command that imports it.
    """
    # A folder of that name does not hide a shipped expert.
    if str(reference) in shipped_experts():
        return load_expert(reference, game)
    if folder := find_student_folder(reference, files=files):
        if game is None:
            raise ValueError(
                f"{reference} is a student, which teaches the game that it is named for: "
                f"--teachers GAME={reference}"
            )
        return load_student_as_teacher(folder, game)
    if not is_hub_reference(reference):
        _refuse_foreign(reference, Path(reference), game)
        return load_expert(reference, game)
    local = fetch(str(reference), game=game, files=files)
    if local.suffix != _OWN_SUFFIX and game is not None:
        return _read_foreign(local, game, origin=str(reference))
    _refuse_foreign(reference, local, game)
    return load_expert(local, game)


def _read_foreign(local: Path, game: str, *, origin: str) -> Expert:
    """A checkpoint of another library as if it had been imported; pickles are refused."""
    with tempfile.TemporaryDirectory(prefix="teacher-") as folder:
        try:
            import_teacher(str(local), game=game, format=None, folder=Path(folder), origin=origin)
        except ValueError as error:
            raise ValueError(f"{origin}: {error}") from None
        return load_expert(Path(folder, f"{game}{_OWN_SUFFIX}"), game)


def _refuse_foreign(reference: str | Path, path: Path, game: str | None) -> None:
    if path.suffix == _OWN_SUFFIX or not os.path.exists(path):
        return
    if path.is_dir():
        raise ValueError(
            f"the folder {reference} holds no student, which a run saves with a checkpoint; name "
            "the folder of a run or of a student, or a GAME.safetensors"
        )
    raise ValueError(
        f"{reference} is not in this project's own format; import it first: "
        f"python launch/zoo.py import {reference} --game {game or 'GAME'}"
    )
