"""What a run looks like from outside, whichever engine carries it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, Unpack, cast

from networks.weights import WeightSnapshot
from recipes.recipe import Recipe
from records.progress import Progress
from replay.pace.game_settings import GameSettings, SettingsChange
from replay.pace.slices import shard_of_rank


def claim_serial(unused: int, *, game_index: int, rank: int, num_shards: int) -> int:
    """The first serial number, from `unused` on, for actor number `rank` of a game.

    Serials decide which shard an actor feeds (replay.client.shard_of): the one that
    replay.pace.slices.shard_of_rank says. So an actor that replaces another one feeds the same
    shard.
    """
    return unused + (shard_of_rank(game_index, rank, num_shards) - unused) % num_shards


# Of one game; a larger number is taken for a slip of the finger.
MAX_ACTORS = 1024


def check_game(game: str, games: Sequence[str]) -> None:
    """Raises ValueError unless `game` is one of the run's."""
    if game not in games:
        raise ValueError(f"{game!r} is not a game of this run; it plays {', '.join(games)}")


def check_wanted(game: str, wanted: object, games: Sequence[str]) -> None:
    """Raises ValueError unless `wanted` is a number of actors and `game` one of the run's."""
    check_game(game, games)
    is_count = isinstance(wanted, int) and not isinstance(wanted, bool)
    if not is_count or not 0 <= cast(int, wanted) <= MAX_ACTORS:
        raise ValueError(
            f"{game} cannot have {wanted!r} actors: give a whole number from 0 to {MAX_ACTORS:,}"
        )


class Engine(Protocol):
    """Carries a recipe's actors, replay and learner until the learner has made its updates."""

    def advance(self, seconds: float, *, until_updates: int | None = None) -> bool:
        """Go on for about this long; False once the run has reached its end.

        With `until_updates` an engine that can stop its learner comes back as soon as that has made
        so many updates, and not one more; the others go on.
        """
        ...

    def progress(self) -> Progress:
        """Counts, and metrics since the last call."""
        ...

    def snapshot(self) -> WeightSnapshot:
        """The acting weights as they are now, in full precision."""
        ...

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        ...

    def configure(self, game: str, **change: Unpack[SettingsChange]) -> GameSettings:
        """Change what replay keeps and gives of a game; see ReplayShard.configure.

        The quota is the run's. ValueError, and nothing changed, if any shard refuses.
        """
        ...

    def change_learner(self, recipe: Recipe, *, state: dict[str, Any] | None = None) -> None:
        """Have the learner go on by a recipe that differs in tunable settings alone.

        Actors and replay stay as they are. TimeoutError, and nothing changed, if the learner does
        not answer.

        Args:
            recipe: what to go on with.
            state: what another run's `state` gave for its learner; the weights and the optimizer's
                state in it are taken over. None to keep the learner's own.
        """
        ...

    def follow_gaps(self, gaps: Mapping[str, Sequence[float]]) -> None:
        """Tell the learner how far the student is behind each teacher of some games, from 0 to 1.

        Nobody waits for it, and a learner that is being replaced may miss it.
        """
        ...

    def scale(self, game: str, wanted: int) -> None:
        """Go on with so many actors of a game, from 0 to MAX_ACTORS, while the others play on.

        Returns before they are there; `progress` tells. Nothing that was played is lost.

        Raises:
            ValueError: an unknown game or a number that cannot be had; nothing has changed.
        """
        ...

    def close(self) -> None:
        """Stop everything; what replay holds is on disk then, if the run keeps snapshots."""
        ...
