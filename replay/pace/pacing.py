"""Who must wait: the band of samples per insert, the games' caps, and the shares of a batch.

Games do not hold each other up: the band is for their sum, in which the games that wait to insert
take turns by their shares; a game short of data yields its part of a batch to the others, and a cap
bounds what a single game gives. With `pin_every_game` each game has a band of its own instead. What
is set for single games can change between two batches.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

from replay.config import ReplayConfig
from replay.pace.allotment import BatchAllotment
from replay.pace.game_settings import GameSettings
from replay.pace.slices import GameSlice
from replay.storage.table import ReplayTable

# Started, inserts, samples.
LimiterState: TypeAlias = tuple[bool, int, int]


class SamplesPerInsertLimiter:
    """Decides whether inserting or sampling must wait, from counts alone.

    Once started, with inserts and samples counted from there,

        error = inserts * samples_per_insert - samples

    is kept in [-error_buffer, +error_buffer]: inserting waits when it would rise above, sampling
    when it would fall below. (Reverb's SampleToInsertRatio, Cassirer et al. 2021,
    https://arxiv.org/abs/2102.04736.) Before the start nothing but inserting is allowed.
    """

    def __init__(self, samples_per_insert: float, error_buffer: float) -> None:
        """Both numbers are positive and finite."""
        self.samples_per_insert = samples_per_insert
        self.error_buffer = error_buffer
        self.started = False
        self.num_inserts = 0
        self.num_samples = 0

    @property
    def error(self) -> float:
        """How many samples the learner is behind (positive) or ahead (negative)."""
        return self.num_inserts * self.samples_per_insert - self.num_samples

    def start(self) -> None:
        """From now on inserts and samples count."""
        self.started = True

    def state(self) -> LimiterState:
        """For a snapshot."""
        return self.started, self.num_inserts, self.num_samples

    def load_state(self, state: LimiterState) -> None:
        """Go on from what `state` gave of a limiter of the same settings."""
        self.started, self.num_inserts, self.num_samples = state

    def check_can_progress(self, *, insert_size: int, sample_size: int) -> None:
        """Raises ValueError if a step of these sizes could leave both sides waiting for ever."""
        needed = insert_size * self.samples_per_insert + sample_size
        if 2 * self.error_buffer < needed:
            raise ValueError(
                f"the samples-per-insert band is too narrow: inserting {insert_size} transitions "
                f"at {self.samples_per_insert:g} samples per insert and sampling {sample_size} at "
                f"once needs a band of {needed:g} samples, but 2 * error_buffer is "
                f"{2 * self.error_buffer:g}; raise error_buffer to at least {needed / 2:g}"
            )

    def can_insert(self, size: int) -> bool:
        """Whether `size` transitions may be inserted now."""
        if not self.started:
            return True
        return self.error + size * self.samples_per_insert <= self.error_buffer

    def can_sample(self, size: int) -> bool:
        """Whether `size` transitions may be sampled now."""
        return self.started and self.error - size >= -self.error_buffer

    def count_insert(self, size: int) -> None:
        """Note that `size` transitions were inserted."""
        if self.started:
            self.num_inserts += size

    def count_sample(self, size: int) -> None:
        """Note that `size` transitions were sampled."""
        self.num_samples += size


@dataclass(frozen=True, slots=True, kw_only=True)
class _Terms:
    """What follows from the settings now in force, game by game."""

    caps: list[float]
    is_fed: list[bool]
    # Shares by which games take turns at inserting, also of a game that has just lost its part.
    turn_shares: list[float]
    # Transitions of each game that learning waits for.
    min_sizes: list[int]
    # Divides a batch in whole draws: single steps, or sequences.
    allotment: BatchAllotment
    # Mean loss weight of a transition. Shards give equally many batches, but a game that is only
    # in some of them must not have less of a say for it, nor the others more: so a batch weighs
    # what its games' shares of the run weigh.
    batch_weight: float


class Pacing:
    """The pace of one shard; its owner holds a lock around every call."""

    def __init__(
        self,
        config: ReplayConfig,
        tables: Sequence[ReplayTable],
        settings: Mapping[str, GameSettings],
        slices: Mapping[str, GameSlice],
    ) -> None:
        """Begin before the start of learning; the owner may put another one in a table's place."""
        self._config = config
        self._tables = tables
        self._games = tuple(table.spec.game for table in tables)
        self._largest_insert = [0] * len(tables)
        self._steps_per_draw = tables[0].spec.sequence_length
        self._draws_per_batch = config.batch_size // self._steps_per_draw
        self._turns = Turns(len(tables))
        self.total = self._build_limiter()
        self.by_game = [self._build_limiter() for _ in tables]
        self._terms = self._terms_of(settings, slices)

    def _build_limiter(self) -> SamplesPerInsertLimiter:
        return SamplesPerInsertLimiter(self._config.samples_per_insert, self._config.error_buffer)

    def _terms_of(
        self, settings: Mapping[str, GameSettings], slices: Mapping[str, GameSlice]
    ) -> _Terms:
        shares = _shares_here(self._config, self._games, settings, slices)
        return _Terms(
            caps=[settings[game].samples_per_insert_cap for game in self._games],
            is_fed=[slices[game].is_fed for game in self._games],
            turn_shares=[
                share or settings[game].share
                for share, game in zip(shares, self._games, strict=True)
            ],
            min_sizes=[
                slices[game].part_of(self._config.min_size_per_game) for game in self._games
            ],
            allotment=BatchAllotment(shares, self._draws_per_batch),
            batch_weight=sum(shares) / sum(settings[game].share for game in self._games),
        )

    def change(self, settings: Mapping[str, GameSettings], slices: Mapping[str, GameSlice]) -> None:
        """Go on with other settings, which `check_change` has passed, from the next batch on."""
        self._terms = self._terms_of(settings, slices)

    def check_change(
        self, settings: Mapping[str, GameSettings], slices: Mapping[str, GameSlice]
    ) -> None:
        """Raises ValueError if with these both sides could wait for each other for ever."""
        terms = self._terms_of(settings, slices)
        for index, size in enumerate(self._largest_insert):
            if size:
                self._check_can_progress(terms, index, size)

    @property
    def started(self) -> bool:
        """Whether learning has begun here."""
        return self.total.started

    def maybe_start(self) -> None:
        """Begin if every game that is fed has enough, and there is one."""
        if self.started or not any(self._terms.is_fed):
            return
        if all(self._has_enough(i) for i, is_fed in enumerate(self._terms.is_fed) if is_fed):
            for limiter in (self.total, *self.by_game):
                limiter.start()

    def _has_enough(self, index: int) -> bool:
        """Whether learning may start, as far as this game is concerned."""
        table = self._tables[index]
        # Some entries of a full table are never ready, so it may not reach a minimum close to its
        # capacity; waiting for it would have no end.
        is_full = table.ring.num_entries == table.spec.capacity
        return table.num_ready >= self._terms.min_sizes[index] or (is_full and table.num_ready > 0)

    def check_can_progress(self, index: int, insert_size: int) -> None:
        """Raises ValueError if both sides could wait for each other for ever."""
        self._check_can_progress(self._terms, index, insert_size)

    def _check_can_progress(self, terms: _Terms, index: int, insert_size: int) -> None:
        config = self._config
        if config.pin_every_game:
            size = terms.allotment.most_wanted[index] * self._steps_per_draw
            self.by_game[index].check_can_progress(insert_size=insert_size, sample_size=size)
            return
        self.total.check_can_progress(insert_size=insert_size, sample_size=config.batch_size)
        # Inserting waits when more than error_buffer - insert_size * samples_per_insert samples
        # are due. Of those, and of what came before the start, the caps must leave a whole batch.
        # No cap is below samples_per_insert, so whatever game was inserted, it can give its part.
        due = config.error_buffer - insert_size * config.samples_per_insert
        before_start = sum(
            cap * size
            for cap, size, is_fed in zip(terms.caps, terms.min_sizes, terms.is_fed, strict=True)
            if is_fed
        )
        if due + before_start < config.batch_size:
            raise ValueError(
                f"replay could wait for ever: inserting {insert_size} transitions may have to wait "
                f"while the caps on samples per insert leave {due:g} samples that are due and "
                f"{before_start:g} of what came before the start, together less than a batch of "
                f"{config.batch_size}; raise error_buffer to at least "
                f"{config.error_buffer + config.batch_size - due - before_start:g}"
            )

    def can_insert(self, index: int, size: int, *, waiting: Sequence[int] = ()) -> bool:
        """Whether `size` transitions of a game may be inserted now.

        One of the games of which a chunk is `waiting` may come first.
        """
        if self._config.pin_every_game:
            return self.by_game[index].can_insert(size)
        return self.total.can_insert(size) and self._turns.is_turn_of(index, waiting)

    def can_sample(self) -> bool:
        """Whether a batch may be drawn now."""
        size = self._config.batch_size
        # Pinned games bound their sum by themselves; a second bound would let them wait for it.
        if not self._config.pin_every_game and not self.total.can_sample(size):
            return False
        return self.started and sum(self._allowances()) >= self._draws_per_batch

    @property
    def wanted(self) -> list[int]:
        """[G] Rows of each game in the next batch, if none is short of data."""
        return [draws * self._steps_per_draw for draws in self._terms.allotment.wanted]

    def allot(self) -> list[int]:
        """[G] Rows of each game in the next batch; `can_sample` first."""
        draws = self._terms.allotment.allot(self._allowances())
        return [count * self._steps_per_draw for count in draws]

    def loss_weights(self, num_steps: Sequence[int]) -> list[float]:
        """[G] Loss weight of each game's steps in a batch that holds so many of each."""
        weights = self._terms.allotment.loss_weights(num_steps)
        # Rows that repeat a sequence's last step weigh nothing; the others make up for them.
        scale = self._terms.batch_weight * (self._config.batch_size / sum(num_steps))
        return [scale * weight for weight in weights]

    def _allowances(self) -> list[int]:
        """[G] The most draws that may be made of each game now."""
        return [
            self._allowance(index) if table.num_ready else 0
            for index, table in enumerate(self._tables)
        ]

    def _allowance(self, index: int) -> int:
        if self._config.pin_every_game:
            wanted = self._terms.allotment.wanted[index]
            return wanted if self.by_game[index].can_sample(wanted * self._steps_per_draw) else 0
        left = max(0, self._left_of_cap(index)) // self._steps_per_draw
        return min(self._draws_per_batch, left)

    def _left_of_cap(self, index: int) -> int:
        # A game may also draw on what it stored before learning started, hence the table's counts.
        counts = self._tables[index].counts
        return math.ceil(self._terms.caps[index] * counts.inserted) - counts.sampled

    def count_insert(self, index: int, size: int) -> None:
        """Note that transitions of a game were stored."""
        self._largest_insert[index] = max(self._largest_insert[index], size)
        self._turns.count(index, size / self._terms.turn_shares[index])
        self.total.count_insert(size)
        self.by_game[index].count_insert(size)
        # After counting: the limiters count from the start, and these came before it.
        self.maybe_start()

    def count_batch(self, num_steps: Sequence[int]) -> None:
        """Note that a batch as `allot` has divided it was drawn, with so many steps of each game.

        Sequences that have ended early hold fewer steps than they have rows.
        """
        self._terms.allotment.advance()
        self.total.count_sample(sum(num_steps))
        for limiter, count in zip(self.by_game, num_steps, strict=True):
            limiter.count_sample(count)

    def state(self) -> tuple[list[LimiterState], list[float]]:
        """(limiters: all games', then each game's; what each game is owed of the batches)."""
        return [
            limiter.state() for limiter in (self.total, *self.by_game)
        ], self._terms.allotment.owed

    def load_state(self, limiters: Sequence[LimiterState], owed: Sequence[float]) -> None:
        """Go on from what `state` gave of a shard of the same games and settings."""
        for limiter, state in zip((self.total, *self.by_game), limiters, strict=True):
            limiter.load_state(state)
        self._terms.allotment.owed = owed

    def check_valid(self) -> None:
        """Raises ValueError unless limiters count all draws and, from the start on, all inserts."""
        total, by_game = self.total, self.by_game
        for game, table, limiter in zip(self._games, self._tables, by_game, strict=True):
            if limiter.num_samples != table.counts.sampled:
                raise ValueError(
                    f"{game}: {table.counts.sampled} transitions were drawn, but the pace counts "
                    f"{limiter.num_samples}"
                )
            if not 0 <= limiter.num_inserts <= table.counts.inserted:
                raise ValueError(
                    f"{game}: {table.counts.inserted} transitions were stored, but the pace counts "
                    f"{limiter.num_inserts} since the start"
                )
        if (
            any(limiter.started != total.started for limiter in by_game)
            or total.num_inserts != sum(limiter.num_inserts for limiter in by_game)
            or total.num_samples != sum(limiter.num_samples for limiter in by_game)
            or (not total.started and total.num_inserts + total.num_samples > 0)
        ):
            raise ValueError("the pace of all games is not the sum of the games' own")


def _shares_here(
    config: ReplayConfig,
    games: Sequence[str],
    settings: Mapping[str, GameSettings],
    slices: Mapping[str, GameSlice],
) -> list[float]:
    """Relative part of each game in this shard's batches; 0 for one that is fed elsewhere only."""
    return [
        settings[game].share * config.num_shards / slices[game].num_fed
        if slices[game].is_fed
        else 0.0
        for game in games
    ]


class Waits:
    """The callers of one method that wait; its owner holds a lock around every call."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock`: seconds."""
        self._clock = clock
        self._ended_s = 0.0
        self._starts: list[float] = []

    @property
    def num_waiting(self) -> int:
        """Callers that wait now."""
        return len(self._starts)

    @property
    def total_s(self) -> float:
        """Waited so far, summed over callers; grows while somebody waits."""
        now = self._clock()
        return self._ended_s + sum(now - start for start in self._starts)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around a caller's wait."""
        start = self._clock()
        self._starts.append(start)
        try:
            yield
        finally:
            self._starts.remove(start)
            self._ended_s += self._clock() - start


class Turns:
    """Fair queueing of the games that wait.

    A chunk takes `size / share` of virtual time, and goes where the one before of its game ended;
    what waits with an earlier time goes first (start-time fair queueing, Goyal et al. 1997,
    https://doi.org/10.1109/90.649569). A game that was away does not catch up on what it missed.
    """

    def __init__(self, num_games: int) -> None:
        """All alike."""
        self._now = 0.0
        self._next = [0.0] * num_games

    def count(self, game: int, cost: float) -> None:
        """A chunk of a game was stored; its size over the game's share."""
        self._now = self._start(game)
        self._next[game] = self._now + cost

    def _start(self, game: int) -> float:
        return max(self._now, self._next[game])

    def is_turn_of(self, game: int, waiting: Sequence[int]) -> bool:
        """Whether none of the games that wait comes before this one."""
        start = self._start(game)
        return all(self._start(other) >= start for other in waiting)
