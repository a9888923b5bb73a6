"""Snapshots: whole, incremental, beside the shard's work; what is damaged is refused by name."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import os
import struct
import threading
from contextlib import contextmanager
from pathlib import Path

import msgpack
import numpy as np
import pytest
from replay_chunks import make_spec
from replay_shards import (
    GAMES,
    Players,
    assert_same_contents,
    contents,
    keys_of,
    make_config,
    make_shard,
)

import replay.snapshots.snapshot as snapshot_module
from networks.atomic_file import write_atomically
from replay.pace.pacing import Pacing
from replay.shard import ReplayShard
from replay.snapshots.keeper import MAX_BEGINNINGS, ShardKeeper, clear_snapshots
from replay.snapshots.restore import newest_serial, shard_folder
from replay.snapshots.snapshot_files import manifest_name
from replay.storage.ring import TransitionRing
from replay.types import PriorityUpdate


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    """Several segments, and several pieces of each, in tables of 64."""
    monkeypatch.setattr(snapshot_module, "SEGMENT_ENTRIES", 16)
    monkeypatch.setattr(snapshot_module, "_ENTRIES_AT_ONCE", 5)
    monkeypatch.setattr(snapshot_module, "_PRIORITIES_AT_ONCE", 7)


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def keep(shard: ReplayShard, root: Path, **options) -> ShardKeeper:
    return ShardKeeper(shard, root, **{"write": write_atomically, "session": "one", **options})


def played_and_saved(root: Path, *, num_chunks=12, **options) -> tuple[ReplayShard, ShardKeeper]:
    """A shard that has played on over the end of its ring, and is on disk."""
    shard = make_shard(**options)
    keeper = keep(shard, root)
    players = Players(shard)
    for _ in range(num_chunks // 3):
        players.play(3)
        shard.sample()
    assert keeper.save()
    return shard, keeper


def restored(root: Path, **options) -> tuple[ReplayShard, ShardKeeper]:
    shard = make_shard(**options)
    keeper = keep(shard, root)
    shard.check_valid()
    return shard, keeper


def folder_of(root: Path, shard: int = 0, num_shards: int = 1) -> Path:
    return shard_folder(root, shard, num_shards)


def names_in(folder: Path, end: str) -> set[str]:
    return {path.name for path in folder.iterdir() if path.name.endswith(end)}


# What comes back


@pytest.mark.parametrize("compression", ["none", "lz4"])
@pytest.mark.parametrize("num_chunks", [3, 12, 30])
def test_what_a_shard_held_comes_back_from_disk(tmp_path, num_chunks, compression):
    options = {"spec": {"num_successors": 2, "num_stack": 3}}
    shard = shard_of_kind(compression, **options)
    keeper = keep(shard, tmp_path)
    players = Players(shard)
    for _ in range(num_chunks // 3):
        players.play(3)
        batch = shard.sample()
        priorities = np.linspace(0.5, 2.0, batch.batch_size, dtype=np.float32)
        shard.update_priorities(PriorityUpdate(keys=batch.keys, priorities=priorities))
    assert keeper.save()
    again = shard_of_kind(compression, **options)
    keep(again, tmp_path)
    again.check_valid()
    assert_same_contents(shard, again)
    ours, theirs = shard.stats(), again.stats()
    for game in GAMES:
        assert theirs.tables[game].counts == ours.tables[game].counts
        assert theirs.tables[game].ready == ours.tables[game].ready
    assert theirs.limiter_error == ours.limiter_error


def shard_of_kind(compression: str, *, spec) -> ReplayShard:
    specs = [
        dataclasses.replace(make_spec(game=game, **spec), compression=compression) for game in GAMES
    ]
    return ReplayShard(make_config(), specs)


def test_a_shard_that_came_back_draws_what_the_one_before_would_have_drawn(tmp_path):
    # Not over the end of the ring yet: there, slots are numbered anew.
    shard, _ = played_and_saved(tmp_path, num_chunks=6)
    again, _ = restored(tmp_path)
    for _ in range(5):
        ours, theirs = shard.sample(), again.sample()
        assert keys_of(theirs) == keys_of(ours)
        np.testing.assert_array_equal(theirs.observations, ours.observations)
        np.testing.assert_array_equal(theirs.inverse_probabilities, ours.inverse_probabilities)


def test_streams_go_on_where_the_snapshot_ends(tmp_path):
    shard = make_shard()
    keeper = keep(shard, tmp_path)
    players = Players(shard)
    players.play(12)
    assert keeper.save()
    again, _ = restored(tmp_path)
    # The same chunks of the same actors go to both, which links them to what they hold.
    for _ in range(2):
        for game in GAMES:
            chunk = players.chunk(game)
            assert shard.add(chunk)
            assert again.add(chunk)
    assert_same_contents(shard, again)
    again.check_valid()


def test_an_empty_shard_is_a_snapshot_too(tmp_path):
    keeper = keep(make_shard(), tmp_path)
    assert keeper.save()
    again, _ = restored(tmp_path)
    assert all(table.size == 0 for table in again.stats().tables.values())


def test_a_smaller_table_takes_the_newest_entries(tmp_path):
    shard, _ = played_and_saved(tmp_path)
    again, _ = restored(tmp_path, spec={"capacity": 32}, capacity_per_game=32)
    ours, theirs = contents(shard), contents(again)
    for game in GAMES:
        assert len(theirs[game]["generations"]) == 32
        for name in ("generations", "frames", "priorities"):
            np.testing.assert_array_equal(theirs[game][name], ours[game][name][-32:])


def test_another_pace_begins_anew_with_what_is_there(tmp_path):
    played_and_saved(tmp_path)
    again, _ = restored(tmp_path, samples_per_insert=3.0)
    stats = again.stats()
    assert stats.limiter_error == 0.0
    assert all(table.counts.sampled == 0 for table in stats.tables.values())
    assert again.can_sample()


# Incremental


def test_only_what_is_new_is_written_and_what_fell_out_of_the_ring_is_deleted(tmp_path):
    written: list[str] = []

    def write(path: Path, data: bytes) -> None:
        written.append(path.name)
        write_atomically(path, data)

    shard = make_shard()
    keeper = keep(shard, tmp_path, write=write)
    players = Players(shard)
    for _ in range(12):
        players.play(3)
        before = names_in(folder_of(tmp_path), ".seg")
        written.clear()
        assert keeper.save()
        segments = [name for name in written if name.endswith(".seg")]
        assert not before & set(segments), "a segment that is there was written again"
        num_new = 3 * 8 * len(GAMES)  # Entries, at most: six steps and two truncations a chunk.
        assert len(segments) <= num_new // 16 + 2 * len(GAMES)
    held = {game: columns["generations"] for game, columns in contents(shard).items()}
    for name in names_in(folder_of(tmp_path), ".seg"):
        game, _, stop = name.removesuffix(".seg").split("-")
        # Of the snapshot before the newest, too.
        assert int(stop) > held[game][0] - 3 * 8


def test_many_snapshots_with_little_news_do_not_leave_many_files(tmp_path):
    shard = make_shard()
    keeper = keep(shard, tmp_path)
    players = Players(shard)
    players.play(12)
    for _ in range(20):
        players.play(1)
        assert keeper.save()
    # Whole segments of a full ring, two that it has half overwritten, one that is not full yet;
    # and what only the snapshot before needs.
    assert len(names_in(folder_of(tmp_path), ".seg")) <= len(GAMES) * (64 // 16 + 2 + 2)


def test_a_shard_that_came_back_goes_on_with_the_files_that_are_there(tmp_path):
    played_and_saved(tmp_path)
    before = names_in(folder_of(tmp_path), ".seg")
    again, keeper = restored(tmp_path)
    Players(again, first_actor=10).play(1)
    assert keeper.save()
    after = names_in(folder_of(tmp_path), ".seg")
    assert len(before & after) >= 2 * (64 // 16 - 2)
    third, _ = restored(tmp_path)
    assert_same_contents(again, third)


def test_inserting_and_sampling_go_on_while_a_snapshot_is_written(tmp_path):
    """Every file is held up at a gate until the shard has taken and given something."""
    shard = make_shard()
    in_writer, may_write = threading.Semaphore(0), threading.Semaphore(0)

    def write(path: Path, data: bytes) -> None:
        in_writer.release()
        assert may_write.acquire(timeout=60.0)
        write_atomically(path, data)

    keeper = keep(shard, tmp_path, write=write)
    players = Players(shard)
    players.play(12)
    saving = threading.Thread(target=keeper.save)
    saving.start()
    num_files = 0
    while in_writer.acquire(timeout=0.2 if num_files > 8 else 60.0):
        num_files += 1
        players.play(1)
        assert shard.sample() is not None
        may_write.release()
    saving.join(60.0)
    assert num_files > 8
    assert keeper.stats().snapshots.failures == 0
    again, _ = restored(tmp_path)
    # What is there is as it was stored, up to the moment at which the snapshot was begun.
    ours, theirs = contents(shard), contents(again)
    for game in GAMES:
        common = np.intersect1d(ours[game]["generations"], theirs[game]["generations"])
        rows, others = (np.isin(columns[game]["generations"], common) for columns in (ours, theirs))
        for name in ("frames", "rewards", "streams", "steps"):
            np.testing.assert_array_equal(ours[game][name][rows], theirs[game][name][others])
    assert again.sample() is not None


def test_the_lock_is_held_for_a_few_entries_at_a_time(tmp_path, monkeypatch):
    shard = make_shard()
    keeper = keep(shard, tmp_path)
    Players(shard).play(12)
    num_held = sum(table.size for table in shard.stats().tables.values())
    copied = []
    locked, columns = ReplayShard.locked, TransitionRing.columns

    @contextmanager
    def counted_locked(self):
        copied.append(0)
        with locked(self) as parts:
            yield parts

    def counted_columns(self, slots):
        copied[-1] += len(slots)
        return columns(self, slots)

    monkeypatch.setattr(ReplayShard, "locked", counted_locked)
    monkeypatch.setattr(TransitionRing, "columns", counted_columns)
    assert keeper.save()
    assert sum(copied) == num_held
    assert max(copied) == 5


# What is refused


def damaged(path: Path, how: str) -> None:
    data = path.read_bytes()
    if how == "cut short":
        path.write_bytes(data[: len(data) // 2])
    elif how == "a bit turned":
        path.write_bytes(data[:-5] + bytes([data[-5] ^ 16]) + data[-4:])
    elif how == "emptied":
        path.write_bytes(b"")
    elif how == "of another version":
        path.write_bytes(data.replace(b"form 1", b"form 9", 1))
    else:
        path.unlink()


@pytest.mark.parametrize(
    "how", ["cut short", "a bit turned", "emptied", "of another version", "missing"]
)
@pytest.mark.parametrize("kind", ["manifest", "state", "segment"])
def test_a_damaged_snapshot_is_refused_by_name_and_the_one_before_is_used(tmp_path, kind, how):
    shard, keeper = played_and_saved(tmp_path)
    before = contents(shard)
    names = names_in(folder_of(tmp_path), "")
    Players(shard, first_actor=10).play(1)
    assert keeper.save()
    new = names_in(folder_of(tmp_path), "") - names
    name = max(n for n in new if n.startswith("pong-" if kind == "segment" else kind))
    damaged(folder_of(tmp_path) / name, how)
    again, second = restored(tmp_path)
    if (kind, how) != ("manifest", "missing"):  # Nothing tells that there was one.
        assert any(name in line and "not used" in line for line in second.stats().notes)
    for game in GAMES:
        np.testing.assert_array_equal(
            contents(again)[game]["generations"], before[game]["generations"]
        )
    assert again.sample() is not None


@pytest.mark.parametrize(
    "shorten",
    [lambda limiters, owed: (limiters[:-1], owed), lambda limiters, owed: (limiters, owed[:-1])],
)
def test_a_pace_of_another_number_of_games_is_refused(tmp_path, shorten, monkeypatch):
    state = Pacing.state
    monkeypatch.setattr(Pacing, "state", lambda self: shorten(*state(self)))
    played_and_saved(tmp_path)
    monkeypatch.undo()
    again, keeper = restored(tmp_path)
    assert any("not used" in line for line in keeper.stats().notes)
    assert all(stats.size == 0 for stats in again.stats().tables.values())


@pytest.mark.parametrize("end", [".msgpack", ".seg"])
def test_a_sound_file_of_another_snapshot_is_not_taken_for_the_one_that_belongs_there(
    tmp_path, end
):
    shard, keeper = played_and_saved(tmp_path)
    before = contents(shard)
    Players(shard, first_actor=10).play(3)
    assert keeper.save()
    older, *_, newest = sorted(
        path
        for path in folder_of(tmp_path).iterdir()
        if path.name.endswith(end) and not path.name.startswith("manifest")
    )
    newest.write_bytes(older.read_bytes())
    again, keeper = restored(tmp_path)
    assert f"{newest.name}: not the file that belongs to this snapshot" in keeper.stats().notes[0]
    for game in GAMES:
        np.testing.assert_array_equal(
            contents(again)[game]["generations"], before[game]["generations"]
        )


def test_a_shard_none_of_whose_snapshots_can_be_used_begins_empty_and_says_so(tmp_path):
    _, keeper = played_and_saved(tmp_path)
    keeper.close()
    for path in folder_of(tmp_path).glob("*.seg"):
        damaged(path, "cut short")
    again, second = restored(tmp_path)
    assert all(table.size == 0 for table in again.stats().tables.values())
    (refusal, summary) = second.stats().notes
    assert ".seg: cut short or damaged" in refusal
    assert "begins empty" in summary
    Players(again, first_actor=10).play(3)
    assert second.save()
    third, _ = restored(tmp_path)
    assert_same_contents(again, third)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"games": ("pong", "seaquest")}, "holds pong, boxing; this run has pong, seaquest"),
        ({"games": ("pong",)}, "holds pong, boxing; this run has pong"),
        ({"spec": {"num_stack": 3}}, "num_stack of pong is 2 there and 3 in this run"),
        (
            {"spec": {"num_teacher_features": 5}},
            "num_teacher_features of pong is 2 there and 5 in this run",
        ),
    ],
)
def test_snapshots_of_other_games_or_shapes_are_refused(tmp_path, options, reason):
    played_and_saved(tmp_path)
    again, keeper = restored(tmp_path, **options)
    assert reason in keeper.stats().notes[0]
    assert all(table.size == 0 for table in again.stats().tables.values())


def test_a_file_that_unpacks_to_something_else_is_refused(tmp_path):
    played_and_saved(tmp_path)
    path = folder_of(tmp_path) / manifest_name(1)
    for content in ([1, 2], {"created": 0.0}, {"created": []}):
        payload = msgpack.packb(content)
        head = path.read_bytes().partition(b"\n")[0] + b"\n"
        path.write_bytes(head + hashlib.blake2b(payload, digest_size=32).digest() + payload)
        again, keeper = restored(tmp_path)
        assert path.name in keeper.stats().notes[0]
        assert all(table.size == 0 for table in again.stats().tables.values())


# A disk that is full


class FullDisk:
    """Puts files on disk until a test says that it is full."""

    def __init__(self) -> None:
        self.room = 10**6

    def __call__(self, path: Path, data: bytes) -> None:
        if self.room < 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.room -= 1
        write_atomically(path, data)


@pytest.mark.parametrize("room", range(5))
def test_a_full_disk_is_survived_noted_once_and_leaves_the_old_snapshot_intact(tmp_path, room):
    disk = FullDisk()
    shard = make_shard()
    keeper = keep(shard, tmp_path, write=disk)
    players = Players(shard)
    players.play(6)
    assert keeper.save()
    before = contents(shard)
    files = names_in(folder_of(tmp_path), "")
    disk.room = room  # The next snapshot needs more: four segments, a state, a manifest.
    for _ in range(3):
        players.play(4)
        assert not keeper.save()
        assert shard.sample() is not None
        disk.room = room
    assert names_in(folder_of(tmp_path), "") == files, "half a snapshot fills the disk further"
    stats = keeper.stats()
    assert stats.snapshots.failures == 3
    assert len([line for line in stats.notes if "No space left on device" in line]) == 1
    again, _ = restored(tmp_path)
    for game in GAMES:
        np.testing.assert_array_equal(
            contents(again)[game]["generations"], before[game]["generations"]
        )
    # With room again, it goes on.
    disk.room = 100
    assert keeper.save()
    latest, _ = restored(tmp_path, seed=3)
    assert_same_contents(shard, latest)


def test_a_ledger_that_cannot_be_written_is_noted_once_and_is_whole_once_it_can(tmp_path):
    folder_of(tmp_path).parent.mkdir(exist_ok=True)
    in_the_way = folder_of(tmp_path)
    in_the_way.touch()  # Where its folder should be.
    shard = make_shard()
    keeper = keep(shard, tmp_path)
    players = Players(shard)
    players.play(2)
    (line,) = keeper.stats().notes
    assert f"could not write its ledger to {in_the_way} ([Errno 17]" in line
    in_the_way.unlink()
    players.play(1)
    stored = sum(table.counts.inserted for table in shard.stats().tables.values())
    assert keep(make_shard(), tmp_path).stats().transitions_lost == stored > 0
    assert len(keeper.stats().notes) == 1


def test_a_ledger_of_which_only_a_part_fits_on_the_disk_is_not_taken_for_a_whole_one(
    tmp_path, monkeypatch
):
    write = os.pwrite
    with monkeypatch.context() as patch:
        patch.setattr("os.pwrite", lambda fd, data, offset: write(fd, data[:100], offset))
        (line,) = keep(make_shard(), tmp_path).stats().notes
    assert "No space left on device" in line
    # That a process had begun is not known, so it does not seem to be the second one.
    assert keep(make_shard(), tmp_path).stats().notes == ()


@pytest.mark.parametrize("count", [-1, 2**63 - 1])
def test_a_ledger_of_numbers_that_no_run_reaches_is_not_believed(tmp_path, count):
    keep(make_shard(), tmp_path)
    (path,) = tmp_path.rglob("ledger")
    data = path.read_bytes()
    path.write_bytes(data[:-8] + struct.pack("<q", count))  # The last game's next generation.
    shard = make_shard()
    assert keep(shard, tmp_path).stats().transitions_lost == 0
    Players(shard).play(2)
    shard.check_valid()


# A process that is killed


def test_what_a_killed_process_had_stored_since_its_snapshot_is_counted(tmp_path):
    clock = Clock()
    shard = make_shard()
    keeper = keep(shard, tmp_path, now=clock)
    players = Players(shard)
    players.play(4)
    assert keeper.save()
    saved = {game: table.counts.inserted for game, table in shard.stats().tables.items()}
    players.play(2)
    lost = sum(table.counts.inserted - saved[game] for game, table in shard.stats().tables.items())
    clock.now += 17.0
    # Nothing is closed: this is all that a killed process leaves.
    again = make_shard()
    second = keep(again, tmp_path, now=clock)
    assert second.stats().transitions_lost == lost > 0
    assert second.stats().snapshots.age_s == 17.0
    assert second.stats().snapshots.has_restored
    (line,) = second.stats().notes
    assert f"from a snapshot of 17 s ago; {lost} transitions stored since are gone" in line
    # What is gone is counted once, though the next process dies before it has stored anything.
    assert keep(make_shard(), tmp_path, now=clock).stats().transitions_lost == 0


def test_no_key_of_a_killed_process_is_ever_that_of_another_transition(tmp_path):
    shard, _ = played_and_saved(tmp_path)
    players = Players(shard, first_actor=10)
    players.play(3)  # Not on disk.
    keys = [shard.sample() for _ in range(6)]
    given_out = {key for batch in keys for key in keys_of(batch)}
    again, _ = restored(tmp_path)
    kept = {
        (index, generation)
        for index, columns in enumerate(contents(again).values())
        for generation in columns["generations"].tolist()
    }
    assert given_out - kept, "the test needs keys that are gone"
    Players(again, first_actor=20, seed=7).play(3)
    new = {
        (index, generation)
        for index, columns in enumerate(contents(again).values())
        for generation in columns["generations"].tolist()
    } - kept
    assert not new & given_out
    before = again.stats()
    for batch in keys:
        priorities = np.full(batch.batch_size, 9.0, np.float32)
        again.update_priorities(PriorityUpdate(keys=batch.keys, priorities=priorities))
    after = again.stats()
    stale = sum(after.tables[g].counts.stale_priorities for g in GAMES) - sum(
        before.tables[g].counts.stale_priorities for g in GAMES
    )
    assert stale >= sum(key not in kept for batch in keys for key in keys_of(batch))
    again.check_valid()
    for (index, generation), columns in zip(
        ((i, g) for i, c in enumerate(contents(again).values()) for g in c["generations"].tolist()),
        (p for c in contents(again).values() for p in c["priorities"].tolist()),
        strict=True,
    ):
        if (index, generation) in new:
            assert columns != 9.0


def test_a_shard_without_snapshots_never_gives_out_a_key_twice_either(tmp_path):
    shard = make_shard(snapshot_period_s=0.0)
    keep(shard, tmp_path)
    Players(shard).play(4)
    generations = contents(shard)["pong"]["generations"]
    again = make_shard(snapshot_period_s=0.0)
    second = keep(again, tmp_path)
    assert second.stats().transitions_lost > 0
    Players(again).play(1)
    assert contents(again)["pong"]["generations"][0] > generations[-1]


def test_a_process_that_dies_again_and_again_is_not_begun_again(tmp_path):
    clock = Clock()
    for _ in range(MAX_BEGINNINGS):
        keep(make_shard(), tmp_path, now=clock)
        clock.now += 5.0
    with pytest.raises(ValueError, match="replay shard 0 has died 5 times within 60 s"):
        keep(make_shard(), tmp_path, now=clock)
    # Another session of the run may try, and so may this one after a while.
    keep(make_shard(), tmp_path, now=clock, session="two")
    clock.now += 100.0
    keep(make_shard(), tmp_path, now=clock, session="two")


def test_a_snapshot_that_kills_its_reader_is_not_read_for_ever(tmp_path, monkeypatch):
    shard, keeper = played_and_saved(tmp_path)
    Players(shard, first_actor=10).play(1)
    assert keeper.save()

    class Killed(BaseException):
        """As if the system had ended the process."""

    def die(*args, **kwargs):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("replay.snapshots.restore._restore_own", die)
        with pytest.raises(Killed):
            keep(make_shard(), tmp_path)
    again, second = restored(tmp_path)
    assert "died while reading it" in second.stats().notes[0]
    assert all(table.size > 0 for table in again.stats().tables.values())


# Another number of shards


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1), (2, 3)])
def test_another_number_of_shards_divides_what_is_there(tmp_path, before, after):
    saved: dict[str, set] = {game: set() for game in GAMES}
    highest = dict.fromkeys(GAMES, -1)
    for number in range(before):
        shard = make_shard(shard=number, num_shards=before, spec={"capacity": 400})
        keeper = keep(shard, tmp_path)
        for actor in range(6):
            if actor % before == number:
                Players(shard, first_actor=2 * 2 * 3 * actor, seed=actor).play(4)
        assert keeper.save()
        for game, columns in contents(shard).items():
            saved[game] |= set(map(tuple, np.c_[columns["streams"], columns["steps"]].tolist()))
        for game, columns in contents(shard).items():
            highest[game] = max(highest[game], int(columns["generations"][-1]))
    found: dict[str, list] = {game: [] for game in GAMES}
    for number in range(after):
        shard = make_shard(shard=number, num_shards=after, spec={"capacity": 400})
        keeper = keep(shard, tmp_path, session="two")
        shard.check_valid()
        for game, columns in contents(shard).items():
            found[game] += map(tuple, np.c_[columns["streams"], columns["steps"]].tolist())
            if len(columns["generations"]):
                assert columns["generations"][0] > highest[game]
        assert keeper.stats().transitions_lost == 0
        assert keeper.save()
    for game in GAMES:
        assert len(found[game]) == len(saved[game])
        assert set(found[game]) == saved[game]
    clear_snapshots(tmp_path, keep_num_shards=after)
    assert len(list(tmp_path.iterdir())) == after
    again = make_shard(num_shards=after, spec={"capacity": 400})
    assert keep(again, tmp_path).stats().snapshots.has_restored


def test_priorities_go_along_when_shards_are_divided_anew(tmp_path):
    shard = make_shard()
    keeper = keep(shard, tmp_path)
    Players(shard).play(4)
    assert keeper.save()
    batch = shard.sample()
    priorities = np.full(batch.batch_size, 77.0, np.float32)
    shard.update_priorities(PriorityUpdate(keys=batch.keys, priorities=priorities))
    assert keeper.save()
    found = []
    for number in range(2):
        part = make_shard(shard=number, num_shards=2)
        keep(part, tmp_path, session="two")
        found += [p for c in contents(part).values() for p in c["priorities"].tolist()]
    assert found.count(77.0) == len(set(keys_of(batch)))


def test_the_highest_number_of_an_actor_is_known_from_the_snapshots(tmp_path):
    assert newest_serial(tmp_path) == -1
    shard = make_shard()
    keeper = keep(shard, tmp_path)
    Players(shard, first_actor=41).play(2)
    assert keeper.save()
    assert newest_serial(tmp_path) == 42


# The thread


class Pauses:
    """Waits by a clock that it sets forward itself, so many times; then the keeper is stopped."""

    def __init__(self, clock: Clock, num_pauses: int) -> None:
        self.clock = clock
        self.num_left = num_pauses
        self.waited = []

    def wait(self, seconds: float) -> bool:
        self.waited.append(seconds)
        self.clock.now += seconds
        self.num_left -= 1
        return self.num_left < 0


@pytest.mark.parametrize(
    ("writing_s", "pauses"),
    [
        ([1.0, 2.0, 3.0], [30.0, 30.0, 30.0, 30.0]),
        ([4.0, 20.0, 1.0], [30.0, 36.0, 180.0, 30.0]),
    ],
)
@pytest.mark.parametrize("is_full", [False, True])
def test_a_pause_is_the_period_or_nine_times_what_the_snapshot_before_it_took(
    tmp_path, writing_s, pauses, is_full
):
    clock = Clock()
    to_come = list(writing_s)

    def write(path: Path, data: bytes) -> None:
        if path.name.startswith("state"):
            clock.now += to_come.pop(0)
            Players(shard, first_actor=2 * len(to_come)).play(1)  # So that there is more to write.
        if is_full and path.name.startswith("manifest"):
            raise OSError(errno.ENOSPC, "No space left on device")
        write_atomically(path, data)

    shard = make_shard()
    keeper = keep(shard, tmp_path, write=write, period_s=30.0, now=clock, clock=clock)
    keeper._stopped = Pauses(clock, len(writing_s))
    Players(shard, first_actor=50).play(1)
    keeper._run()
    assert keeper._stopped.waited == pauses
    assert keeper.stats().snapshots.failures == (len(writing_s) if is_full else 0)


def test_a_crash_loses_at_worst_what_came_in_two_writes_and_the_pause_between_them(tmp_path):
    clock = Clock()
    to_come = [4.0, 20.0, 1.0]
    ages = []

    def write(path: Path, data: bytes) -> None:
        if path.name.startswith("state"):
            clock.now += to_come.pop(0)
            Players(shard, first_actor=2 * len(to_come)).play(1)
        if path.name.startswith("manifest"):
            ages.append(keeper.stats().snapshots.age_s)
        write_atomically(path, data)

    shard = make_shard()
    keeper = keep(shard, tmp_path, write=write, period_s=30.0, now=clock, clock=clock)
    keeper._stopped = Pauses(clock, 3)
    Players(shard, first_actor=50).play(1)
    keeper._run()
    # All but complete: whoever begins now begins from the one before.
    assert ages == [None, 4.0 + 36.0 + 20.0, 20.0 + 180.0 + 1.0]


def test_a_thread_writes_snapshots_and_ends_with_the_keeper(tmp_path):
    shard = make_shard()
    keeper = keep(shard, tmp_path, period_s=0.001)
    Players(shard).play(3)
    keeper.start()
    waiting = threading.Event()
    for _ in range(10_000):
        if keeper.stats().snapshots.num_written:
            break
        waiting.wait(0.01)
    keeper.close()
    assert keeper.stats().snapshots.num_written >= 1
    assert not [thread for thread in threading.enumerate() if thread.name == "snapshots"]
    again, _ = restored(tmp_path)
    assert_same_contents(shard, again)
