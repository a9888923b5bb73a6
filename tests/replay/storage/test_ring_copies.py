"""A ring's entries taken out and put into another: snapshots, changes of capacity, restarts."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
from replay_chunks import EpisodeWriter, chunk_of, make_spec, successors_of

from replay.storage.ring import TransitionRing

SPEC = make_spec(capacity=12, num_stack=3, num_successors=2)


def play(
    ring: TransitionRing, writer: EpisodeWriter, num_chunks: int, *, lose: tuple[int, ...] = ()
) -> None:
    """Chunks of two environments with ends, lost lives and truncations; some never arrive."""
    for index in range(num_chunks):
        entries = [
            *writer.play(0, [".l", "e.", ".."][index % 3]),
            *writer.play(1, ["t", "."][index % 2]),
        ]
        if index not in lose:
            chunk = chunk_of(entries)
            ring.check_fits(chunk)
            slots, _ = ring.claim(chunk.num_entries)
            ring.write(slots, chunk)


def contents(ring: TransitionRing) -> dict[int, tuple[object, ...]]:
    """All that can be asked about each entry, by generation."""
    slots = ring.held_slots()
    stack, complete = ring.history(slots)
    ready = ring.ready(slots)
    images = np.empty((len(slots), *ring.spec.observation_shape), np.uint8)
    ring.gather_observations(slots, images)
    columns = ring.columns(slots)
    found = {}
    for row, generation in enumerate(ring.generations[slots].tolist()):
        values = tuple(
            columns[name][row].tobytes()
            for name in sorted(columns)
            if len(columns[name]) == len(slots)
        )
        if ready[row]:
            successors = successors_of(ring, slots[row : row + 1])
            values += tuple(
                getattr(successors, name).tobytes()
                for name in ("rewards", "lengths", "bootstrap_observations")
            )
        history = tuple(int(ring.generations[s]) if s >= 0 else -1 for s in stack[row])
        found[generation] = (
            values,
            bool(ready[row]),
            bool(complete[row]),
            history,
            images[row].tobytes(),
        )
    return found


@pytest.mark.parametrize("num_chunks", [0, 2, 9])
@pytest.mark.parametrize("compression", ["none", "lz4"])
@pytest.mark.parametrize("rows_at_once", [3, 100])
def test_a_restored_ring_says_and_does_what_the_old_one_would(
    num_chunks, compression, rows_at_once
):
    old = TransitionRing(replace(SPEC, compression=compression))
    writer = EpisodeWriter()
    play(old, writer, num_chunks, lose=(5,))
    slots = old.held_slots()
    parts = [
        old.columns(slots[start : start + rows_at_once])
        for start in range(0, len(slots), rows_at_once)
    ]
    new = TransitionRing(replace(SPEC, compression=compression))
    new.restore(parts, num_added=old.num_added)
    new.check_valid()
    assert contents(new) == contents(old)
    assert new.num_added == old.num_added
    more = copy.deepcopy(writer)
    for _ in range(4):
        play(old, writer, 1)
        play(new, more, 1)
        new.check_valid()
        assert contents(new) == contents(old)


def test_generations_never_come_again_after_a_restart_from_an_older_snapshot():
    old = TransitionRing(SPEC)
    writer = EpisodeWriter()
    play(old, writer, 3)
    columns = old.columns(old.held_slots())
    play(old, writer, 2)
    lost = old.generations[old.held_slots()[-6:]]
    new = TransitionRing(SPEC)
    new.restore(columns, num_added=old.num_added + 1000)
    assert (new.slots_of(lost) == -1).all()
    play(new, writer, 2)
    new.check_valid()
    assert (new.slots_of(lost) == -1).all()
    held = new.generations[new.held_slots()]
    assert held[-1] >= old.num_added + 1000
    np.testing.assert_array_equal(new.slots_of(held), new.held_slots())
    # Another restart while the first gap is still in the ring.
    again = TransitionRing(SPEC)
    again.restore(new.columns(new.held_slots()), num_added=new.num_added + 7)
    again.check_valid()
    for _ in range(8):
        play(again, writer, 1)
        again.check_valid()
        held = again.generations[again.held_slots()]
        np.testing.assert_array_equal(again.slots_of(held), again.held_slots())


@pytest.mark.parametrize("capacity", [10, 12, 19])
@pytest.mark.parametrize("num_chunks", [2, 9])
def test_a_ring_of_another_capacity_keeps_the_newest_entries_and_their_generations(
    capacity, num_chunks
):
    old = TransitionRing(SPEC)
    writer = EpisodeWriter()
    play(old, writer, num_chunks)
    new = old.resized(capacity)
    new.check_valid()
    generations = old.generations[old.held_slots()]
    kept = generations[-capacity:]
    np.testing.assert_array_equal(new.generations[new.held_slots()], kept)
    found = new.slots_of(generations)
    assert (found[: -len(kept)] == -1).all()
    for name in ("actions", "rewards", "teacher_features"):
        there, here = new[name][found[-len(kept) :]], old[name]
        np.testing.assert_array_equal(there, here[old.slots_of(kept)])
    assert new.num_added == old.num_added
    for _ in range(12):
        play(new, writer, 1)
        new.check_valid()
    assert new.num_entries == capacity


def test_a_smaller_ring_keeps_the_newest_of_a_larger_ones_snapshot():
    large = TransitionRing(replace(SPEC, capacity=30, compression="lz4"))
    play(large, EpisodeWriter(), 8)
    small = TransitionRing(replace(SPEC, compression="lz4"))
    small.restore(large.columns(large.held_slots()), num_added=large.num_added)
    small.check_valid()
    slots = large.held_slots()[-SPEC.capacity :]
    np.testing.assert_array_equal(small.generations[small.held_slots()], large.generations[slots])
    images = [np.empty((len(slots), *SPEC.observation_shape), np.uint8) for _ in range(2)]
    large.gather_observations(slots, images[0])
    small.gather_observations(small.held_slots(), images[1])
    complete = small.history(small.held_slots())[1]
    np.testing.assert_array_equal(images[0][complete], images[1][complete])


def test_raw_and_compressed_snapshots_go_into_either_kind_of_ring():
    for first, second in (("none", "lz4"), ("lz4", "none")):
        old = TransitionRing(replace(SPEC, compression=first))
        play(old, EpisodeWriter(), 6)
        new = TransitionRing(replace(SPEC, compression=second))
        new.restore(old.columns(old.held_slots()), num_added=old.num_added)
        images = [np.empty((12, *SPEC.observation_shape), np.uint8) for _ in range(2)]
        for ring, out in zip((old, new), images, strict=True):
            ring.gather_observations(ring.held_slots(), out)
        np.testing.assert_array_equal(images[0], images[1])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda c: c.pop("rewards"), "lack the column rewards"),
        (lambda c: c.update(rewards=c["rewards"][:-1]), "a row of rewards has shape"),
        (lambda c: c.update(rewards=c["rewards"].astype(np.float64)), "rewards has type float64"),
        (lambda c: c.update(generations=c["generations"][::-1].copy()), "not in order"),
        (lambda c: c["steps"].fill(3), "a step of a stream twice"),
        (lambda c: c.update(frames=c["frames"][..., :1]), "stored frames have shape"),
    ],
)
def test_columns_that_are_damaged_are_refused(damage, message):
    old = TransitionRing(SPEC)
    play(old, EpisodeWriter(), 3)
    columns = old.columns(old.held_slots())
    damage(columns)
    with pytest.raises(ValueError, match=message):
        TransitionRing(SPEC).restore(columns, num_added=100)


@pytest.mark.parametrize("first_step", [0, 3, 5])
def test_a_run_that_does_not_come_after_what_its_stream_has_sent_is_refused(first_step):
    ring = TransitionRing(SPEC)
    writer = EpisodeWriter()
    play(ring, writer, 3)
    before = contents(ring)
    late = chunk_of(writer.play(0, ".."))
    late = replace(late, first_steps=np.array([first_step]))
    with pytest.raises(
        ValueError, match=f"out of order: a run of stream 0 begins with step {first_step}"
    ):
        ring.check_next(late)
    assert contents(ring) == before


def test_two_runs_of_one_stream_in_a_chunk_must_be_in_order():
    ring = TransitionRing(SPEC)
    entries = EpisodeWriter().play(0, "......")
    ring.check_next(chunk_of([*entries[:2], *entries[4:]]))
    with pytest.raises(ValueError, match="out of order"):
        ring.check_next(chunk_of([*entries[4:], *entries[:2]]))
