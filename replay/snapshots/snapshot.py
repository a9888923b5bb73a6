"""Snapshots of a shard on disk, taken piece by piece while inserting and sampling go on.

A ring is first in, first out, so its entries are written once, into segments that are never
changed again and are deleted when the ring has overwritten all of them. What does change, the
priorities and all counters, is one small file a snapshot (replay/snapshots/snapshot_files.py).

A snapshot shows the counters of one moment, its *cut*, and the entries stored before it. Its
priorities are copied after the cut, a stretch at a time, so they may be a little newer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from replay.shard import ReplayShard, ShardParts
from replay.snapshots.snapshot_files import (
    Document,
    FileEntry,
    Writer,
    delete_others,
    list_manifests,
    manifest_name,
    pack_array,
    pack_columns,
    segment_name,
    state_name,
    write_document,
)
from replay.storage.ring import TableSpec
from replay.types import STREAMS_PER_ACTOR_BITS, Columns, Int64Array

# Entries in a segment; the newest one has fewer and is written again by the next snapshot.
SEGMENT_ENTRIES = 2_048

_ENTRIES_AT_ONCE = 128
# Copied while the shard's lock is held: a millisecond or so of either.
_PRIORITIES_AT_ONCE = 32_768
# Snapshots; the one before the newest is there in case that one cannot be read.
_KEPT = 2


@dataclass(frozen=True, slots=True)
class Segment:
    """A file of entries, and what it holds."""

    file: FileEntry
    first: int
    # Generations from `first` to before `stop`; some of them may never have been given out.
    stop: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotFiles:
    """What a snapshot on disk consists of."""

    # All of its files, the manifest too.
    names: frozenset[str]
    # Files of entries of each game, oldest first.
    segments: dict[str, list[Segment]]
    # The highest number of any actor that it has entries of; -1 without entries.
    newest_serial: int


class SnapshotWriter:
    """Writes snapshots of one shard into one folder; used by one thread at a time."""

    def __init__(
        self,
        shard: ReplayShard,
        folder: Path,
        *,
        write: Writer,
        begun_from: SnapshotFiles | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Go on in `folder`; the shard has `begun_from` the snapshot in it, if from any."""
        self._shard = shard
        self._folder = folder
        self._write = write
        self._now = now
        self._segments: dict[str, list[Segment]] = {game: [] for game in shard.games}
        self._kept: list[frozenset[str]] = []
        self._newest_serial = -1
        if begun_from is not None:
            self._segments |= {game: list(s) for game, s in begun_from.segments.items()}
            self._kept.append(begun_from.names)
            self._newest_serial = begun_from.newest_serial
        self._number = max(list_manifests(folder), default=0)
        # The longest time that the shard's lock was held for a part of a snapshot.
        self.longest_hold_s = 0.0
        # Size of all files of the newest snapshot.
        self.num_bytes = 0
        self.num_bytes_written = 0

    def write(self) -> None:
        """Take a snapshot; after an OSError those before are as they were."""
        self._folder.mkdir(parents=True, exist_ok=True)
        before = {game: list(segments) for game, segments in self._segments.items()}
        number = self._number + 1
        written: list[FileEntry] = []
        try:
            cut = self._cut()
            games = []
            for index, counters in enumerate(cut["games"]):
                for segment in self._write_segments(index, counters):
                    written.append(segment.file)
                games.append(self._describe_game(index, counters))
            state = self._write_state(number, cut)
            written.append(state)
            self._write_manifest(number, games, state)
        except BaseException:
            # What no manifest names is of no use, and the disk may be full.
            for file in written:
                (self._folder / file.name).unlink(missing_ok=True)
            self._segments = before
            raise
        self._number = number
        self._prune(number, state)

    @contextmanager
    def _locked(self) -> Iterator[ShardParts]:
        with self._shard.locked() as parts:
            start = time.perf_counter()
            yield parts
            self.longest_hold_s = max(self.longest_hold_s, time.perf_counter() - start)

    def _cut(self) -> Document:
        """All counters, as of one moment."""
        with self._locked() as parts:
            limiters, owed = parts.pacing.state()
            return {
                "limiters": [list(state) for state in limiters],
                "owed": owed,
                "rng": _plain_ints(dict(parts.rng.bit_generator.state)),
                "games": [
                    {
                        "oldest": table.ring.oldest_generation,
                        "stop": table.ring.num_added,
                        "counts": asdict(table.counts),
                    }
                    for table in parts.tables
                ],
            }

    def _write_segments(self, index: int, cut: Document) -> Iterator[Segment]:
        """Write what the game has stored since the last snapshot."""
        game = self._shard.games[index]
        segments = [s for s in self._segments[game] if s.stop > cut["oldest"]]
        if segments and segments[-1].stop % SEGMENT_ENTRIES and segments[-1].stop < cut["stop"]:
            segments.pop()
        self._segments[game] = segments
        first = max(cut["oldest"], segments[-1].stop if segments else 0)
        while first < cut["stop"]:
            stop = min(cut["stop"], (first // SEGMENT_ENTRIES + 1) * SEGMENT_ENTRIES)
            columns = self._copy_entries(index, first, stop)
            if columns is not None:
                path = self._folder / segment_name(game, first, stop)
                file = write_document(path, pack_columns(columns), self._write)
                self.num_bytes_written += file.num_bytes
                segments.append(Segment(file, first, stop))
                yield segments[-1]
            first = stop

    def _copy_entries(self, index: int, first: int, stop: int) -> Columns | None:
        """The entries of these generations; None if there are none any more."""
        parts: list[dict[str, NDArray[np.generic]]] = []
        for start in range(first, stop, _ENTRIES_AT_ONCE):
            generations = np.arange(start, min(stop, start + _ENTRIES_AT_ONCE))
            with self._locked() as shard:
                ring = shard.tables[index].ring
                slots = ring.slots_of(generations)
                slots = slots[slots >= 0]
                if len(slots):
                    parts.append(ring.columns(slots))
        if not parts:
            return None
        columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        serials = columns["streams"].astype(np.int64) >> STREAMS_PER_ACTOR_BITS
        self._newest_serial = max(self._newest_serial, int(serials.max()))
        return columns

    def _describe_game(self, index: int, cut: Document) -> Document:
        game = self._shard.games[index]
        with self._locked() as parts:
            spec = parts.tables[index].spec
        return {
            "game": game,
            "shape": describe_shape(spec),
            "stop": cut["stop"],
            "segments": [
                [*_as_list(segment.file), segment.first, segment.stop]
                for segment in self._segments[game]
            ],
        }

    def _write_state(self, number: int, cut: Document) -> FileEntry:
        for index, game in enumerate(self._shard.games):
            cut["games"][index] |= self._copy_priorities(index, self._segments[game])
        file = write_document(self._folder / state_name(number), cut, self._write)
        self.num_bytes_written += file.num_bytes
        return file

    def _copy_priorities(self, index: int, segments: list[Segment]) -> Document:
        """What changes of the entries in these segments."""
        generations, priorities, times = [], [], []
        for first, stop in _stretches(segments):
            for start in range(first, stop, _PRIORITIES_AT_ONCE):
                wanted = np.arange(start, min(stop, start + _PRIORITIES_AT_ONCE))
                with self._locked() as parts:
                    table = parts.tables[index]
                    slots = table.ring.slots_of(wanted)
                    here = slots >= 0
                    generations.append(wanted[here])
                    priorities.append(table.ring["priorities"][slots[here]])
                    times.append(table.times_sampled(slots[here]))
        empty: Int64Array = np.zeros(0, np.int64)
        held = np.concatenate([empty, *generations])
        return {
            # Differences are nearly all ones, and so hardly take any room.
            "generation_steps": pack_array(np.diff(held, prepend=0)),
            "priorities": pack_array(np.concatenate([empty.astype(np.float32), *priorities])),
            "times_sampled": pack_array(np.concatenate([empty.astype(np.int32), *times])),
        }

    def _write_manifest(self, number: int, games: list[Document], state: FileEntry) -> None:
        config = self._shard.config
        document = {
            "created": self._now(),
            "shard": self._shard.number,
            "num_shards": config.num_shards,
            "samples_per_insert": config.samples_per_insert,
            "pin_every_game": config.pin_every_game,
            "newest_serial": self._newest_serial,
            "games": games,
            "state": _as_list(state),
        }
        file = write_document(self._folder / manifest_name(number), document, self._write)
        self.num_bytes_written += file.num_bytes
        segments = (segment for game in self._segments.values() for segment in game)
        self.num_bytes = file.num_bytes + state.num_bytes
        self.num_bytes += sum(segment.file.num_bytes for segment in segments)

    def _prune(self, number: int, state: FileEntry) -> None:
        """Delete what neither this snapshot nor the one before needs."""
        names = {segment.file.name for game in self._segments.values() for segment in game}
        names |= {state.name, manifest_name(number)}
        self._kept = [*self._kept, frozenset(names)][-_KEPT:]
        delete_others(self._folder, frozenset().union(*self._kept))


def describe_shape(spec: TableSpec) -> Document:
    """What entries of two tables must have in common."""
    entry = spec.entry
    shape = {
        "frame_shape": list(entry.frame_shape),
        "num_stack": spec.num_stack,
        "num_actions": entry.num_actions,
        "num_teacher_actions": entry.num_teacher_actions,
        "num_teacher_features": entry.num_teacher_features,
        "num_successors": spec.num_successors,
    }
    # Left out where there are none, so that they fit into what was written before there were any.
    return shape | ({"extra_columns": list(entry.extra_columns)} if entry.extra_columns else {})


def _stretches(segments: list[Segment]) -> Iterator[tuple[int, int]]:
    """(first, stop) of runs of segments without a gap between them."""
    first = stop = -1
    for segment in segments:
        if segment.first != stop:
            if stop > first:
                yield first, stop
            first = segment.first
        stop = segment.stop
    if stop > first:
        yield first, stop


def _as_list(file: FileEntry) -> list[Any]:
    return [file.name, file.num_bytes, file.digest]


def _plain_ints(node: Any) -> Any:
    """Integers as text: those of a random generator are wider than msgpack's."""
    if isinstance(node, dict):
        return {key: _plain_ints(value) for key, value in node.items()}
    return str(node) if isinstance(node, int) else node
