"""A replay shard: a slice of every game's table behind one lock, paced by samples per insert.

A plain class; `launch` turns it into a process. Any number of threads may call it: `add` and
`sample` wait on a condition until the pace lets them through or their time is up.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Unpack

import numpy as np

from replay.batches.draw import BatchLayout, check_tables, draw_batch, empty_batch, weigh_rows
from replay.config import ReplayConfig
from replay.pace.game_settings import GameSettings, SettingsChange, check_game_settings, check_quota
from replay.pace.pacing import Pacing, Waits
from replay.pace.slices import GameSlice
from replay.samplers import build_sampler
from replay.stats import ShardStats, stats_of_table
from replay.storage.ring import TableSpec
from replay.storage.table import ReplayTable
from replay.types import Chunk, PriorityUpdate, SampleBatch


@dataclass(frozen=True, slots=True)
class ShardParts:
    """The inside of a shard, for snapshots; to be touched only while its lock is held."""

    tables: list[ReplayTable]
    pacing: Pacing
    rng: np.random.Generator


class ReplayShard:
    """Tables of all games, the pace of inserting and sampling, and the batch's shares."""

    def __init__(
        self,
        config: ReplayConfig,
        tables: Sequence[TableSpec],
        *,
        settings: Mapping[str, GameSettings] | None = None,
        slices: Mapping[str, GameSlice] | None = None,
        shard: int = 0,
        seed: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Allocate the tables, whose order is that of the games in every batch.

        The capacities of `tables` are this shard's, all other sizes the run's. Settings of a game
        that are not given are equal shares and the config's cap; without its slice, all shards have
        a part of it. ValueError for tables whose transitions do not fit into one batch, or settings
        of other games or that make no sense.
        """
        check_tables(tables, batch_size=config.batch_size)
        # Of the whole run.
        self.config = config
        self.number = shard
        # In the order of `game_index`.
        self.games = tuple(spec.game for spec in tables)
        self._slices = dict.fromkeys(self.games, GameSlice(num_fed=config.num_shards))
        self._slices |= dict(slices or {})
        self._settings = {
            spec.game: GameSettings(
                quota=spec.capacity * self._slices[spec.game].num_fed,
                samples_per_insert_cap=config.samples_per_insert_cap,
            )
            for spec in tables
        }
        for game, chosen in (settings or {}).items():
            self._settings[self.games[self._index_of(game)]] = chosen
            check_game_settings(game, chosen, config)
        self._rng = np.random.default_rng([seed, shard])
        self._tables = [self.build_table(spec) for spec in tables]
        self._pacing = Pacing(config, self._tables, self._settings, self._slices)
        self._largest_chunk = np.zeros(len(tables), np.int64)
        self._observer: Callable[[int, ReplayTable], None] = lambda index, table: None
        self._condition = threading.Condition()
        self._closed = False
        self._adds = [Waits(clock) for _ in tables]
        self._samples = Waits(clock)
        self._clock = clock
        self._busy_s = 0.0
        self._chunk_bytes = 0
        self._batch_bytes = 0
        self._bytes_per_batch = BatchLayout.of_tables(tables, config.batch_size).num_bytes

    def build_table(self, spec: TableSpec) -> ReplayTable:
        """An empty table that is drawn from like this shard's, to be filled from a snapshot."""
        return ReplayTable(spec, sampler=build_sampler(self.config, spec), rng=self._rng)

    @property
    def specs(self) -> tuple[TableSpec, ...]:
        """Shapes of the tables, with the capacities now in force."""
        with self._condition:
            return tuple(table.spec for table in self._tables)

    @property
    def slices(self) -> dict[str, GameSlice]:
        """This shard's part of every game."""
        return dict(self._slices)

    def observe(self, observer: Callable[[int, ReplayTable], None]) -> None:
        """Have every chunk that is stored reported: (number of its game, table), lock held."""
        self._observer = observer

    @contextmanager
    def locked(self) -> Iterator[ShardParts]:
        """The inside, with everybody else kept out; hold it for milliseconds only."""
        with self._condition:
            yield ShardParts(self._tables, self._pacing, self._rng)
            self._condition.notify_all()

    def add(self, chunk: Chunk, *, timeout_s: float = 0.0) -> bool:
        """Store a chunk, waiting while the learner is behind; if False, the caller tries it again.

        Ends when the learner has sampled enough, when `close` is called, or after `timeout_s`.
        """
        index = self._index_of(chunk.game)
        # Refused before waiting: a chunk that can never be stored is not tried again and again.
        # Looked through only here, while others may be served.
        self._tables[index].ring.check_fits(chunk)
        size = chunk.num_transitions
        with self._condition:
            self._pacing.check_can_progress(index, size)
            is_let = self._wait_until(
                lambda: self._may_insert(index, size), timeout_s, self._adds[index]
            )
            if not is_let:
                self._condition.notify_all()  # Others may have waited for its turn to pass.
                return False
            with self._working():
                self._tables[index].add(chunk)
                self._observer(index, self._tables[index])
            self._largest_chunk[index] = max(self._largest_chunk[index], chunk.num_entries)
            self._chunk_bytes += chunk.num_bytes
            self._pacing.count_insert(index, size)
            self._condition.notify_all()
            return True

    def sample(
        self, *, timeout_s: float = 0.0, out: SampleBatch | None = None
    ) -> SampleBatch | None:
        """Draw a batch, into `out` if given, waiting while the actors are behind; None without one.

        Ends when enough was inserted, when `close` is called, or after `timeout_s`.
        """
        with self._condition:
            if not self._wait_until(self._pacing.can_sample, timeout_s, self._samples):
                return None
            if out is None:  # Before anything is counted: there may be no memory for it.
                out = empty_batch(self.specs, self.config.batch_size, shard=self.number)
            with self._working():
                counts = self._pacing.allot()
                self._count_yielded(counts)
                num_steps = draw_batch(self._tables, counts, out=out)
                weigh_rows(out, counts, self._pacing.loss_weights(num_steps))
                self._pacing.count_batch(num_steps)
            self._batch_bytes += self._bytes_per_batch
            self._condition.notify_all()
            return out

    def _count_yielded(self, counts: Sequence[int]) -> None:
        """Note of each game how much of its part of the next batch the others give."""
        for table, wanted, count in zip(self._tables, self._pacing.wanted, counts, strict=True):
            table.counts.yielded += max(0, wanted - count)

    @contextmanager
    def _working(self) -> Iterator[None]:
        """Counts the time in which nobody else can be served; the lock is held."""
        start = self._clock()
        try:
            yield
        finally:
            self._busy_s += self._clock() - start

    def _may_insert(self, index: int, size: int) -> bool:
        waiting = [other for other, waits in enumerate(self._adds) if waits.num_waiting]
        return self._pacing.can_insert(index, size, waiting=waiting)

    def _wait_until(self, is_let: Callable[[], bool], timeout_s: float, waits: Waits) -> bool:
        """Whether the pace lets the caller through in time; never once the shard is closed."""
        if not self._closed and is_let():
            return True
        with waits.waiting():
            self._condition.wait_for(lambda: self._closed or is_let(), timeout_s)
        return not self._closed and is_let()

    def update_priorities(self, update: PriorityUpdate) -> None:
        """Set priorities of transitions drawn earlier; those overwritten since are only counted.

        ValueError for keys of another shard or malformed priorities, before any is set.
        """
        keys, priorities = update.keys, update.priorities
        if keys.shard != self.number:
            raise ValueError(f"keys of replay shard {keys.shard} were sent to shard {self.number}")
        if not np.all((priorities >= 0) & (priorities <= np.finfo(np.float32).max)):
            raise ValueError("new priorities must be finite and not negative")
        with self._condition, self._working():
            for index in np.unique(keys.game_index).tolist():
                rows = keys.game_index == index
                self._tables[index].update_priorities(keys.generations[rows], priorities[rows])

    def configure(self, game: str, **change: Unpack[SettingsChange]) -> GameSettings:
        """Change what is set for a game from the next batch on; returns what is in force then.

        Another quota copies the game's table, which nobody can use meanwhile. A smaller one drops
        the oldest transitions, counted if they were never drawn.

        What is None stays as it is. The quota is the run's, of which this shard keeps its part.
        ValueError, and nothing has changed, for an unknown game, a value that makes no sense, or
        one with which actors and learner could wait for each other for ever.
        """
        with self._condition:
            wanted = self.check_configure(game, **change)
            self._apply(self._settings | {game: wanted}, self._slices)
            return wanted

    def check_configure(self, game: str, **change: Unpack[SettingsChange]) -> GameSettings:
        """What `configure` would put in force; raises what it would raise, and changes nothing."""
        index = self._index_of(game)
        with self._condition:
            wanted = self._settings[game].changed(**change)
            check_game_settings(game, wanted, self.config)
            if change.get("samples_per_insert_cap") is not None and self.config.pin_every_game:
                raise ValueError(
                    "replay.pin_every_game is True, so a cap on samples per insert has no meaning"
                )
            self._check_quota(index, wanted.quota, self._slices[game])
            self._pacing.check_change(self._settings | {game: wanted}, self._slices)
            return wanted

    def _check_quota(self, index: int, quota: int, part: GameSlice) -> None:
        largest = int(self._largest_chunk[index])
        check_quota(self._tables[index].spec, quota, part, largest_chunk=largest)

    def assign(self, slices: Mapping[str, GameSlice]) -> None:
        """Go on with other parts of some games, because their numbers of actors have changed.

        ValueError, and nothing changed, as for `configure`.
        """
        with self._condition:
            self.check_assign(slices)
            self._apply(self._settings, self._slices | dict(slices))

    def check_assign(self, slices: Mapping[str, GameSlice]) -> None:
        """Raises what `assign` would raise, and changes nothing."""
        with self._condition:
            for game, part in slices.items():
                self._check_quota(self._index_of(game), self._settings[game].quota, part)
            self._pacing.check_change(self._settings, self._slices | dict(slices))

    def _apply(self, settings: dict[str, GameSettings], slices: dict[str, GameSlice]) -> None:
        """Change capacities and pace; if there is no memory for it, nothing."""
        resized: dict[int, ReplayTable] = {}
        for index, (game, table) in enumerate(zip(self.games, self._tables, strict=True)):
            capacity = slices[game].part_of(settings[game].quota)
            if capacity != table.spec.capacity:
                spec = replace(table.spec, capacity=capacity)
                resized[index] = table.resized(capacity, build_sampler(self.config, spec))
        self._pacing.change(settings, slices)
        self._settings, self._slices = settings, slices
        for index, table in resized.items():
            self._tables[index] = table
        # A game that is fed no more may have been the last one that learning waited for.
        self._pacing.maybe_start()
        self._condition.notify_all()

    def can_sample(self) -> bool:
        """Whether `sample` would give a batch at once."""
        with self._condition:
            return not self._closed and self._pacing.can_sample()

    def stats(self) -> ShardStats:
        """All counters; those of one game are of the same moment."""
        tables = {}
        for index, game in enumerate(self.games):
            # One at a time: quantiles of dozens of games would hold everybody up.
            with self._condition:
                tables[game] = stats_of_table(
                    self._tables[index], self._settings[game], self._adds[index]
                )
        with self._condition:
            return ShardStats(
                tables=tables,
                limiter_error=self._pacing.total.error,
                sample_wait_s=self._samples.total_s,
                waiting_requests=self._samples.num_waiting,
                busy_s=self._busy_s,
                chunk_bytes=self._chunk_bytes,
                batch_bytes=self._batch_bytes,
            )

    def check_valid(self) -> None:
        """Raises ValueError if a table is inconsistent, or the pace has counted something else."""
        with self._condition:
            for table in self._tables:
                table.check_valid()
            self._pacing.check_valid()

    def close(self) -> None:
        """Wake all waiters; from now on nothing is stored or drawn."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()

    def _index_of(self, game: str) -> int:
        try:
            return self.games.index(game)
        except ValueError:
            raise ValueError(f"this replay holds {', '.join(self.games)}; not {game!r}") from None
