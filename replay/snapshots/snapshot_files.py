"""Files of replay snapshots: each checks itself, and appears under its name only when complete.

    manifest-N.msgpack     newest N counts: which segments and which state make up the snapshot
    state-N.msgpack        what changes all the time: priorities, counters, random numbers
    GAME-FIRST-STOP.seg    entries of one game, generations FIRST to STOP; never changed again

A file is a line that names its form, a BLAKE2b digest of the rest, and msgpack. Nothing is
unpickled. A manifest also holds the digests of its segments and its state, so that a snapshot is
either read as it was written or refused.

Arrays are their bytes, compressed, with their type and shape. LZ4 halves labels and takes frames of
Atari games, which hardly differ from one to the next, down to a hundredth, at a few microseconds a
frame.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import lz4.block
import msgpack
import numpy as np
from numpy.typing import NDArray

from replay.types import Columns

# Text, whole numbers, numbers, bytes, and lists and mappings of them.
Document: TypeAlias = dict[str, Any]

# Puts a whole file on disk, and only then under its name, or raises OSError and leaves nothing.
Writer: TypeAlias = Callable[[Path, bytes], None]

_MAGIC = b"actor-mimic replay snapshot, form 1\n"
_DIGEST_BYTES = 32
_MANIFEST = re.compile(r"^manifest-(\d{12})\.msgpack$")
_OURS = re.compile(r"^(manifest|state)-\d{12}\.msgpack$|\.seg$|^\..*\.tmp$")


class SnapshotError(ValueError):
    """A snapshot that cannot be used; says which file and why."""


@dataclass(frozen=True, slots=True)
class FileEntry:
    """What a manifest says of another file."""

    name: str
    num_bytes: int
    digest: bytes


def manifest_name(number: int) -> str:
    """Name of manifest number `number`."""
    return f"manifest-{number:012d}.msgpack"


def state_name(number: int) -> str:
    """Name of the state of snapshot number `number`."""
    return f"state-{number:012d}.msgpack"


def segment_name(game: str, first: int, stop: int) -> str:
    """Name of the entries of a game with these generations."""
    return f"{game}-{first:015d}-{stop:015d}.seg"


def list_manifests(folder: Path) -> list[int]:
    """Numbers of the manifests in a folder, newest first."""
    if not folder.is_dir():
        return []
    matches = [_MANIFEST.match(path.name) for path in folder.iterdir()]
    return sorted((int(match[1]) for match in matches if match), reverse=True)


def write_document(path: Path, document: Document, write: Writer) -> FileEntry:
    """Write one file; OSError if it cannot be written, and nothing is left of it then."""
    payload: bytes = msgpack.packb(document)
    digest = _digest(payload)
    write(path, _MAGIC + digest + payload)
    return FileEntry(path.name, len(_MAGIC) + len(digest) + len(payload), digest)


def read_document(path: Path, expected: FileEntry | None = None) -> Document:
    """Read one file; SnapshotError unless it is whole, and the one that a manifest expects."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SnapshotError(f"{path}: {error.strerror}") from error
    if not data.startswith(_MAGIC):
        raise SnapshotError(f"{path}: not a replay snapshot of this version of the program")
    digest, payload = data[len(_MAGIC) :][:_DIGEST_BYTES], data[len(_MAGIC) + _DIGEST_BYTES :]
    if _digest(payload) != digest:
        raise SnapshotError(f"{path}: cut short or damaged (its checksum does not fit)")
    if expected is not None and digest != expected.digest:
        raise SnapshotError(f"{path}: not the file that belongs to this snapshot")
    document = msgpack.unpackb(payload)
    if not isinstance(document, dict):
        raise SnapshotError(f"{path}: does not hold what a replay snapshot holds")
    return document


def delete_others(folder: Path, needed: Collection[str]) -> None:
    """Delete all files of snapshots in a folder but those that are needed."""
    for path in folder.iterdir():
        if _OURS.search(path.name) and path.name not in needed:
            path.unlink(missing_ok=True)


def _digest(payload: bytes) -> bytes:
    return hashlib.blake2b(payload, digest_size=_DIGEST_BYTES).digest()


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
