"""A replay shard: a slice of every game's table behind one lock, paced by samples per insert.

A plain class; `launch` turns it into a process. Any number of threads may call it: `add` and
`sample` wait on a condition until the limiter lets them through or their time is up.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from replay.allotment import BatchAllotment
from replay.draw import check_tables, draw_batch
from replay.rate_limiter import SamplesPerInsertLimiter
from replay.ring import TableSpec
from replay.table import PrioritizedTable, TableCounts
from replay.types import Chunk, Int64Array, PriorityUpdate, SampleBatch


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayConfig:
    """Sampling and pacing; sizes are for the whole run and are divided among the shards."""

    batch_size: int = 128
    """Transitions the learner gets at once, all games together."""
    capacity_per_game: int = 100_000
    """Transitions kept of each game (paper: 100,000)."""
    min_size_per_game: int = 2_000
    """Learning starts when every game has this many transitions, or can hold no more (paper:
    10,000)."""
    samples_per_insert: float = 2.0
    """Transitions drawn per transition stored, all games together (paper: 2; Nature DQN: 8)."""
    samples_per_insert_cap: float = 8.0
    """The most one game's transitions are drawn, on average, however short of data it is; without
    meaning when every game is pinned."""
    error_buffer: float = 8_192.0
    """Samples that the learner may be ahead or behind before it, or the actors, must wait; of each
    replay process, and of each game when every game is pinned."""
    pin_every_game: bool = False
    """Hold each game by itself to `samples_per_insert` instead of only their sum (the paper's
    lock-step)."""
    priority_exponent: float = 0.6
    """Between 0, which draws uniformly, and 1 (paper: uniform; Ape-X: 0.6)."""
    num_shards: int = 1
    """Replay processes; each holds a slice of every game's table."""

    def __post_init__(self) -> None:
        """Refuse values that make no sense, naming them."""
        for name in ("batch_size", "capacity_per_game", "min_size_per_game", "num_shards"):
            if getattr(self, name) < 1:
                raise ValueError(f"replay.{name} must be at least 1, got {getattr(self, name)}")
        for name in ("samples_per_insert", "error_buffer"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(
                    f"replay.{name} must be positive and finite, got {getattr(self, name)}"
                )
        if not self.samples_per_insert <= self.samples_per_insert_cap < math.inf:
            raise ValueError(
                f"replay.samples_per_insert_cap ({self.samples_per_insert_cap}) must be finite and "
                f"not below replay.samples_per_insert ({self.samples_per_insert})"
            )
        if not 0.0 <= self.priority_exponent <= 1.0:
            raise ValueError(
                f"replay.priority_exponent must lie between 0 and 1, got {self.priority_exponent}"
            )
        if self.min_size_per_game > self.capacity_per_game:
            raise ValueError(
                f"replay.min_size_per_game ({self.min_size_per_game}) must not exceed "
                f"replay.capacity_per_game ({self.capacity_per_game})"
            )

    def per_shard(self) -> ReplayConfig:
        """The part of one shard, as the config of a run with that shard alone."""
        return replace(
            self,
            num_shards=1,
            capacity_per_game=-(-self.capacity_per_game // self.num_shards),
            min_size_per_game=-(-self.min_size_per_game // self.num_shards),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TableStats:
    """One game's slice in one shard."""

    size: int
    """Entries held."""
    ready: int
    """Transitions that can be drawn."""
    counts: TableCounts


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardStats:
    """What a shard has done since it started, and where its limiter stands."""

    tables: dict[str, TableStats]
    limiter_error: float
    """Samples that the learner is behind (positive) or ahead (negative)."""
    insert_wait_s: float
    """Time that callers of `add` have waited, summed over callers."""
    sample_wait_s: float
    """Time that callers of `sample` have waited."""
    num_adds_waiting: int
    """Callers of `add` that wait now."""
    num_samples_waiting: int
    """Callers of `sample` that wait now."""


@dataclass(slots=True)
class _Waits:
    """Callers of one method that wait for the limiter."""

    num_waiting: int = 0
    total_s: float = 0.0


class ReplayShard:
    """Tables of all games, the pace of inserting and sampling, and the batch's shares."""

    def __init__(
        self,
        config: ReplayConfig,
        tables: Sequence[TableSpec],
        *,
        shares: Mapping[str, float] | None = None,
        shard: int = 0,
        seed: int = 0,
    ) -> None:
        """Allocate the tables.

        Args:
            config: already divided by the number of shards (`ReplayConfig.per_shard`).
            tables: one for each game, in the order of the games in every batch.
            shares: relative part of the batch for each game; equal without.
            shard: number of this shard, stamped on every key.
            seed: of the draws.

        Raises:
            ValueError: no tables, two for one game, tables whose transitions do not fit into one
                batch, or shares of other games or not positive.
        """
        check_tables(tables)
        self._config = config
        self._shard = shard
        self._games = tuple(spec.game for spec in tables)
        self._rng = np.random.default_rng([seed, shard])
        self._tables = [
            PrioritizedTable(spec, priority_exponent=config.priority_exponent, rng=self._rng)
            for spec in tables
        ]
        share_of = dict.fromkeys(self._games, 1.0) | dict(shares or {})
        if len(share_of) > len(tables):
            raise ValueError(
                f"shares name {', '.join(sorted(set(share_of) - set(self._games)))}, but this "
                f"replay holds {', '.join(self._games)}"
            )
        self._allotment = BatchAllotment([share_of[g] for g in self._games], config.batch_size)
        self._total_limiter = SamplesPerInsertLimiter(
            config.samples_per_insert, config.error_buffer
        )
        self._game_limiters = [
            SamplesPerInsertLimiter(config.samples_per_insert, config.error_buffer) for _ in tables
        ]
        self._condition = threading.Condition()
        self._closed = False
        self._adds = _Waits()
        self._samples = _Waits()

    @property
    def games(self) -> tuple[str, ...]:
        """The games, in the order of `game_index`."""
        return self._games

    def add(self, chunk: Chunk, *, timeout_s: float = 0.0) -> bool:
        """Store a chunk, waiting while the learner is behind.

        Ends when the learner has sampled enough, when `close` is called, or after `timeout_s`.

        Returns:
            Whether the chunk was stored; if not, the caller keeps it and tries again.
        """
        index = self._index_of(chunk.game)
        # Refused before waiting: a chunk that can never be stored is not tried again and again.
        self._tables[index].check_fits(chunk)
        size = chunk.num_transitions
        self._check_can_progress(index, size)
        with self._condition:
            if not self._wait_until(lambda: self._can_insert(index, size), timeout_s, self._adds):
                return False
            self._tables[index].add(chunk)
            self._total_limiter.count_insert(size)
            self._game_limiters[index].count_insert(size)
            # After counting: the limiters count from the start, and this chunk came before it.
            self._maybe_start()
            self._condition.notify_all()
            return True

    def sample(self, *, timeout_s: float = 0.0) -> SampleBatch | None:
        """Draw a batch, waiting while the actors are behind.

        Ends when enough was inserted, when `close` is called, or after `timeout_s`.

        Returns:
            None if there is no batch yet.
        """
        with self._condition:
            if not self._wait_until(self._can_sample, timeout_s, self._samples):
                return None
            counts = self._allotment.allot(self._allowances())
            batch = draw_batch(
                self._tables,
                counts,
                loss_weights=self._allotment.loss_weights(counts),
                shard=self._shard,
            )
            self._allotment.advance()
            self._total_limiter.count_sample(self._config.batch_size)
            for limiter, count in zip(self._game_limiters, counts.tolist(), strict=True):
                limiter.count_sample(count)
            self._condition.notify_all()
            return batch

    def _wait_until(self, is_let: Callable[[], bool], timeout_s: float, waits: _Waits) -> bool:
        """Whether the limiter lets the caller through in time; never once the shard is closed."""
        if not self._closed and is_let():
            return True
        start = time.monotonic()
        waits.num_waiting += 1
        try:
            self._condition.wait_for(lambda: self._closed or is_let(), timeout_s)
        finally:
            waits.num_waiting -= 1
            waits.total_s += time.monotonic() - start
        return not self._closed and is_let()

    def update_priorities(self, update: PriorityUpdate) -> None:
        """Set priorities of transitions drawn earlier; those overwritten since are only counted.

        ValueError for keys of another shard or malformed ones, before any priority is set.
        """
        keys = update.keys
        if keys.shard != self._shard:
            raise ValueError(f"keys of replay shard {keys.shard} were sent to shard {self._shard}")
        columns = (keys.slots, keys.generations, update.priorities)
        if any(column.shape != keys.game_index.shape for column in columns):
            raise ValueError("keys and priorities of an update must have the same number of rows")
        if np.any((keys.game_index < 0) | (keys.game_index >= len(self._tables))):
            raise ValueError(f"keys name a game beyond the {len(self._tables)} of this replay")
        parts = []
        for index in np.unique(keys.game_index).tolist():
            rows = keys.game_index == index
            part = keys.slots[rows], keys.generations[rows], update.priorities[rows]
            # All parts are checked before the first is set.
            self._tables[index].check_update(*part)
            parts.append((self._tables[index], part))
        with self._condition:
            for table, part in parts:
                table.update_priorities(*part)

    def can_add(self, chunk: Chunk) -> bool:
        """Whether `add` would store the chunk at once."""
        with self._condition:
            return not self._closed and self._can_insert(
                self._index_of(chunk.game), chunk.num_transitions
            )

    def can_sample(self) -> bool:
        """Whether `sample` would give a batch at once."""
        with self._condition:
            return not self._closed and self._can_sample()

    def stats(self) -> ShardStats:
        """A snapshot of all counters."""
        with self._condition:
            return ShardStats(
                tables={
                    game: TableStats(
                        size=table.ring.num_entries,
                        ready=table.num_ready,
                        counts=replace(table.counts),
                    )
                    for game, table in zip(self._games, self._tables, strict=True)
                },
                limiter_error=self._total_limiter.error,
                insert_wait_s=self._adds.total_s,
                sample_wait_s=self._samples.total_s,
                num_adds_waiting=self._adds.num_waiting,
                num_samples_waiting=self._samples.num_waiting,
            )

    def check_valid(self) -> None:
        """Raises ValueError if any table is inconsistent."""
        with self._condition:
            for table in self._tables:
                table.check_valid()

    def close(self) -> None:
        """Wake all waiters; from now on nothing is stored or drawn."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()

    def _index_of(self, game: str) -> int:
        try:
            return self._games.index(game)
        except ValueError:
            raise ValueError(f"this replay holds {', '.join(self._games)}; not {game!r}") from None

    def _maybe_start(self) -> None:
        if not self._total_limiter.started and all(self._has_enough(t) for t in self._tables):
            for limiter in (self._total_limiter, *self._game_limiters):
                limiter.start()

    def _has_enough(self, table: PrioritizedTable) -> bool:
        """Whether learning may start, as far as this game is concerned."""
        # Some entries of a full table are never ready, so it may not reach a minimum close to its
        # capacity; waiting for it would have no end.
        is_full = table.ring.num_entries == table.spec.capacity
        return table.num_ready >= self._config.min_size_per_game or (
            is_full and table.num_ready > 0
        )

    def _check_can_progress(self, index: int, insert_size: int) -> None:
        """Raises ValueError if both sides could wait for each other for ever."""
        config = self._config
        if config.pin_every_game:
            self._game_limiters[index].check_can_progress(
                insert_size=insert_size, sample_size=int(self._allotment.most_wanted[index])
            )
            return
        self._total_limiter.check_can_progress(
            insert_size=insert_size, sample_size=config.batch_size
        )
        # Inserting waits when more than error_buffer - insert_size * samples_per_insert samples
        # are due. Of those, and of what came before the start, the caps must leave a whole batch.
        due = config.error_buffer - insert_size * config.samples_per_insert
        before_start = config.samples_per_insert_cap * config.min_size_per_game * len(self._tables)
        if due + before_start < config.batch_size:
            raise ValueError(
                f"replay could wait for ever: inserting {insert_size} transitions may have to wait "
                f"while the caps on samples per insert leave {due + before_start:g} samples, less "
                f"than a batch of {config.batch_size}; raise error_buffer to at least "
                f"{config.error_buffer + config.batch_size - due - before_start:g}"
            )

    def _can_insert(self, index: int, size: int) -> bool:
        if self._config.pin_every_game:
            return self._game_limiters[index].can_insert(size)
        return self._total_limiter.can_insert(size)

    def _can_sample(self) -> bool:
        size = self._config.batch_size
        # Pinned games bound their sum by themselves; a second bound would let them wait for it.
        if not self._config.pin_every_game and not self._total_limiter.can_sample(size):
            return False
        return self._total_limiter.started and int(self._allowances().sum()) >= size

    def _allowances(self) -> Int64Array:
        """[G] The most that may be drawn of each game now."""
        allowed = [
            self._allowance(index) if table.num_ready else 0
            for index, table in enumerate(self._tables)
        ]
        return np.array(allowed, np.int64)

    def _allowance(self, index: int) -> int:
        if self._config.pin_every_game:
            wanted = int(self._allotment.wanted[index])
            return wanted if self._game_limiters[index].can_sample(wanted) else 0
        # A game may also draw on what it stored before learning started, hence the table's counts.
        counts = self._tables[index].counts
        left = math.ceil(self._config.samples_per_insert_cap * counts.inserted) - counts.sampled
        return min(self._config.batch_size, max(0, left))
