"""Columns on their way out of a ring and back: checked as a whole, cut to what fits."""

from __future__ import annotations

import numpy as np

from replay.types import Columns


def check_columns(columns: Columns, *, like: Columns, game: str, above: int) -> None:
    """Raises ValueError unless columns can be put behind those that a ring holds.

    Frames are left to their store.

    Args:
        columns: of entries in the order of their generations.
        like: the ring's own columns, of any length.
        game: for the message.
        above: the newest generation that the ring has given out.
    """
    for name, mine in like.items():
        if name not in columns:
            raise ValueError(f"stored transitions of {game} lack the column {name}")
        array = columns[name]
        if array.shape != (len(columns["actions"]), *mine.shape[1:]):
            raise ValueError(
                f"stored transitions of {game}: a row of {name} has shape {array.shape[1:]}, "
                f"expected {mine.shape[1:]}"
            )
        if array.dtype != mine.dtype:
            raise ValueError(
                f"stored transitions of {game}: {name} has type {array.dtype}, expected "
                f"{mine.dtype}"
            )
    generations = np.concatenate([[above], columns["generations"]])
    if np.any(np.diff(generations) <= 0):
        raise ValueError(f"stored transitions of {game} are not in order")


def newest_rows(columns: Columns, count: int) -> Columns:
    """The last `count` entries, or all of them if there are fewer."""
    surplus = len(columns["actions"]) - count
    if surplus <= 0:
        return columns
    newest = {name: array[surplus:] for name, array in columns.items() if name != "frame_blobs"}
    if "frame_blobs" in columns:
        first_byte = int(columns["frame_sizes"][:surplus].sum())
        newest["frame_blobs"] = columns["frame_blobs"][first_byte:]
    return newest
