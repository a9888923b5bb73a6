"""Keeps the number of samples per inserted transition in a band."""

from __future__ import annotations

import math
from typing import TypeAlias

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
        """ValueError for a ratio or a buffer that is not positive."""
        for name, value in (
            ("samples_per_insert", samples_per_insert),
            ("error_buffer", error_buffer),
        ):
            if not 0 < value < math.inf:
                raise ValueError(f"{name} must be positive and finite, got {value}")
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
