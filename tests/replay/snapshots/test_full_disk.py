"""Snapshots on a disk that really is full: a small file system in memory, as root."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import runs
from replay_shards import GAMES, Players, assert_same_contents, contents, make_shard
from small_disks import SmallDisk, small_disk

import replay.snapshots.snapshot as snapshot_module
from networks.atomic_file import write_atomically
from replay.shard import ReplayShard
from replay.snapshots.keeper import ShardKeeper
from replay.snapshots.restore import shard_folder
from replay.types import PriorityUpdate

pytestmark = pytest.mark.slow


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk") as mounted:
        yield mounted


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot_module, "SEGMENT_ENTRIES", 16)


def keep(shard: ReplayShard, root: Path, **options) -> ShardKeeper:
    return ShardKeeper(shard, root, write=write_atomically, session="one", **options)


def wait_until(condition: Callable[[], object]) -> None:
    runs.wait_until(condition, timeout_s=60.0, what="it happens", period_s=0.01)


def play_and_learn(shard: ReplayShard, players: Players) -> None:
    """What actors and learner do between two snapshots."""
    players.play(2)
    batch = shard.sample()
    assert batch is not None
    priorities = np.linspace(0.5, 2.0, batch.batch_size, dtype=np.float32)
    shard.update_priorities(PriorityUpdate(keys=batch.keys, priorities=priorities))
    shard.check_valid()


@pytest.mark.parametrize("pages_left", [0, 1, 3])
def test_a_shard_outlives_a_full_disk_and_its_next_snapshot_is_whole(disk, pages_left):
    shard, twin = make_shard(), make_shard()
    keeper = keep(shard, disk.folder, period_s=0.01)
    crews = [(shard, Players(shard)), (twin, Players(twin))]
    for crew in crews:
        crew[1].play(6)
    assert keeper.save()
    before = contents(shard)
    folder = shard_folder(disk.folder, 0, 1)
    files = {path.name for path in folder.iterdir()}
    disk.fill(pages_left=pages_left)

    keeper.start()
    for round_number in range(1, 4):
        for crew in crews:
            play_and_learn(*crew)
        failures = 3 * round_number
        wait_until(lambda least=failures: keeper.stats().snapshots.failures >= least)
    stats = keeper.stats()
    assert stats.snapshots.num_written == 1
    (note,) = stats.notes
    assert "could not write a snapshot" in note
    assert os.strerror(errno.ENOSPC) in note
    # The table is that of a shard that never had a disk.
    assert_same_contents(shard, twin)
    # Whoever began now would begin from the old snapshot, and know what is gone.
    wait_until(lambda: {path.name for path in folder.iterdir()} == files)
    again = make_shard()
    other = keep(again, disk.folder)
    for game in GAMES:
        np.testing.assert_array_equal(contents(again)[game]["frames"], before[game]["frames"])
    stored = [table.counts.inserted for table in shard.stats().tables.values()]
    restored = [table.counts.inserted for table in again.stats().tables.values()]
    assert other.stats().transitions_lost == sum(stored) - sum(restored) > 0
    other.close()

    disk.clear()
    wait_until(lambda: keeper.stats().snapshots.num_written > 1)
    keeper.close()
    latest = make_shard(seed=3)
    assert keep(latest, disk.folder).stats().snapshots.has_restored
    assert_same_contents(shard, latest)
    latest.check_valid()


def test_a_shard_that_begins_on_a_full_disk_says_so_and_makes_up_for_it_later(disk):
    disk.fill(pages_left=0)
    shard = make_shard()
    keeper = keep(shard, disk.folder)
    players = Players(shard)
    players.play(2)
    (note,) = keeper.stats().notes
    assert "could not write its ledger" in note
    assert os.strerror(errno.ENOSPC) in note
    assert not keeper.save()
    disk.clear()
    players.play(1)
    assert keeper.save()
    players.play(1)
    again = make_shard()
    assert keep(again, disk.folder).stats().transitions_lost > 0
    assert again.stats().tables[GAMES[0]].size > 0
