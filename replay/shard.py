"""A replay shard: a slice of every game's table behind one lock, paced by samples per insert.

A plain class; `launch` turns it into a process. Any number of threads may call it: `add` and
`sample` wait on a condition until the limiter lets them through or their time is up.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from replay.rate_limiter import SamplesPerInsertLimiter
from replay.ring import TableSpec, TransitionRing
from replay.table import PrioritizedTable, TableCounts
from replay.types import Chunk, Int64Array, ItemKeys, PriorityUpdate, SampleBatch, Successors


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayConfig:
    """Sampling and pacing; sizes are for the whole run and are divided among the shards."""

    batch_size: int = 128
    """Transitions the learner gets at once, all games together."""
    capacity_per_game: int = 100_000
    """Transitions kept of each game (paper: 100,000)."""
    min_size_per_game: int = 2_000
    """Learning starts when every game has this many transitions (paper: 10,000)."""
    samples_per_insert: float = 2.0
    """Transitions drawn per transition stored, all games together (paper: 2; Nature DQN: 8)."""
    samples_per_insert_cap: float = 8.0
    """The most one game's transitions are drawn, on average, however short of data it is."""
    error_buffer: float = 8_192.0
    """Samples that the learner may be ahead or behind before it, or the actors, must wait."""
    pin_every_game: bool = False
    """Hold each game by itself to `samples_per_insert` instead of only their sum (the paper's
    lock-step)."""
    priority_exponent: float = 0.6
    """0 draws uniformly (paper: uniform; Ape-X: 0.6)."""
    num_shards: int = 1
    """Replay processes; each holds a slice of every game's table."""

    def __post_init__(self) -> None:
        """Refuse values that make no sense, naming them."""
        for name in ("batch_size", "capacity_per_game", "min_size_per_game", "num_shards"):
            if getattr(self, name) < 1:
                raise ValueError(f"replay.{name} must be at least 1, got {getattr(self, name)}")
        if self.samples_per_insert <= 0:
            raise ValueError(
                f"replay.samples_per_insert must be positive, got {self.samples_per_insert}"
            )
        if self.samples_per_insert_cap < self.samples_per_insert:
            raise ValueError(
                f"replay.samples_per_insert_cap ({self.samples_per_insert_cap}) must not be below "
                f"replay.samples_per_insert ({self.samples_per_insert})"
            )
        if self.priority_exponent < 0:
            raise ValueError(
                f"replay.priority_exponent must not be negative, got {self.priority_exponent}"
            )
        if self.min_size_per_game > self.capacity_per_game:
            raise ValueError(
                f"replay.min_size_per_game ({self.min_size_per_game}) must not exceed "
                f"replay.capacity_per_game ({self.capacity_per_game})"
            )

    def per_shard(self) -> ReplayConfig:
        """The part of one shard."""
        return replace(
            self,
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
        """
        self._config = config
        self._shard = shard
        self._games = tuple(spec.game for spec in tables)
        self._rng = np.random.default_rng([seed, shard])
        self._tables = [
            PrioritizedTable(spec, priority_exponent=config.priority_exponent, rng=self._rng)
            for spec in tables
        ]
        weights = np.array([(shares or {}).get(game, 1.0) for game in self._games])
        self._shares = weights / weights.sum()
        self._num_feature_columns = max(spec.num_teacher_features for spec in tables)
        self._total_limiter = SamplesPerInsertLimiter(config.samples_per_insert, config.error_buffer)
        self._game_limiters = [
            SamplesPerInsertLimiter(config.samples_per_insert, config.error_buffer) for _ in tables
        ]
        self._condition = threading.Condition()
        self._closed = False
        self._insert_wait_s = 0.0
        self._sample_wait_s = 0.0

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
        size = chunk.num_transitions
        with self._condition:
            self._check_can_progress(index, size)
            start = time.monotonic()
            self._condition.wait_for(lambda: self._closed or self._can_insert(index, size), timeout_s)
            self._insert_wait_s += time.monotonic() - start
            if self._closed or not self._can_insert(index, size):
                return False
            self._tables[index].add(chunk)
            self._maybe_start()
            self._total_limiter.count_insert(size)
            self._game_limiters[index].count_insert(size)
            self._condition.notify_all()
            return True

    def sample(self, *, timeout_s: float = 0.0) -> SampleBatch | None:
        """Draw a batch, waiting while the actors are behind.

        Ends when enough was inserted, when `close` is called, or after `timeout_s`.

        Returns:
            None if there is no batch yet.
        """
        with self._condition:
            start = time.monotonic()
            self._condition.wait_for(lambda: self._closed or self._can_sample(), timeout_s)
            self._sample_wait_s += time.monotonic() - start
            if self._closed or not self._can_sample():
                return None
            counts = self._allot()
            batch = self._draw(counts)
            self._total_limiter.count_sample(self._config.batch_size)
            for limiter, count in zip(self._game_limiters, counts.tolist(), strict=True):
                limiter.count_sample(count)
            self._condition.notify_all()
            return batch

    def update_priorities(self, update: PriorityUpdate) -> None:
        """Set priorities of transitions drawn earlier; those overwritten since are only counted."""
        keys = update.keys
        if keys.shard != self._shard:
            raise ValueError(f"keys of replay shard {keys.shard} were sent to shard {self._shard}")
        with self._condition:
            for index, table in enumerate(self._tables):
                rows = keys.game_index == index
                table.update_priorities(
                    keys.slots[rows], keys.generations[rows], update.priorities[rows]
                )

    def can_add(self, chunk: Chunk) -> bool:
        """Whether `add` would store the chunk at once."""
        with self._condition:
            return self._can_insert(self._index_of(chunk.game), chunk.num_transitions)

    def can_sample(self) -> bool:
        """Whether `sample` would give a batch at once."""
        with self._condition:
            return self._can_sample()

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
                insert_wait_s=self._insert_wait_s,
                sample_wait_s=self._sample_wait_s,
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
        if self._total_limiter.started:
            return
        if all(table.num_ready >= self._config.min_size_per_game for table in self._tables):
            for limiter in (self._total_limiter, *self._game_limiters):
                limiter.start()

    def _check_can_progress(self, index: int, insert_size: int) -> None:
        if self._config.pin_every_game:
            limiter, sample_size = self._game_limiters[index], int(self._wanted()[index])
        else:
            limiter, sample_size = self._total_limiter, self._config.batch_size
        limiter.check_can_progress(insert_size=insert_size, sample_size=sample_size)

    def _can_insert(self, index: int, size: int) -> bool:
        if self._config.pin_every_game:
            return self._game_limiters[index].can_insert(size)
        return self._total_limiter.can_insert(size)

    def _can_sample(self) -> bool:
        if not self._total_limiter.can_sample(self._config.batch_size):
            return False
        return int(self._allowances().sum()) >= self._config.batch_size

    def _allowances(self) -> Int64Array:
        """[G] The most that may be drawn of each game now."""
        if self._config.pin_every_game:
            wanted = self._wanted()
            allowed = [
                int(count) if limiter.can_sample(int(count)) else 0
                for limiter, count in zip(self._game_limiters, wanted, strict=True)
            ]
            return np.array(allowed, np.int64)
        # A game may also draw on what it stored before learning started, hence the table's counts.
        cap = self._config.samples_per_insert_cap
        allowed = [
            min(self._config.batch_size, max(0, int(cap * t.counts.inserted) - t.counts.sampled))
            if t.num_ready
            else 0
            for t in self._tables
        ]
        return np.array(allowed, np.int64)

    def _wanted(self) -> Int64Array:
        """[G] The configured shares of one batch in whole transitions; the odd ones rotate."""
        exact = self._shares * self._config.batch_size
        wanted = np.floor(exact).astype(np.int64)
        odd = self._config.batch_size - int(wanted.sum())
        first = self._total_limiter.num_samples // self._config.batch_size
        order = np.argsort(-(exact - wanted), kind="stable")
        candidates = order[: max(odd, int(np.count_nonzero(exact > wanted)))]
        for turn in range(odd):
            wanted[candidates[(first + turn) % len(candidates)]] += 1
        return wanted

    def _allot(self) -> Int64Array:
        """[G] Transitions of each game in the next batch: its share, unless it is short of data."""
        allowed = self._allowances()
        counts = np.minimum(self._wanted(), allowed)
        missing = self._config.batch_size - int(counts.sum())
        while missing > 0:
            room = allowed - counts
            open_games = np.flatnonzero(room)
            take = np.minimum(room[open_games], -(-missing // len(open_games)))
            for game, count in zip(open_games.tolist(), take.tolist(), strict=True):
                given = min(count, missing)
                counts[game] += given
                missing -= given
        return counts

    def _draw(self, counts: Int64Array) -> SampleBatch:
        """Gather a batch with `counts` transitions of each game."""
        stop = np.cumsum(counts)
        ranges = [slice(int(b - n), int(b)) for n, b in zip(counts, stop, strict=True)]
        drawn = [
            (table, *table.sample(int(count)), rows)
            for table, count, rows in zip(self._tables, counts, ranges, strict=True)
            if count
        ]
        spec = self._tables[0].spec
        size = self._config.batch_size
        observations = np.empty((size, *spec.observation_shape), np.uint8)
        features = np.zeros((size, self._num_feature_columns), np.float16)
        for table, slots, _, rows in drawn:
            table.ring.gather_observations(slots, observations[rows])
            width = table.spec.num_teacher_features
            features[rows, :width] = table.ring.teacher_features[slots]
        rings = [(table.ring, slots) for table, slots, _, _ in drawn]
        balance = self._shares * size / np.maximum(counts, 1)
        return SampleBatch(
            games=self._games,
            keys=ItemKeys(
                shard=self._shard,
                game_index=np.repeat(np.arange(len(counts)), counts),
                slots=np.concatenate([slots for _, slots in rings]),
                generations=np.concatenate([ring.generations[slots] for ring, slots in rings]),
            ),
            observations=observations,
            actions=np.concatenate([r.actions[slots] for r, slots in rings]).astype(np.int64),
            student_logits=np.concatenate([r.student_logits[slots] for r, slots in rings]),
            teacher_logits=np.concatenate([r.teacher_logits[slots] for r, slots in rings]),
            teacher_features=features,
            teacher_values=np.concatenate([r.teacher_values[slots] for r, slots in rings]),
            inverse_probabilities=np.concatenate([inverse for _, _, inverse, _ in drawn]),
            loss_weights=np.repeat(balance, counts).astype(np.float32),
            weights_versions=np.concatenate([r.weights_versions[slots] for r, slots in rings]),
            ages=np.concatenate([r.num_added - 1 - r.generations[slots] for r, slots in rings]),
            successors=self._successors(rings) if spec.num_successors else None,
        )

    @staticmethod
    def _successors(rings: Sequence[tuple[TransitionRing, Int64Array]]) -> Successors:
        parts = [ring.gather_successors(slots) for ring, slots in rings]
        return Successors(
            rewards=np.concatenate([part.rewards for part in parts]),
            discounts=np.concatenate([part.discounts for part in parts]),
            lengths=np.concatenate([part.lengths for part in parts]),
            bootstrap_observations=np.concatenate([p.bootstrap_observations for p in parts]),
        )
