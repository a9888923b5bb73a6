"""Where a table's frames lie: as they are, or compressed one by one.

A store has one place for every slot of a ring. Frames are written in the order of the ring and
read in whichever order stacks of them are drawn, straight into the arrays of a batch.

Shape letters:
    E  frames that are written
    B  observations;  S  frames per observation
    C, H, W  one frame, of a vector C alone
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, TypeAlias

import lz4.block
import numpy as np
from numpy.typing import NDArray

from replay.columns import EntryShape
from replay.types import Columns, FrameArray, Int64Array

Compression: TypeAlias = Literal["none", "lz4"]

# What a compressed frame takes beside its bytes: the header of a Python object (33), its place in
# the list (8), and what an allocation is rounded up to and its own header (15 on average).
BLOB_OVERHEAD_BYTES = 56


class RawFrames:
    """Frames in one array; its pages are touched only as they fill."""

    def __init__(self, capacity: int, entry: EntryShape) -> None:
        """Room for the frames of `capacity` entries."""
        self._frames = np.zeros((capacity, *entry.frame_shape), entry.frame_dtype)
        self._first_bytes = self._frames.reshape(capacity, -1)[:, 0]
        self._entry = entry
        self._num_held = 0

    @property
    def num_bytes(self) -> int:
        """Memory of the frames held; places that were never written take none."""
        return self._num_held * (self._frames.nbytes // len(self._frames))

    def write(self, first_slot: int, frames: FrameArray) -> None:
        """Copy frames [E, C, H, W] into as many slots from `first_slot` on, wrapping at the end."""
        room = len(self._frames) - first_slot
        self._frames[first_slot : first_slot + len(frames)] = frames[:room]
        self._frames[: max(0, len(frames) - room)] = frames[room:]
        self._num_held = min(len(self._frames), self._num_held + len(frames))

    def read(self, slots: Int64Array, out: FrameArray) -> None:
        """Copy frames of slots [B, S] to `out` [B, S, C, H, W]; zeros for a negative slot."""
        # Copying waits for the first bytes of every stack; asked for all at once, they come sooner.
        self._first_bytes[slots[:, 0]]
        # Clipped instead of checked: only then does NumPy copy straight to where it is told to.
        self._frames.take(slots, axis=0, out=out, mode="clip")
        is_missing = slots < 0
        if np.count_nonzero(is_missing):
            out[is_missing] = 0

    def columns(self, slots: Int64Array) -> Columns:
        """Copies of the frames, as `frames` [E, C, H, W]."""
        return {"frames": self._frames[slots]}

    def load(self, first_slot: int, columns: Columns) -> None:
        """Write what this or another kind of store gave; ValueError for what cannot be frames."""
        entry = self._entry
        if "frames" in columns:
            self.write(first_slot, _check_frames(columns["frames"], entry))
            return
        size = entry.frame_bytes
        raw = b"".join(_decompress(blob, size) for blob in _split_blobs(columns, size))
        frames: FrameArray = np.frombuffer(raw, entry.frame_dtype)
        self.write(first_slot, frames.reshape(-1, *entry.frame_shape))

    def check_valid(self, held: Int64Array) -> None:
        """Raises ValueError unless so many frames are held; which ones, raw frames do not tell."""
        _check_num_held(self._num_held, held)


class Lz4Frames:
    """Each frame compressed by itself, so that none needs another to be read.

    Memory is what the frames held now take: a blob is freed when its slot is overwritten. A frame
    that does not become smaller is kept as it is, which bounds it.
    """

    def __init__(self, capacity: int, entry: EntryShape) -> None:
        """Room for the frames of `capacity` entries."""
        self._blobs: list[bytes] = [b""] * capacity
        self._entry = entry
        self._frame_bytes = entry.frame_bytes
        self._blob_bytes = 0
        self._num_held = 0

    @property
    def num_bytes(self) -> int:
        """Memory of the blobs held, with what Python adds to every one."""
        return self._blob_bytes + self._num_held * BLOB_OVERHEAD_BYTES

    def write(self, first_slot: int, frames: FrameArray) -> None:
        """Compress frames into as many slots from `first_slot` on, wrapping at the end."""
        self._put(first_slot, [self._compress(frame) for frame in frames])

    def _compress(self, frame: FrameArray) -> bytes:
        blob: bytes = lz4.block.compress(np.ascontiguousarray(frame), store_size=False)
        return blob if len(blob) < self._frame_bytes else frame.tobytes()

    def _put(self, first_slot: int, blobs: list[bytes]) -> None:
        room = len(self._blobs) - first_slot
        for start, part in ((first_slot, blobs[:room]), (0, blobs[room:])):
            stop = start + len(part)
            self._blob_bytes += sum(map(len, part)) - sum(map(len, self._blobs[start:stop]))
            self._blobs[start:stop] = part
        self._num_held = min(len(self._blobs), self._num_held + len(blobs))

    def read(self, slots: Int64Array, out: FrameArray) -> None:
        """Decompress frames to `out`, which must be contiguous; zeros for a negative slot."""
        if not slots.size:
            return
        size = self._frame_bytes
        blobs = self._blobs
        # A memoryview takes a slice of bytes in a third of the time that an array takes.
        target = out.data.cast("B")
        zeros = bytes(size)
        start = 0
        for slot in slots.ravel().tolist():
            target[start : start + size] = _decompress(blobs[slot], size) if slot >= 0 else zeros
            start += size

    def columns(self, slots: Int64Array) -> Columns:
        """The blobs, as `frame_blobs` [bytes of all frames] and `frame_sizes` [E]."""
        parts = [self._blobs[slot] for slot in slots.tolist()]
        return {
            "frame_blobs": np.frombuffer(b"".join(parts), np.uint8),
            "frame_sizes": np.array([len(part) for part in parts], np.int64),
        }

    def load(self, first_slot: int, columns: Columns) -> None:
        """Take blobs as they are, and compress raw frames; ValueError for what cannot be frames."""
        if "frames" in columns:
            self.write(first_slot, _check_frames(columns["frames"], self._entry))
            return
        self._put(first_slot, list(_split_blobs(columns, self._frame_bytes)))

    def check_valid(self, held: Int64Array) -> None:
        """Raises ValueError unless exactly the slots `held` have blobs, as large as is counted."""
        _check_num_held(self._num_held, held)
        sizes = np.array([len(blob) for blob in self._blobs], np.int64)
        if not np.array_equal(np.flatnonzero(sizes), np.sort(held)):
            raise ValueError("frames are not in the slots that are held, or in others, too")
        if sizes.max(initial=0) > self._frame_bytes:
            raise ValueError("a compressed frame is larger than a raw one")
        if int(sizes.sum()) != self._blob_bytes:
            raise ValueError(
                f"the compressed frames have {int(sizes.sum())} bytes, not {self._blob_bytes}"
            )


# The frames of one ring.
FrameStore: TypeAlias = RawFrames | Lz4Frames


def build_frame_store(compression: Compression, capacity: int, entry: EntryShape) -> FrameStore:
    """An empty store of the kind that is asked for."""
    kind = Lz4Frames if compression == "lz4" else RawFrames
    return kind(capacity, entry)


def _check_num_held(num_held: int, held: Int64Array) -> None:
    if num_held != len(held):
        raise ValueError(f"{len(held)} frames are held, not {num_held}")


def _decompress(blob: bytes, size: int) -> bytes:
    """A frame's bytes; a blob as large as a frame is one."""
    if len(blob) == size:
        return blob
    frame: bytes = lz4.block.decompress(blob, uncompressed_size=size)
    return frame


def _split_blobs(columns: Columns, frame_bytes: int) -> Iterator[bytes]:
    """Every frame's blob; ValueError for one that is damaged."""
    sizes = np.asarray(columns["frame_sizes"], np.int64)
    data = np.asarray(columns["frame_blobs"], np.uint8).tobytes()
    if np.any(sizes < 1) or int(sizes.sum()) != len(data):
        raise ValueError("compressed frames: their sizes do not fit their bytes")
    start = 0
    for size in sizes.tolist():
        blob = data[start : start + size]
        start += size
        try:
            found = len(_decompress(blob, frame_bytes))
        except lz4.block.LZ4BlockError as error:
            raise ValueError(f"compressed frames: one of them is damaged ({error})") from error
        if found != frame_bytes:
            raise ValueError(f"compressed frames: one has {found} bytes, expected {frame_bytes}")
        yield blob


def _check_frames(frames: NDArray[np.generic], entry: EntryShape) -> FrameArray:
    """The frames; ValueError for those of another shape or type."""
    dtype, shape = entry.frame_dtype, entry.frame_shape
    if frames.dtype != dtype or frames.shape[1:] != shape:
        raise ValueError(
            f"stored frames have shape {frames.shape[1:]} and type {frames.dtype}, expected "
            f"{shape} and {dtype.__name__}"
        )
    return frames.astype(dtype, copy=False)
