"""Snapshots of the shards of a run in one process: taken between two rounds, never beside them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from networks.atomic_file import write_atomically
from replay.shard import ReplayShard
from replay.snapshots.keeper import ShardKeeper, clear_snapshots
from replay.snapshots.restore import newest_serial
from replay.stats import NoteReader, ShardStats


class LocalArchive:
    """Begins shards from their snapshots and writes new ones."""

    def __init__(
        self, shards: Sequence[ReplayShard], root: Path, *, note: Callable[[str], None]
    ) -> None:
        """Fill the shards, all of one run, from the snapshots under `root`."""
        # The highest number of any actor that they may have entries of; -1 without.
        self.newest_serial = newest_serial(root)
        self._root = root
        self._note = note
        self._period_s = shards[0].config.snapshot_period_s
        self._keepers = [ShardKeeper(shard, root, write=write_atomically) for shard in shards]
        self._readers = [NoteReader() for _ in shards]
        self._saved = time.monotonic()
        self.stats()

    def maybe_save(self) -> None:
        """Save if it is time."""
        if time.monotonic() - self._saved >= self._period_s:
            self.save()

    def save(self) -> None:
        """Bring the snapshots up to date; those of another number of shards are deleted then."""
        are_saved = [keeper.save() for keeper in self._keepers]
        if all(are_saved):
            clear_snapshots(self._root, keep_num_shards=len(self._keepers))
        self._saved = time.monotonic()
        self.stats()

    def stats(self) -> list[ShardStats]:
        """Statistics of each shard; what their keepers have noted is passed on."""
        stats = [keeper.stats() for keeper in self._keepers]
        for reader, shard in zip(self._readers, stats, strict=True):
            for line in reader.new(shard):
                self._note(line)
        return stats

    def close(self) -> None:
        """Save for the last time."""
        self.save()
        for keeper in self._keepers:
            keeper.close()
