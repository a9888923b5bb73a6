"""Frame stacks, successors and gaps on written-out streams."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from replay_chunks import Entry, EpisodeWriter, chunk_of, make_spec, successors_of

from replay.samplers import ProportionalSampler
from replay.storage.ring import TableSpec, TransitionRing
from replay.storage.table import ReplayTable


def make_table(spec: TableSpec) -> ReplayTable:
    return ReplayTable(
        spec,
        sampler=ProportionalSampler(spec.capacity, exponent=0.6),
        rng=np.random.default_rng(0),
    )


def ready_serials(table: ReplayTable, entries: list[Entry]) -> list[int]:
    """Serials of the entries that can be drawn; they arrived in the order of their serials."""
    ring = table.ring
    slots = np.arange(len(entries))
    return [entries[slot].serial for slot in slots[ring.ready(slots)]]


def observations_of(ring: TransitionRing, slots: list[int]) -> np.ndarray:
    out = np.empty((len(slots), *ring.spec.observation_shape), np.uint8)
    ring.gather_observations(np.array(slots, np.int64), out)
    return out


def test_frame_stack_is_oldest_first_and_zeros_before_the_episode():
    table = make_table(make_spec(num_stack=3))
    a, b, c, d = entries = EpisodeWriter().play(0, "...e")
    table.add(chunk_of(entries))
    zeros = np.zeros_like(a.frame)
    expected = [
        [zeros, zeros, a.frame],
        [zeros, a.frame, b.frame],
        [a.frame, b.frame, c.frame],
        [b.frame, c.frame, d.frame],
    ]
    for row, frames in zip(observations_of(table.ring, [0, 1, 2, 3]), expected, strict=True):
        np.testing.assert_array_equal(row, np.concatenate(frames))


def test_frame_stack_goes_on_over_chunks_and_over_a_lost_life_but_not_over_an_episodes_end():
    table = make_table(make_spec(num_stack=2))
    writer = EpisodeWriter()
    entries = writer.play(0, ".l")
    table.add(chunk_of(entries))
    more = writer.play(0, ".e.")
    table.add(chunk_of(more))
    lost_life, after_it, new_episode = entries[1], more[0], more[2]
    stacks = observations_of(table.ring, [2, 4])
    np.testing.assert_array_equal(stacks[0], np.concatenate([lost_life.frame, after_it.frame]))
    np.testing.assert_array_equal(
        stacks[1], np.concatenate([np.zeros_like(new_episode.frame), new_episode.frame])
    )


def test_transitions_after_a_gap_wait_for_their_frames():
    table = make_table(make_spec(num_stack=3))
    writer = EpisodeWriter()
    before = writer.play(0, "..")
    writer.play(0, ".")  # A chunk that never arrives.
    after = writer.play(0, "....")
    table.add(chunk_of(before))
    table.add(chunk_of(after))
    table.check_valid()
    expected = [*before, *after[2:]]
    assert ready_serials(table, [*before, *after]) == [entry.serial for entry in expected]


def test_successors_by_hand_over_a_life_loss_a_truncation_and_an_end():
    table = make_table(make_spec(num_stack=1, num_successors=3))
    # a b(life lost) c d(cut off) + last observation, f g(the end).
    entries = EpisodeWriter().play(0, ".l.t.e")
    a, b, c, d, last, f, g = entries
    assert not last.is_transition
    table.add(chunk_of(entries))
    slots = np.array([0, 1, 2, 3, 5, 6])
    assert table.ring.ready(slots).all()
    assert not table.ring.ready(np.array([4])).any()
    successors = successors_of(table.ring, slots)
    assert successors.rewards.tolist() == [
        [a.reward, b.reward, 0.0],
        [b.reward, 0.0, 0.0],
        [c.reward, d.reward, 0.0],
        [d.reward, 0.0, 0.0],
        [f.reward, g.reward, 0.0],
        [g.reward, 0.0, 0.0],
    ]
    assert successors.lengths.tolist() == [2, 1, 2, 1, 2, 1]
    assert successors.discounts[:, :2].tolist() == [[1, 0], [0, 1], [1, 1], [1, 1], [1, 0], [0, 1]]
    zeros = np.zeros_like(a.frame)
    expected = [zeros, zeros, last.frame, last.frame, zeros, zeros]
    np.testing.assert_array_equal(successors.bootstrap_observations, np.stack(expected))


def test_transition_is_drawn_once_its_last_successor_has_arrived():
    table = make_table(make_spec(num_stack=1, num_successors=2))
    writer = EpisodeWriter()
    table.add(chunk_of(writer.play(0, "..")))
    assert table.num_ready == 0
    table.add(chunk_of(writer.play(0, ".")))
    assert table.num_ready == 1
    table.add(chunk_of(writer.play(0, "e")))
    assert table.num_ready == 4


def test_a_transition_whose_oldest_frame_is_overwritten_is_drawn_no_more():
    table = make_table(make_spec(capacity=8, num_stack=3))
    writer = EpisodeWriter()
    for _ in range(2):
        table.add(chunk_of(writer.play(0, "....")))
    assert table.num_ready == 8
    table.add(chunk_of(writer.play(0, ".")))
    table.check_valid()
    # One entry is gone, two more have lost a frame of their stack.
    assert table.num_ready == 8 + 1 - 1 - 2
    drawn = table.sample(200).slots
    assert table.ring.generations[drawn].min() == 3


def test_stream_that_was_silent_for_a_whole_round_starts_anew():
    table = make_table(make_spec(capacity=8, num_stack=2))
    writer = EpisodeWriter()
    table.add(chunk_of(writer.play(0, "..")))
    for _ in range(2):
        table.add(chunk_of(writer.play(1, "....")))
    table.check_valid()
    ready_before = table.num_ready
    table.add(chunk_of(writer.play(0, "..")))
    table.check_valid()
    # The first of the two lacks its frame; one of stream 1 was overwritten with a frame's owner.
    assert not table.ring.ready(np.array([2]))[0]
    assert table.ring.ready(np.array([3]))[0]
    assert table.num_ready == ready_before - 2


@pytest.mark.parametrize("capacity", [1 << 10, 40_000])
def test_memory_is_as_announced(capacity):
    spec = make_spec(capacity=capacity)
    table = make_table(spec)
    ring = table.ring
    parts = (table, ring, ring.links, ring.frames, table._sampler, table._sampler._tree)
    values = [*ring._stored.values(), *(a for part in parts for a in vars(part).values())]
    arrays = [value for value in values if isinstance(value, np.ndarray)]
    # One array may have several names, and views of it.
    used = sum({id(array): array.nbytes for array in arrays if array.base is None}.values())
    assert used <= spec.nbytes <= 1.15 * used


def damage_tails(ring):
    stream, tail = next(iter(ring.links._tails.items()))
    ring.links._tails[stream] = replace(tail, step=tail.step + 1)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda ring: ring.generations.__setitem__(0, -1), "held"),
        (lambda ring: ring.generations.__setitem__(0, 99), "last entries added"),
        (lambda ring: ring.links.next.__setitem__(0, 2), "forward and backward"),
        (lambda ring: ring.links.next.__setitem__(5, 0), "forward only"),
        (lambda ring: ring.links.streams.__setitem__(0, 5), "joins two streams"),
        (lambda ring: ring.links.steps.__setitem__(0, 5), "skips steps"),
        (lambda ring: ring.links.is_first.__setitem__(1, True), "joins two episodes"),
        (lambda ring: ring.links.is_transition.__setitem__(0, False), "joins two episodes"),
        (damage_tails, "newest entry of a stream"),
        (lambda ring: setattr(ring.frames, "_num_held", 5), "6 frames are held, not 5"),
    ],
)
def test_check_valid_finds_damage(damage, message):
    table = make_table(make_spec())
    writer = EpisodeWriter()
    table.add(chunk_of([*writer.play(0, "..."), *writer.play(1, "...")]))
    table.check_valid()
    damage(table.ring)
    with pytest.raises(ValueError, match=message):
        table.ring.check_valid()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda frames: setattr(frames, "_num_held", 5), "6 frames are held, not 5"),
        (lambda frames: setattr(frames, "_blob_bytes", 1), "have 24 bytes, not 1"),
        (lambda frames: frames._blobs.__setitem__(2, b""), "not in the slots that are held"),
        (lambda frames: frames._blobs.__setitem__(9, b"1234"), "not in the slots that are held"),
        (lambda frames: frames._blobs.__setitem__(2, b"12345"), "larger than a raw one"),
    ],
)
def test_check_valid_finds_damage_of_compressed_frames(damage, message):
    table = make_table(replace(make_spec(), compression="lz4"))
    writer = EpisodeWriter()
    table.add(chunk_of([*writer.play(0, "..."), *writer.play(1, "...")]))
    table.check_valid()
    damage(table.ring.frames)
    with pytest.raises(ValueError, match=f"pong: .*{message}"):
        table.ring.check_valid()
