"""Fills a shard from snapshots on disk, or says in one line why a snapshot cannot be used.

A shard goes on from the newest snapshot of its own folder. If the run has another number of shards
now, the entries of all old shards are divided anew among those that the games' actors feed; pace
and counts then begin from there.

Nothing of a shard changes before a snapshot has been read and checked as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from replay.columns import select_rows
from replay.shard import ReplayShard
from replay.snapshots.snapshot import Segment, SnapshotFiles, describe_shape
from replay.snapshots.snapshot_files import (
    Document,
    FileEntry,
    SnapshotError,
    list_manifests,
    manifest_name,
    read_document,
    unpack_array,
    unpack_columns,
)
from replay.storage.table import ReplayTable, TableCounts
from replay.types import STREAMS_PER_ACTOR_BITS, Columns, Int64Array

_FOLDER = re.compile(r"^shard-(\d+)-of-(\d+)$")


def shard_folder(root: Path, shard: int, num_shards: int) -> Path:
    """Where one shard's snapshots lie."""
    return root / f"shard-{shard}-of-{num_shards}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What a shard began from."""

    # When the snapshot was taken, in seconds since 1970.
    created: float
    # Transitions of each game that had been stored until then.
    inserted: dict[str, int]
    # None where old shards were divided anew.
    files: SnapshotFiles | None


def restore_newest(
    shard: ReplayShard,
    root: Path,
    *,
    num_added: Mapping[str, int],
    skipped: Collection[int] = (),
    about_to_read: Callable[[int], None] = lambda number: None,
    note: Callable[[str], None] = lambda line: None,
) -> Restored | None:
    """Fill an empty shard from the newest snapshot that can be used; None if it stays empty.

    `num_added` are generations above any that were ever given out, by game; a snapshot's own count
    where they are higher. Snapshots in the shard's own folder whose numbers are in `skipped` are
    not read; `about_to_read` is told the number of each before it is. `note` is told in one line
    what could not be used, and why.
    """
    num_shards = shard.config.num_shards
    own = shard_folder(root, shard.number, num_shards)
    others = _newest_by_number_of_shards(root)
    others.pop(num_shards, None)
    # Not compared with this run's other shards: they may have saved what they took from there.
    if others and max(others.values()) > _newest_in(own):
        return _restore_divided(shard, root, max(others, key=others.__getitem__), note)
    for number in list_manifests(own):
        path = own / manifest_name(number)
        if number in skipped:
            note(f"{path}: not used, because the process died while reading it")
            continue
        about_to_read(number)
        try:
            return _restore_own(shard, own, number, num_added)
        except SnapshotError as error:
            note(f"{error}; this snapshot is not used")
    return None


def newest_serial(root: Path) -> int:
    """The highest number of any actor of which there may be entries in snapshots; -1 without."""
    manifests = [manifest for folder in _folders(root) for manifest in _readable(folder)]
    return max((manifest.newest_serial for manifest in manifests), default=-1)


def _readable(folder: Path) -> Iterator[_Manifest]:
    """The manifests in a folder that can be read, newest first."""
    for number in list_manifests(folder):
        with suppress(SnapshotError):
            yield _Manifest(folder, number)


class _Manifest:
    """One manifest, read and taken apart; SnapshotError if that is impossible."""

    def __init__(self, folder: Path, number: int) -> None:
        self.folder = folder
        self.path = folder / manifest_name(number)
        document = read_document(self.path)
        try:
            self.created = float(document["created"])
            self.samples_per_insert = float(document["samples_per_insert"])
            self.pin_every_game = bool(document["pin_every_game"])
            self.newest_serial = int(document["newest_serial"])
            self._state_file = FileEntry(*document["state"])
            self.shapes: dict[str, Document] = {g["game"]: g["shape"] for g in document["games"]}
            self.stops: dict[str, int] = {g["game"]: int(g["stop"]) for g in document["games"]}
            self.segments = {
                game["game"]: [
                    Segment(FileEntry(name, size, digest), int(first), int(stop))
                    for name, size, digest, first, stop in game["segments"]
                ]
                for game in document["games"]
            }
        except (KeyError, TypeError, ValueError) as error:
            raise SnapshotError(f"{self.path}: something is missing in it ({error})") from error

    @property
    def files(self) -> SnapshotFiles:
        segments = [segment.file.name for game in self.segments.values() for segment in game]
        return SnapshotFiles(
            names=frozenset([self.path.name, self._state_file.name, *segments]),
            segments=self.segments,
            newest_serial=self.newest_serial,
        )

    def check_fits(self, shard: ReplayShard) -> None:
        """Raises SnapshotError for other games, or transitions of other shapes."""
        if tuple(self.shapes) != shard.games:
            raise SnapshotError(
                f"{self.path}: holds {', '.join(self.shapes)}; this run has "
                f"{', '.join(shard.games)}"
            )
        for spec in shard.specs:
            there = self.shapes[spec.game]
            for name, value in describe_shape(spec).items():
                if there.get(name) != value:
                    raise SnapshotError(
                        f"{self.path}: {name} of {spec.game} is {there.get(name)} there and "
                        f"{value} in this run"
                    )

    def read_state(self) -> Document:
        return read_document(self.folder / self._state_file.name, self._state_file)

    def read_entries(self, game: str, *, oldest: int) -> Iterator[dict[str, NDArray[Any]]]:
        """Columns of the entries from generation `oldest` on, a segment at a time."""
        for segment in self.segments[game]:
            path = self.folder / segment.file.name
            document = read_document(path, segment.file)
            try:
                columns = unpack_columns(document)
                yield select_rows(columns, columns["generations"] >= oldest)
            except (ValueError, KeyError, IndexError) as error:
                raise SnapshotError(f"{path}: {error}") from error


@dataclass(frozen=True, slots=True)
class _Changing:
    """What a state file says of one game."""

    oldest: int
    counts: TableCounts
    generations: Int64Array
    priorities: NDArray[np.float32]
    times_sampled: NDArray[np.int32]

    @classmethod
    def of(cls, document: Document) -> _Changing:
        changing = cls(
            int(document["oldest"]),
            TableCounts(**{name: int(count) for name, count in document["counts"].items()}),
            np.cumsum(unpack_array(document["generation_steps"]), dtype=np.int64),
            unpack_array(document["priorities"]).astype(np.float32),
            unpack_array(document["times_sampled"]).astype(np.int32),
        )
        if not len(changing.generations) == len(changing.priorities) == len(changing.times_sampled):
            raise ValueError("columns of priorities differ in length")
        return changing


def _restore_own(
    shard: ReplayShard, folder: Path, number: int, num_added: Mapping[str, int]
) -> Restored:
    """Go on exactly where a snapshot of the same shard was taken."""
    manifest = _Manifest(folder, number)
    manifest.check_fits(shard)
    state = manifest.read_state()
    try:
        changing = [_Changing.of(document) for document in state["games"]]
        tables = [
            _restored_table(shard, index, manifest, game, num_added.get(name, 0))
            for index, (name, game) in enumerate(zip(shard.games, changing, strict=True))
        ]
        limiters = [
            (bool(started), int(inserts), int(samples))
            for _, (started, inserts, samples) in zip(
                ("all games", *shard.games), state["limiters"], strict=True
            )
        ]
        owed = [float(part) for _, part in zip(shard.games, state["owed"], strict=True)]
        generator = _ints(state["rng"])
        np.random.default_rng().bit_generator.state = generator  # Raises if it is none.
    except SnapshotError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise SnapshotError(f"{manifest.path}: {error}") from error
    config = shard.config
    same_pace = (manifest.samples_per_insert, manifest.pin_every_game) == (
        config.samples_per_insert,
        config.pin_every_game,
    )
    with shard.locked() as parts:
        parts.tables[:] = tables
        parts.rng.bit_generator.state = generator
        if same_pace:
            parts.pacing.load_state(limiters, owed)
        else:
            _count_anew(tables)
        parts.pacing.maybe_start()
    return Restored(
        created=manifest.created,
        inserted={g: c.counts.inserted for g, c in zip(shard.games, changing, strict=True)},
        files=manifest.files,
    )


def _restored_table(
    shard: ReplayShard, index: int, manifest: _Manifest, changing: _Changing, num_added: int
) -> ReplayTable:
    table, game = shard.build_table(shard.specs[index]), shard.games[index]
    table.restore(
        manifest.read_entries(game, oldest=changing.oldest),
        num_added=max(num_added, manifest.stops[game]),
        generations=changing.generations,
        priorities=changing.priorities,
        times_sampled=changing.times_sampled,
    )
    table.counts = replace(changing.counts)
    return table


def _restore_divided(
    shard: ReplayShard, root: Path, old_number: int, note: Callable[[str], None]
) -> Restored | None:
    """Take this shard's part of what `old_number` shards of this run held."""
    sources = []
    for folder in _folders(root, old_number):
        for number in list_manifests(folder):
            try:
                manifest = _Manifest(folder, number)
                manifest.check_fits(shard)
                state = manifest.read_state()
                sources.append((manifest, [_Changing.of(game) for game in state["games"]]))
                break
            except SnapshotError as error:
                note(f"{error}; this snapshot is not used")
            except (KeyError, TypeError, ValueError) as error:
                note(f"{manifest.path}: {error}; this snapshot is not used")
    if not sources:
        return None
    try:
        tables = [_divided_table(shard, index, sources) for index in range(len(shard.games))]
    except SnapshotError as error:
        note(f"{error}; replay begins empty")
        return None
    _count_anew(tables)
    with shard.locked() as parts:
        parts.tables[:] = tables
        parts.pacing.maybe_start()
    return Restored(
        created=min(manifest.created for manifest, _ in sources),
        inserted={
            game: table.counts.inserted for game, table in zip(shard.games, tables, strict=True)
        },
        files=None,
    )


def _divided_table(
    shard: ReplayShard, index: int, sources: list[tuple[_Manifest, list[_Changing]]]
) -> ReplayTable:
    """Entries of the actors that fall to this shard; keys of the old shards mean nothing here."""
    game = shard.games[index]
    part = shard.slices[game]
    rank = (shard.number - index) % shard.config.num_shards
    next_generation = max(manifest.stops[game] for manifest, _ in sources)

    def entries() -> Iterator[Columns]:
        nonlocal next_generation
        for manifest, games in sources:
            changing = games[list(manifest.shapes).index(game)]
            for columns in manifest.read_entries(game, oldest=changing.oldest):
                columns["priorities"] = _newest_priorities(columns, changing)
                serials = columns["streams"].astype(np.int64) >> STREAMS_PER_ACTOR_BITS
                mine = select_rows(columns, serials % part.num_fed == rank)
                count = len(mine["generations"])
                mine["generations"] = np.arange(next_generation, next_generation + count)
                next_generation += count
                yield mine

    table = shard.build_table(shard.specs[index])
    nothing: Int64Array = np.zeros(0, np.int64)
    try:
        table.restore(
            entries(),
            num_added=0,
            generations=nothing,
            priorities=nothing.astype(np.float32),
            times_sampled=nothing.astype(np.int32),
        )
    except SnapshotError:
        raise
    except ValueError as error:
        raise SnapshotError(f"{sources[0][0].folder.parent}: {error}") from error
    return table


def _newest_priorities(
    columns: Mapping[str, NDArray[Any]], changing: _Changing
) -> NDArray[np.float32]:
    """Priorities of entries as the state has them, else as they were stored."""
    priorities: NDArray[np.float32] = np.array(columns["priorities"], np.float32)
    if not len(changing.generations):
        return priorities
    places = np.searchsorted(changing.generations, columns["generations"])
    places = np.minimum(places, len(changing.generations) - 1)
    known = changing.generations[places] == columns["generations"]
    priorities[known] = changing.priorities[places[known]]
    return priorities


def _count_anew(tables: list[ReplayTable]) -> None:
    """Count what is held as inserted and never drawn, so that every pace can go on from there."""
    for table in tables:
        ring = table.ring
        held = int(np.count_nonzero(ring.links.is_transition[ring.held_slots()]))
        table.counts = TableCounts(inserted=held)


def _folders(root: Path, num_shards: int | None = None) -> list[Path]:
    """Folders of shards; of a run with so many, if given."""
    if not root.is_dir():
        return []
    matches = [(path, _FOLDER.match(path.name)) for path in root.iterdir() if path.is_dir()]
    return sorted(
        path
        for path, match in matches
        if match and (num_shards is None or int(match[2]) == num_shards)
    )


def _newest_by_number_of_shards(root: Path) -> dict[int, float]:
    """When the newest snapshot was taken, for every number of shards that the run has had."""
    newest: dict[int, float] = {}
    for folder in _folders(root):
        match = _FOLDER.match(folder.name)
        if match is not None and (created := _newest_in(folder)) >= 0:
            newest[int(match[2])] = max(newest.get(int(match[2]), created), created)
    return newest


def _newest_in(folder: Path) -> float:
    """When the newest snapshot in a folder was taken; -1 without one that can be read."""
    return next((manifest.created for manifest in _readable(folder)), -1.0)


def _ints(node: Any) -> Any:
    """The inverse of writing whole numbers as text."""
    if isinstance(node, dict):
        return {key: _ints(value) for key, value in node.items()}
    return int(node) if isinstance(node, str) and node.isdigit() else node
