"""What can be set for one game, at the start and while the run goes on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypedDict, Unpack

from replay.config import MAX_SAMPLES_PER_INSERT, ReplayConfig
from replay.pace.slices import GameSlice
from replay.storage.ring import TableSpec

# More transitions than any machine has room for.
_MAX_QUOTA = 1 << 40


class SettingsChange(TypedDict, total=False):
    """New values of some of a game's settings; None, like a missing one, leaves the old."""

    share: float | None
    quota: int | None
    samples_per_insert_cap: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GameSettings:
    """One game's part of the batch, of the memory and of the learner's attention."""

    share: float = 1.0
    """Relative part of the game in every batch."""
    quota: int
    """Transitions kept of the game."""
    samples_per_insert_cap: float
    """The most its transitions are drawn, on average, however short of data it is."""

    def changed(self, **change: Unpack[SettingsChange]) -> GameSettings:
        """The same with everything replaced that is not None."""
        given: dict[str, Any] = {name: value for name, value in change.items() if value is not None}
        return replace(self, **given)


def check_quota(spec: TableSpec, quota: int, part: GameSlice, *, largest_chunk: int) -> None:
    """Raises ValueError if a shard's part of a quota could not take its actors' chunks."""
    needed = 2 * max(largest_chunk, spec.num_stack + spec.num_successors)
    if part.part_of(quota) < needed:
        raise ValueError(
            f"the quota of {spec.game} ({quota}) must be at least {needed * part.num_fed}: its "
            f"actors send up to {largest_chunk} entries at once, and each of the {part.num_fed} "
            f"shards that they feed must have room for {needed}"
        )


def check_game_settings(game: str, settings: GameSettings, config: ReplayConfig) -> None:
    """Raises ValueError for settings that make no sense or under which replay could stand still."""
    # Some of such shares may be added up, which makes no sense with any that are larger.
    if not 0 < settings.share < 1e100:
        raise ValueError(
            f"the share of {game} must be positive and finite, got {settings.share}; to stop "
            "training on a game, start a run without it"
        )
    if type(settings.quota) is not int or settings.quota >= _MAX_QUOTA:
        raise ValueError(
            f"the quota of {game} must be a whole number below {_MAX_QUOTA}, got {settings.quota}"
        )
    if settings.quota < config.min_size_per_game:
        raise ValueError(
            f"the quota of {game} ({settings.quota}) must not be below replay.min_size_per_game "
            f"({config.min_size_per_game}), which learning waits for"
        )
    if not settings.samples_per_insert_cap <= MAX_SAMPLES_PER_INSERT:
        raise ValueError(
            f"the samples-per-insert cap of {game} must be finite, and at most "
            f"{MAX_SAMPLES_PER_INSERT:g}, got {settings.samples_per_insert_cap}"
        )
    if not settings.samples_per_insert_cap >= config.samples_per_insert:
        spi, cap = config.samples_per_insert, settings.samples_per_insert_cap
        raise ValueError(
            f"the samples-per-insert cap of {game} ({cap:g}) must not be below "
            f"replay.samples_per_insert ({spi:g}): every transition of {game} makes {spi:g} "
            f"samples due, of which {game} could give {cap:g}, so the rest would pile up until "
            "actors and learner wait for each other for ever"
        )
