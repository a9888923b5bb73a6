"""Asks a run that goes on for other numbers of actors or settings of replay, through its Redis."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines.engine import check_game, check_wanted
from engines.on_redis.bus import RedisBus
from engines.on_redis.link import RedisUnavailableError
from records.run_dir import RunDir

# Stands in for --redis-url, which everybody on the machine can read.
REDIS_URL_VARIABLE = "ACTOR_MIMIC_REDIS_URL"
_LOOK_PERIOD_S = 0.25
# Phases of a run in which nobody plays any more.
_OVER = ("testing", "ended")


@dataclass(frozen=True, slots=True, kw_only=True)
class GameActors:
    """One game's actors, as the run itself says."""

    # That it is to have.
    wanted: int
    # That play.
    live: int
    # That wait for room in the cluster.
    waiting: int

    def is_settled_at(self, wanted: int) -> bool:
        """Whether all that can be done for now is done for so many actors."""
        return self.live + self.waiting == self.wanted == wanted

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

    Without a `redis_url` the run's folder says where its Redis is; with `timeout_s` None nothing is
    waited for, and actors that wait for room in the cluster never are. Returns what the run says of
    all its games. ValueError if the run does not go on, a game is not in it, a number is out of
    range, or the run has refused or not followed in time.
    """
    with find_run(run, redis_url=redis_url) as bus:
        ask(bus, wanted)
        if timeout_s is None:
            return read_actors(bus)
        return wait_until_followed(bus, wanted, timeout_s=timeout_s)


@contextmanager
def find_run(run: str | Path, *, redis_url: str = "") -> Iterator[RedisBus]:
    """What a run shows, and can be asked, while it goes on; ValueError for any other run."""
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
    with closing(RedisBus(url, folder.redis_name)) as bus:
        _read_status(bus)
        yield bus


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
    games = _games_that_go_on(bus)
    for game, number in wanted.items():
        check_wanted(game, number, games)
    with _refused_if_silent():
        bus.set_wanted(wanted)


def read_settings(bus: RedisBus) -> dict[str, dict[str, float]]:
    """Share, quota and samples-per-insert cap of each game of a run, as they are in force."""
    return {
        game: {name: float(value) for name, value in entry["settings"].items()}
        for game, entry in _read_status(bus)["games"].items()
    }


def ask_settings(bus: RedisBus, changes: Mapping[str, Mapping[str, float]]) -> None:
    """Leave word of settings of replay; ValueError, and nothing asked, if that cannot be."""
    games = _games_that_go_on(bus)
    for game in changes:
        check_game(game, games)
    with _refused_if_silent():
        bus.set_settings(changes)


def _games_that_go_on(bus: RedisBus) -> list[str]:
    status = _read_status(bus)
    if status["phase"] in _OVER:
        raise ValueError("the run has reached its end; its actors have gone")
    return list(status["games"])


@contextmanager
def _refused_if_silent() -> Iterator[None]:
    try:
        yield
    except RedisUnavailableError as error:
        raise ValueError(f"the run does not answer ({error}); nothing was asked") from None


def wait_until_set(
    bus: RedisBus,
    changes: Mapping[str, Mapping[str, float]],
    *,
    timeout_s: float,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Returns when the run has put all of these settings in force; ValueError as for actors."""

    def is_answered(status: Mapping[str, Any]) -> bool:
        put = status["answered_settings"]
        return all(new.items() <= put.get(game, {}).items() for game, new in changes.items())

    keys = [f"{game} settings" for game in changes]
    _wait(bus, keys, is_answered, lambda: "", timeout_s=timeout_s, clock=clock)


def wait_until_followed(
    bus: RedisBus,
    wanted: Mapping[str, int],
    *,
    timeout_s: float,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, GameActors]:
    """Where the games stand once the run has followed, as far as there is room.

    ValueError if the run has refused, has ended, or has not followed in time.
    """
    actors: dict[str, GameActors] = {}

    def late() -> str:
        actors.update(read_actors(bus))
        is_followed = all(actors[game].is_settled_at(number) for game, number in wanted.items())
        return "" if is_followed else ", ".join(f"{game}: {actors[game]}" for game in wanted)

    def is_answered(status: Mapping[str, Any]) -> bool:
        return all(status["answered"].get(game) == number for game, number in wanted.items())

    _wait(bus, list(wanted), is_answered, late, timeout_s=timeout_s, clock=clock)
    return actors


def _wait(
    bus: RedisBus,
    keys: Sequence[str],
    is_answered: Callable[[Mapping[str, Any]], bool],
    late: Callable[[], str],
    *,
    timeout_s: float,
    clock: Callable[[], float],
) -> None:
    """Until the run has answered, has refused none of `keys`, and nothing is `late`."""
    deadline = clock() + timeout_s
    while True:
        status, missing = _read_status(bus), late()
        if is_answered(status):
            if refusals := [status["refused"][key] for key in keys if key in status["refused"]]:
                raise ValueError("; ".join(refusals))
            if not missing:
                return
        if status["phase"] in _OVER:
            raise ValueError("the run has reached its end meanwhile; its actors have gone")
        if clock() >= deadline:
            shown = f" ({missing})" if missing else ""
            raise ValueError(f"the run has not followed within {timeout_s:g} s{shown}")
        time.sleep(_LOOK_PERIOD_S)
