"""Checkpoints on disk: written whole or not at all, the newest few kept, no pickled code read."""

from __future__ import annotations

import os
import re
import zipfile
from pathlib import Path
from typing import Any

import torch

_NAME = re.compile(r"^updates_\d{12}\.pt$")

# Always the same name, so that a program that dies while writing leaves no more than one.
_PARTIAL = "checkpoint.partial"


def save_checkpoint(folder: Path, state: dict[str, Any], *, num_updates: int, keep: int) -> Path:
    """Write `state` as the newest checkpoint and delete all but the newest `keep`.

    The file appears under its name only when it is complete and on disk. One process writes to a
    folder at a time.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"updates_{num_updates:012d}.pt"
    temporary = folder / _PARTIAL
    try:
        with temporary.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        # A full disk must not be filled further by half a checkpoint.
        temporary.unlink(missing_ok=True)
        # PyTorch's writer follows an interrupt with an error about a file of the wrong length.
        if isinstance(error.__context__, KeyboardInterrupt):
            raise error.__context__ from None
        raise
    for old in list_checkpoints(folder)[:-keep]:
        # Never the one just written, even where older work has left higher numbers behind.
        if old != path:
            old.unlink(missing_ok=True)
    return path


def list_checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints, oldest first."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if _NAME.match(path.name))


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU; tensors, numbers, strings and their containers only.

    ValueError if the file is missing, cut short, damaged, or holds anything else.
    """
    if not path.is_file():
        raise ValueError(f"checkpoint {path} does not exist")
    with path.open("rb") as file:
        try:
            # torch itself does not look at the checksums.
            with zipfile.ZipFile(file) as archive:
                damaged = archive.testzip()
            file.seek(0)
            state = torch.load(file, map_location="cpu", weights_only=True)
        except MemoryError:
            raise
        except Exception as error:
            # Whatever the zip readers or the unpickler stumble over.
            raise _unreadable(path, type(error).__name__) from error
    if damaged is not None:
        raise _unreadable(path, f"checksum of {damaged}")
    if not isinstance(state, dict):
        raise ValueError(f"checkpoint {path} does not hold a learner's state")
    return state


def _unreadable(path: Path, reason: str) -> ValueError:
    return ValueError(
        f"checkpoint {path} cannot be read ({reason}): it is cut short, damaged, or was not "
        "written by this program; delete it to go on from the one before"
    )


def load_newest(folder: Path) -> dict[str, Any]:
    """The newest checkpoint's state; ValueError if there is none, or it cannot be read."""
    checkpoints = list_checkpoints(folder)
    if not checkpoints:
        raise ValueError(f"there is no checkpoint in {folder}; the run cannot be resumed")
    return load_checkpoint(checkpoints[-1])
