"""Both kinds of frame stores against a plain dictionary."""

from __future__ import annotations

import numpy as np
import pytest

from replay.columns import EntryShape
from replay.storage.frame_store import BLOB_OVERHEAD_BYTES, Lz4Frames, RawFrames, build_frame_store

SHAPE = (2, 20, 20)
ENTRY = EntryShape(frame_shape=SHAPE, num_actions=1)
CAPACITY = 10


def make_frames(rng: np.random.Generator, count: int) -> np.ndarray:
    """Frames of which some are noise and some are almost empty."""
    frames = np.zeros((count, *SHAPE), np.uint8)
    noisy = rng.random(count) < 0.3
    frames[noisy] = rng.integers(0, 256, (int(noisy.sum()), *SHAPE), np.uint8)
    frames[:, 0, 0, 0] = rng.integers(1, 256, count)
    return frames


@pytest.mark.parametrize("compression", ["none", "lz4"])
def test_frames_come_back_as_they_were_over_many_rounds_of_the_ring(compression):
    rng = np.random.default_rng(0)
    store = build_frame_store(compression, CAPACITY, ENTRY)
    kept: dict[int, np.ndarray] = {}
    slot = 0
    for _ in range(40):
        frames = make_frames(rng, int(rng.integers(0, 6)))
        store.write(slot, frames)
        kept.update({(slot + i) % CAPACITY: frame for i, frame in enumerate(frames)})
        slot = (slot + len(frames)) % CAPACITY
        slots = rng.choice([-1, *kept], (4, 3))
        out = np.full((4, 3, *SHAPE), 7, np.uint8)
        store.read(slots, out)
        store.check_valid(np.array(sorted(kept), np.int64))
        expected = [[kept.get(int(s), np.zeros(SHAPE)) for s in row] for row in slots]
        np.testing.assert_array_equal(out, expected)


def test_a_round_of_the_ring_can_be_written_at_once():
    frames = make_frames(np.random.default_rng(1), CAPACITY)
    for compression in ("none", "lz4"):
        store = build_frame_store(compression, CAPACITY, ENTRY)
        store.write(4, frames)
        out = np.empty((CAPACITY, 1, *SHAPE), np.uint8)
        store.read((4 + np.arange(CAPACITY)[:, None]) % CAPACITY, out)
        np.testing.assert_array_equal(out[:, 0], frames)


def test_compressed_bytes_are_those_of_the_frames_held_now():
    rng = np.random.default_rng(2)
    store = Lz4Frames(CAPACITY, ENTRY)
    assert store.num_bytes == 0
    for first in range(0, 35, 5):
        store.write(first % CAPACITY, make_frames(rng, 5))
        held = store._blobs
        expected = sum(map(len, held)) + sum(map(bool, held)) * BLOB_OVERHEAD_BYTES
        assert store.num_bytes == expected
    store.write(5, np.zeros((5, *SHAPE), np.uint8))
    store.write(0, np.zeros((5, *SHAPE), np.uint8))
    assert store.num_bytes < CAPACITY * (30 + BLOB_OVERHEAD_BYTES)


def test_frames_that_cannot_be_compressed_take_no_more_than_themselves():
    store = Lz4Frames(CAPACITY, ENTRY)
    noise = np.random.default_rng(3).integers(0, 256, (CAPACITY, *SHAPE), np.uint8)
    store.write(0, noise)
    assert store.num_bytes == noise.nbytes + CAPACITY * BLOB_OVERHEAD_BYTES
    out = np.empty((CAPACITY, 1, *SHAPE), np.uint8)
    store.read(np.arange(CAPACITY)[:, None], out)
    np.testing.assert_array_equal(out[:, 0], noise)


def test_observations_that_are_not_in_one_piece_are_refused_rather_than_lost():
    store = Lz4Frames(CAPACITY, ENTRY)
    store.write(0, make_frames(np.random.default_rng(4), 2))
    out = np.empty((2, 2, *SHAPE), np.uint8)[:, :1]
    with pytest.raises(TypeError, match="contiguous"):
        store.read(np.array([[0], [1]]), out)


def cut(columns):
    columns["frame_blobs"] = columns["frame_blobs"][:-1]


def scramble(columns):
    blobs = columns["frame_blobs"].copy()
    blobs[: columns["frame_sizes"][0]] = 255
    columns["frame_blobs"] = blobs


def shift(columns):
    sizes = columns["frame_sizes"]
    sizes[0] -= 1
    sizes[1] += 1


def empty_one(columns):
    sizes = columns["frame_sizes"]
    sizes[1] += sizes[0]
    sizes[0] = 0


@pytest.mark.parametrize("damage", [cut, scramble, shift, empty_one])
@pytest.mark.parametrize("kind", [RawFrames, Lz4Frames])
def test_damaged_blobs_are_refused_and_leave_the_store_as_it_was(damage, kind):
    source = Lz4Frames(CAPACITY, ENTRY)
    source.write(0, np.zeros((3, *SHAPE), np.uint8))
    columns = dict(source.columns(np.arange(3)))
    damage(columns)
    store = kind(CAPACITY, ENTRY)
    with pytest.raises(ValueError, match="compressed frames"):
        store.load(0, columns)
    assert store.num_bytes == 0
