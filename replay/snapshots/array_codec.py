"""Arrays in files: their bytes, compressed, with their type and shape.

LZ4 halves labels and takes frames of Atari games, which hardly differ from one to the next, down to
a hundredth, at a few microseconds a frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lz4.block
import numpy as np
from numpy.typing import NDArray

from replay.snapshots.snapshot_files import Document
from replay.types import BoolArray, Columns

_KINDS = "biuf"  # Truth values and numbers; never objects.


def pack_array(array: NDArray[Any]) -> Document:
    """An array as a document."""
    raw = np.ascontiguousarray(array).tobytes()
    packed: bytes = lz4.block.compress(raw, store_size=False)
    is_smaller = len(packed) < len(raw)
    return {
        "type": array.dtype.str,
        "shape": list(array.shape),
        "lz4": is_smaller,
        "data": packed if is_smaller else raw,
    }


def unpack_array(document: Document) -> NDArray[Any]:
    """The array, read-only; ValueError if this is no array of numbers."""
    try:
        dtype, shape = np.dtype(str(document["type"])), tuple(map(int, document["shape"]))
        data, is_packed = document["data"], document["lz4"]
    except (KeyError, TypeError) as error:
        raise ValueError("an array's description is damaged") from error
    if dtype.kind not in _KINDS or any(size < 0 for size in shape):
        raise ValueError(f"an array of type {dtype} and shape {shape} is none of ours")
    num_bytes = dtype.itemsize * int(np.prod(shape, dtype=object))
    if is_packed:
        try:
            data = lz4.block.decompress(data, uncompressed_size=num_bytes)
        except (lz4.block.LZ4BlockError, ValueError, OverflowError) as error:
            raise ValueError(f"an array's data are damaged ({error})") from error
    if not isinstance(data, bytes) or len(data) != num_bytes:
        raise ValueError("an array's data are not as long as its shape says")
    return np.frombuffer(data, dtype).reshape(shape)


def pack_columns(columns: Columns) -> Document:
    """Arrays by name as a document."""
    return {name: pack_array(array) for name, array in columns.items()}


def unpack_columns(document: Document) -> dict[str, NDArray[Any]]:
    """What `pack_columns` was given; ValueError for anything else."""
    if not all(isinstance(value, dict) for value in document.values()):
        raise ValueError("columns of entries are damaged")
    return {str(name): unpack_array(value) for name, value in document.items()}


def select_rows(columns: Mapping[str, NDArray[Any]], rows: BoolArray) -> dict[str, NDArray[Any]]:
    """Some entries of columns that may hold compressed frames."""
    if rows.all():
        return dict(columns)
    chosen = {name: array[rows] for name, array in columns.items() if name != "frame_blobs"}
    if "frame_blobs" in columns:
        chosen["frame_blobs"] = columns["frame_blobs"][np.repeat(rows, columns["frame_sizes"])]
    return chosen
