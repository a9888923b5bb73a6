"""What a user may name a teacher by: a shipped game, a file of this project's, one on the Hub."""

from __future__ import annotations

import os
from pathlib import Path

from teachers.expert import Expert, load_expert
from teachers.hub import HubFiles, fetch, is_hub_reference

_OWN_SUFFIX = ".safetensors"


def load_teacher(
    reference: str | Path, game: str | None = None, *, files: HubFiles | None = None
) -> Expert:
    """Load a teacher in float32 on the CPU.

    Args:
        reference: name of a game whose expert is shipped, path of a GAME.safetensors with its card
            beside it, or hf://OWNER/REPO[/PATH][@REVISION] of such a file.
        game: the game it is needed for, if that is known already.
        files: the Hub by default.

    Raises:
        ValueError: as `load_expert`; or a checkpoint of another library, with the command that
            imports it.
    """
    if not is_hub_reference(reference):
        _refuse_foreign(reference, Path(reference), game)
        return load_expert(reference, game)
    local = fetch(str(reference), game=game, files=files)
    _refuse_foreign(reference, local, game)
    return load_expert(local, game)


def _refuse_foreign(reference: str | Path, path: Path, game: str | None) -> None:
    if path.suffix == _OWN_SUFFIX or not os.path.exists(path):
        return
    # A folder of that name does not hide a shipped expert.
    if path.is_dir() and path.name == str(reference):
        return
    raise ValueError(
        f"{reference} is not in this project's own format; import it first: "
        f"python launch/zoo.py import {reference} --game {game or 'GAME'}"
    )
