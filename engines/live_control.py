"""Changes a run while it goes on: numbers of actors, on request or by balance.

Requests come through Redis (launch/scale.py); their outcome is shown there, on the console and in
events.jsonl. The balance leaves a game alone once somebody has set a number of actors for it.
"""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Protocol, cast

from engines.engine import Engine
from games.registry import get_game
from recipes.balance import Advice, Distances, GameLoad, balance
from recipes.recipe import Recipe
from records.progress import GameProgress, Progress
from records.verdict import Verdict, judge
from replay.pace.game_settings import SettingsChange

# Newest events that the run's status shows to whoever looks from outside.
_NUM_EVENTS = 20


class Board(Protocol):
    """The place outside the launcher where a run shows its status and takes requests.

    engines.on_redis.run_link.RunLink is the one in use.
    """

    def wanted(self) -> dict[str, int]:
        """Numbers of actors that somebody has asked for, by game."""
        ...

    def settings(self) -> dict[str, dict[str, float]]:
        """Settings of replay that somebody has requested, by game."""
        ...

    def show(self, status: Mapping[str, Any], record: Mapping[str, Any] | None = None) -> None:
        """Publish the run's status, and a row of metrics if there is a new one; never waits."""
        ...


class LiveControl:
    """Follows requests and the balance each time the supervisor looks at the engine."""

    def __init__(
        self,
        recipe: Recipe,
        *,
        engine: Engine,
        board: Board | None,
        tell: Callable[[str, Progress], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Attach to a running engine without changing anything yet.

        Args:
            recipe: what is trained.
            engine: carries the recipe; its actors and shares are changed.
            board: shows the status and takes requests; None where there is no outside.
            tell: takes one sentence for each event.
            clock: gives seconds.
        """
        self._engine = engine
        self._board = board
        self._tell = tell
        self._games = recipe.games
        self._teachers = {
            game: score.mean
            for game in recipe.games
            if board is not None and (score := recipe.teacher_score(game)) is not None
        }
        self._tests: dict[str, float] = {}
        self._seconds: float | None = None
        self._events: deque[dict[str, Any]] = deque(maxlen=_NUM_EVENTS)
        self._answered: dict[str, int] = {}
        self._answered_settings: dict[str, dict[str, float]] = {}
        self._refused: dict[str, str] = {}
        self._pending: dict[str, int] = {}
        self._started = time.time()
        self._verdict: Verdict | None = None
        self._balance = _Balance(recipe, clock) if recipe.config.balance.enabled else None

    def look(self, progress: Progress, row: Mapping[str, float]) -> None:
        """Carry out what is requested and advised, and publish the status.

        Args:
            progress: the engine's counters at this look.
            row: metrics at this look.
        """
        self._seconds = row.get("seconds")
        self._tell_who_waits(progress)
        self._follow_wishes(progress)
        if self._balance is not None:
            self._balance.observe(row)
            if advice := self._balance.advise(progress, left_alone=self._set_by_somebody()):
                self._carry_out(advice, progress)
        self.show("training", progress, row)

    def _set_by_somebody(self) -> set[str]:
        shares = {game for game, change in self._answered_settings.items() if "share" in change}
        return set(self._answered) | shares

    def observe_test(self, row: Mapping[str, float]) -> None:
        """Update scores and balance from the metrics of a test."""
        self._tests |= {key: value for key, value in row.items() if key.startswith("test/")}
        if self._balance is not None:
            self._balance.observe(row)

    def add_event(self, event: str, progress: Progress) -> None:
        """Append an event, in the form of a line of events.jsonl, to the status."""
        self._events.append(
            {
                "seconds": self._seconds,
                "steps": progress.steps,
                "updates": progress.updates,
                "event": event,
            }
        )

    def show(
        self, phase: str, progress: Progress | None, row: Mapping[str, float] | None = None
    ) -> None:
        """Publish the run's status in this phase of its life."""
        if self._board is None:
            return
        if row is not None:
            self._verdict = judge(row)
        games = progress.games if progress else {}
        self._board.show(
            {
                "phase": phase,
                "games": {
                    name: {
                        "live": games[name].actors if name in games else 0,
                        "wanted": games[name].wanted if name in games else 0,
                        "waiting": games[name].pending if name in games else 0,
                        "steps": games[name].steps if name in games else 0,
                        "teacher": self._teachers.get(name),
                        "settings": _settings_of(games[name]) if name in games else {},
                    }
                    for name in self._games
                },
                # The requests that were carried out, and the reason for each that was not.
                "answered": dict(self._answered),
                "answered_settings": dict(self._answered_settings),
                "refused": dict(self._refused),
                "events": list(self._events),
                # The newest test of each game: the records in Redis are of looks alone.
                "tests": dict(self._tests),
                "faults": dict(progress.faults) if progress else {},
                "steps": progress.steps if progress else 0,
                "updates": progress.updates if progress else 0,
                "pid": os.getpid(),
                "host": socket.gethostname(),
                "started": self._started,
                "verdict": self._verdict.to_map() if self._verdict else None,
            },
            row,
        )

    def _tell_who_waits(self, progress: Progress) -> None:
        for name, game in progress.games.items():
            if game.pending and game.pending != self._pending.get(name):
                self._say(
                    f"{name}: {game.pending} of {game.wanted} actors are waiting for room", progress
                )
            self._pending[name] = game.pending

    def _follow_wishes(self, progress: Progress) -> None:
        wanted = self._board.wanted() if self._board is not None else {}
        for game, number in wanted.items():
            if self._answered.get(game) != number:
                self._answered[game] = number
                self._scale(game, number, progress)
        settings = self._board.settings() if self._board is not None else {}
        for game, change in settings.items():
            if self._answered_settings.get(game) != change:
                self._answered_settings[game] = change
                self._configure(game, change, progress)

    def _configure(self, game: str, change: Mapping[str, float], progress: Progress) -> None:
        # A request has its own reason to be refused, beside that for other numbers of actors.
        key = f"{game} settings"
        try:
            now = self._engine.configure(game, **cast(SettingsChange, change))
        except ValueError as error:
            self._refused[key] = str(error)
            self._say(f"cannot change the settings of {game}: {error}", progress)
            return
        self._refused.pop(key, None)
        in_force = ", ".join(f"{name} {getattr(now, name):g}" for name in change)
        self._say(f"{game}: {in_force}", progress)

    def _scale(self, game: str, number: int, progress: Progress, why: str = "") -> None:
        try:
            self._engine.scale(game, number)
        except ValueError as error:
            self._refused[game] = str(error)
            self._say(f"cannot change the actors of {game}: {error}", progress)
            return
        self._refused.pop(game, None)
        before = progress.games[game].wanted
        if before != number:
            self._say(f"{game}: {before} -> {number} actors{why}", progress)

    def _carry_out(self, advice: Advice, progress: Progress) -> None:
        # Those that give first: what they leave is free then.
        moves = sorted(advice.actors.items(), key=lambda m: m[1] - progress.games[m[0]].wanted)
        for game, number in moves:
            self._scale(game, number, progress, " (balance)")
        for game, share in advice.shares.items():
            before = progress.games[game].replay.share
            try:
                self._engine.configure(game, share=share)
            except ValueError as error:
                self._say(f"cannot change the share of {game}: {error}", progress)
            else:
                self._say(f"{game}: share {before:.2f} -> {share:.2f} (balance)", progress)

    def _say(self, event: str, progress: Progress) -> None:
        self.add_event(event, progress)
        self._tell(event, progress)


def _settings_of(game: GameProgress) -> dict[str, float]:
    """A game's settings of replay in force, as they are requested."""
    return {
        "share": game.replay.share,
        "quota": game.replay.capacity,
        "samples_per_insert_cap": game.replay.samples_per_insert_cap,
    }


def describe_restarts(before: Progress | None, now: Progress) -> list[str]:
    """One sentence for each kind of role that was restarted between two looks."""
    old = before.faults if before is not None else {}
    events = []
    for kind, count in now.faults.items():
        # Fewer than before would be an engine that has begun to count again.
        if kind.endswith("_restarts") and (number := count - old.get(kind, 0)) > 0:
            role = kind.removesuffix("_restarts")
            events.append(f"{role} restarted" + (f", {number} times" if number > 1 else ""))
    return events


class _Balance:
    """Decides when to ask for advice, and about which games."""

    def __init__(self, recipe: Recipe, clock: Callable[[], float]) -> None:
        self._config = recipe.config.balance
        self._given = {game: s.share for game, s in recipe.game_settings.items()}
        self._distances = Distances({game: _scores(recipe, game) for game in recipe.games})
        self._clock = clock
        self._moved = clock()
        self.observe = self._distances.observe

    def advise(self, progress: Progress, *, left_alone: set[str]) -> Advice | None:
        """Advice that is due now; None between two moves, and until all games are measured."""
        if self._clock() - self._moved < self._config.period_s:
            return None
        known = self._distances.known()
        games = [game for game in self._given if game not in left_alone]
        if not all(game in known for game in games):
            return None
        self._moved = self._clock()
        loads = {
            game: GameLoad(
                distance=known[game],
                actors=progress.games[game].wanted,
                share=progress.games[game].replay.share,
                given_share=self._given[game],
            )
            for game in games
        }
        return balance(loads, bound=self._config.bound)


def _scores(recipe: Recipe, game: str) -> tuple[float, float] | None:
    """(random, teacher); None where the teacher is no better than random play."""
    low, teacher = get_game(game).random_score, recipe.teacher_score(game)
    if low is None or teacher is None or teacher.mean <= low:
        return None
    return low, teacher.mean
