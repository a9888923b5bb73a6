"""Keeps one shard's snapshots: begins from the newest, writes new ones beside the shard's work."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from replay.shard import ReplayShard
from replay.snapshots.ledger import Ledger
from replay.snapshots.restore import Restored, restore_newest, shard_folder
from replay.snapshots.snapshot import SnapshotWriter
from replay.snapshots.snapshot_files import Writer, delete_others
from replay.stats import ShardStats, SnapshotStats
from replay.storage.table import ReplayTable

MAX_BEGINNINGS = 5
# A shard's process that begins more than so often in so many seconds is not begun again.
WINDOW_S = 60.0

# Share of the time that may go into writing snapshots; a slow disk gets fewer of them.
_BUDGET = 0.1

_MAX_NOTES = 50


class ShardKeeper:
    """One shard's past and future on disk."""

    def __init__(
        self,
        shard: ReplayShard,
        root: Path,
        *,
        write: Writer,
        session: str = "",
        period_s: float | None = None,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Fill the shard, which nobody uses yet, from its newest snapshot that can be used.

        `session` tells this session of the run from the ones before; it is the same for every
        process that takes the place of one that died. `period_s` is the config's, if None; 0: none
        are read or written. ValueError if the shard's process has died again and again.
        """
        config = shard.config
        self._shard = shard
        self._root = root
        self._folder = shard_folder(root, shard.number, config.num_shards)
        self._period_s = config.snapshot_period_s if period_s is None else period_s
        self._now = now
        self._clock = clock
        self._writing_s = 0.0
        self._telling = threading.Lock()
        self._notes: list[str] = []
        self._num_notes = 0
        self._lost = 0
        self._stats = SnapshotStats()
        self._written_at: float | None = None
        self._last_counts: object = None
        self._has_failed = False
        self._has_told_of_ledger = False
        self._saving = threading.Lock()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._ledger = Ledger(self._folder / "ledger", len(shard.games), session=session)
        restored = self._begin()
        self._writer = SnapshotWriter(
            shard,
            self._folder,
            begun_from=restored.files if restored else None,
            write=write,
            now=now,
        )
        shard.observe(self._note_insert)

    def _begin(self) -> Restored | None:
        ledger, games = self._ledger, self._shard.games
        is_replacement = ledger.is_this_session
        self._check_beginnings()
        ledger.begin(self._now())
        skipped = {ledger.reading} - {0}
        restored = None
        if self._period_s:
            restored = restore_newest(
                self._shard,
                self._root,
                num_added=dict(zip(games, ledger.num_added, strict=True)),
                skipped=skipped,
                about_to_read=ledger.set_reading,
                note=self._note,
            )
        if restored is None:
            begin_after(self._shard, ledger.num_added)
        self._tell(restored, is_replacement)
        ledger.set_reading(0)
        with self._shard.locked() as parts:
            ledger.set_games(
                [table.counts.inserted for table in parts.tables],
                [table.ring.num_added for table in parts.tables],
            )
        self._check_ledger()
        return restored

    def _check_beginnings(self) -> None:
        recent = [t for t in self._ledger.beginnings if self._now() - t < WINDOW_S]
        if len(recent) < MAX_BEGINNINGS:
            return
        doing = (
            f"while reading snapshot {self._ledger.reading} in {self._folder}"
            if self._ledger.reading
            else "while it was at work; the system's log may say whether memory ran out"
        )
        raise ValueError(
            f"the process of replay shard {self._shard.number} has died {len(recent)} times within "
            f"{WINDOW_S:g} s, the last time {doing}"
        )

    def _tell(self, restored: Restored | None, is_replacement: bool) -> None:
        """Note what was restored and what is gone."""
        games = self._shard.games
        before = restored.inserted if restored else dict.fromkeys(games, 0)
        gone = sum(
            min(max(0, inserted - before[game]), spec.capacity)
            for game, inserted, spec in zip(
                games, self._ledger.inserted, self._shard.specs, strict=True
            )
        )
        if restored is not None and restored.files is None:
            gone = 0  # The ledger is that of shards that are no more.
        if is_replacement:
            self._lost = gone
        if restored is not None:
            stats = self._shard.stats()
            held = sum(table.size for table in stats.tables.values())
            age = max(0.0, self._now() - restored.created)
            self._written_at = restored.created
            self._stats = replace(self._stats, has_restored=True)
            self._note(
                f"replay shard {self._shard.number} goes on with {held} entries from a snapshot of "
                f"{age:.0f} s ago; {gone} transitions stored since are gone"
            )
        elif is_replacement:
            self._note(
                f"replay shard {self._shard.number} begins empty; the {gone} transitions that it "
                "held are gone"
            )

    def _note_insert(self, index: int, table: ReplayTable) -> None:
        self._ledger.note(index, table.counts.inserted, table.ring.num_added)
        self._check_ledger()

    def _check_ledger(self) -> None:
        """Note it once if what the next process must know cannot be written down."""
        if self._ledger.error is None or self._has_told_of_ledger:
            return
        self._has_told_of_ledger = True
        self._note(
            f"replay shard {self._shard.number} could not write its ledger to {self._folder} "
            f"({self._ledger.error}); it tries again with every chunk, and as long as it cannot, "
            "nobody knows what is gone if its process dies"
        )

    def start(self) -> None:
        """Write a snapshot every so often, in a thread, until `close`."""
        if self._period_s and self._thread is None:
            self._thread = threading.Thread(target=self._run, name="snapshots", daemon=True)
            self._thread.start()

    @property
    def pause_s(self) -> float:
        """Seconds from the end of one snapshot to the beginning of the next by the thread."""
        return max(self._period_s, self._writing_s * (1 / _BUDGET - 1))

    def _run(self) -> None:
        while not self._stopped.wait(self.pause_s):
            self.save()

    def save(self) -> bool:
        """Write a snapshot, unless nothing has changed since the last one; whether all is on disk.

        If not, why is noted once, until one succeeds again.
        """
        try:
            return self._save()
        finally:
            # A snapshot needs the bytes of a few segments at a time.
            return_free_memory()

    def _save(self) -> bool:
        with self._saving:
            counts = [table.counts for table in self._shard.stats().tables.values()]
            if counts == self._last_counts:
                return True
            begun, begun_at = self._clock(), self._now()
            try:
                self._writer.write()
            except Exception as error:
                # Training goes on without: a full disk, for example, may have room again later.
                self._stats = replace(self._stats, failures=self._stats.failures + 1)
                if not self._has_failed:
                    self._note(
                        f"replay shard {self._shard.number} could not write a snapshot to "
                        f"{self._folder} ({error}); the one before stays, and it tries again"
                    )
                self._has_failed = True
                return False
            finally:
                self._writing_s = self._clock() - begun
            self._has_failed = False
            self._last_counts = counts
            self._written_at = begun_at
            self._stats = replace(
                self._stats,
                num_bytes=self._writer.num_bytes,
                num_bytes_written=self._writer.num_bytes_written,
                duration_s=self._writing_s,
                longest_hold_s=self._writer.longest_hold_s,
                num_written=self._stats.num_written + 1,
            )
            return True

    def stats(self) -> ShardStats:
        """The shard's, with what is known here."""
        age = None if self._written_at is None else max(0.0, self._now() - self._written_at)
        with self._telling:
            notes, num_notes = tuple(self._notes), self._num_notes
        return replace(
            self._shard.stats(),
            snapshots=replace(self._stats, age_s=age),
            transitions_lost=self._lost,
            notes=notes,
            num_notes=num_notes,
        )

    def close(self) -> None:
        """Write no more by itself; waits for a snapshot that is being written."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()
        self._ledger.close()

    def _note(self, line: str) -> None:
        # Bounded: a shard that cannot write for days has nothing new to say.
        with self._telling:
            self._notes = [*self._notes, line][-_MAX_NOTES:]
            self._num_notes += 1


def begin_after(shard: ReplayShard, num_added: Sequence[int]) -> None:
    """Have an empty shard give out generations from these on, game by game.

    So no key that an earlier process gave out is ever that of another transition.
    """
    with shard.locked() as parts:
        for table, generation in zip(parts.tables, num_added, strict=True):
            table.ring.restore([], num_added=generation)


def clear_snapshots(root: Path, *, keep_num_shards: int | None = None) -> None:
    """Delete all snapshots of a run, or those that were taken with another number of shards."""
    for folder in root.glob("shard-*-of-*"):
        if keep_num_shards is None or not folder.name.endswith(f"-of-{keep_num_shards}"):
            with suppress(OSError):  # What the user has put there stays.
                delete_others(folder, ())
                (folder / "ledger").unlink(missing_ok=True)
                folder.rmdir()


def return_free_memory() -> None:
    """Give whole free pages back to the system; takes milliseconds. Does nothing without glibc."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
