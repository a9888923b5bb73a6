"""Asks a run that goes on for other numbers of actors or settings of replay, through its Redis."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines.engine import check_game, check_wanted
from engines.on_redis.bus import RedisBus
from engines.on_redis.link import RedisUnavailableError
from records.run_dir import RunDir

REDIS_URL_VARIABLE = "ACTOR_MIMIC_REDIS_URL"
_LOOK_PERIOD_S = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class GameActors:
    """One game's actors, as the run itself says."""

    # That it is to have.
    wanted: int
    # That play.
    live: int
    # That wait for room in the cluster.
    waiting: int

    @property
    def is_settled(self) -> bool:
        """Whether all that could be done for now is done."""
        return self.live + self.waiting == self.wanted

    def __str__(self) -> str:
        """The numbers of actors in one line."""
        text = f"{self.live} of {self.wanted} actors play"
        return f"{text}, {self.waiting} are waiting for room" if self.waiting else text


def set_wanted_actors(
    run: str | Path,
    wanted: Mapping[str, int],
    *,
    redis_url: str = "",
    timeout_s: float | None = 60.0,
) -> dict[str, GameActors]:
    """Have some games of a run go on with so many actors each; the others keep theirs.

    Args:
        run: folder of the run.
        wanted: number of actors of each game that is to change.
        redis_url: of the run's Redis; without, what the run has left in its folder.
        timeout_s: how long to wait until the run has followed; None does not wait.

    Returns:
        What the run says of all its games. Actors that wait for room in the cluster are not waited
        for.

    Raises:
        ValueError: the run does not go on, a game is not in it, a number is out of range, or the
            run has refused or not followed in time.
    """
    with find_run(run, redis_url=redis_url) as bus:
        ask(bus, wanted)
        if timeout_s is None:
            return read_actors(bus)
        return wait_until_followed(bus, wanted, timeout_s=timeout_s)


@contextmanager
def find_run(run: str | Path, *, redis_url: str = "") -> Iterator[RedisBus]:
    """What a run shows, and can be asked, while it goes on.

    Raises:
        ValueError: there is no such run, or it does not go on.
    """
    folder = RunDir.open_carried(run)
    url = redis_url or os.environ.get(REDIS_URL_VARIABLE, "")
    if not url:
        with suppress(OSError):
            url = folder.redis_url_path.read_text()
    if not url:
        raise ValueError(
            f"the run in {run} is not going on with --engine ray on this machine; from another "
            f"machine give the address of its Redis in {REDIS_URL_VARIABLE}"
        )
    bus = RedisBus(url, folder.redis_name)
    try:
        _read_status(bus)
        yield bus
    finally:
        bus.close()


def _read_status(bus: RedisBus) -> dict[str, Any]:
    """What the run says of itself; ValueError if it does not go on."""
    try:
        status = bus.status()
    except RedisUnavailableError as error:
        raise ValueError(f"the run does not answer ({error}); perhaps it has ended") from None
    if status is None:
        raise ValueError(
            "the run is not going on: nothing has been heard of its launcher lately; start it "
            "again with launch/multitask.py --resume"
        )
    return status


def read_actors(bus: RedisBus) -> dict[str, GameActors]:
    """Where each game of a run stands."""
    return {
        game: GameActors(
            wanted=int(entry["wanted"]), live=int(entry["live"]), waiting=int(entry["waiting"])
        )
        for game, entry in _read_status(bus)["games"].items()
    }


def ask(bus: RedisBus, wanted: Mapping[str, int]) -> None:
    """Leave word of what is wanted; ValueError, and nothing asked, if that cannot be."""
    status = _read_status(bus)
    for game, number in wanted.items():
        check_wanted(game, number, list(status["games"]))
    _check_goes_on(status)
    try:
        bus.set_wanted(wanted)
    except RedisUnavailableError as error:
        raise ValueError(f"the run does not answer ({error}); nothing was asked") from None


def read_settings(bus: RedisBus) -> dict[str, dict[str, float]]:
    """Share, quota and samples-per-insert cap of each game of a run, as they are in force."""
    return {
        game: {name: float(value) for name, value in entry["settings"].items()}
        for game, entry in _read_status(bus)["games"].items()
    }


def ask_settings(bus: RedisBus, changes: Mapping[str, Mapping[str, float]]) -> None:
    """Leave word of settings of replay; ValueError, and nothing asked, if that cannot be."""
    status = _read_status(bus)
    for game in changes:
        check_game(game, list(status["games"]))
    _check_goes_on(status)
    try:
        bus.set_settings(changes)
    except RedisUnavailableError as error:
        raise ValueError(f"the run does not answer ({error}); nothing was asked") from None


def wait_until_set(
    bus: RedisBus,
    changes: Mapping[str, Mapping[str, float]],
    *,
    timeout_s: float,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Returns when the run has put all of these settings in force.

    Raises:
        ValueError: the run has refused, has ended, or has not followed in time.
    """
    deadline = clock() + timeout_s
    while True:
        status = _read_status(bus)
        answered = status["answered_settings"]
        if all(
            change.items() <= answered.get(game, {}).items() for game, change in changes.items()
        ):
            refused = [status["refused"].get(f"{game} settings") for game in changes]
            if reasons := [reason for reason in refused if reason]:
                raise ValueError("; ".join(reasons))
            return
        _check_goes_on(status)
        if clock() >= deadline:
            raise ValueError(f"the run has not followed within {timeout_s:g} s")
        time.sleep(_LOOK_PERIOD_S)


def _check_goes_on(status: Mapping[str, Any]) -> None:
    if status["phase"] in ("testing", "ended"):
        raise ValueError("the run has reached its end; its actors have gone")


def wait_until_followed(
    bus: RedisBus,
    wanted: Mapping[str, int],
    *,
    timeout_s: float,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, GameActors]:
    """Where the games stand once the run has followed, as far as there is room.

    Raises:
        ValueError: the run has refused, has ended, or has not followed in time.
    """
    deadline = clock() + timeout_s
    while True:
        status, actors = _read_status(bus), read_actors(bus)
        answered = all(status["answered"].get(game) == n for game, n in wanted.items())
        refusals = [status["refused"][game] for game in wanted if game in status["refused"]]
        if answered and refusals:
            raise ValueError("; ".join(refusals))
        if answered and all(_is_followed(actors[game], n) for game, n in wanted.items()):
            return actors
        if status["phase"] in ("testing", "ended"):
            raise ValueError("the run has reached its end meanwhile")
        if clock() >= deadline:
            late = ", ".join(f"{game}: {actors[game]}" for game in wanted)
            raise ValueError(f"the run has not followed within {timeout_s:g} s ({late})")
        time.sleep(_LOOK_PERIOD_S)


def _is_followed(actors: GameActors, wanted: int) -> bool:
    return actors.wanted == wanted and actors.is_settled
