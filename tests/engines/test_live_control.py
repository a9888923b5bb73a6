"""Wishes from outside and the balance: what is changed, what is said, what is seen."""

import pytest

from actors.actor import ActorCounts
from engines.engine import check_wanted
from engines.live_control import LiveControl
from games.registry import get_game
from recipes.balance import BalanceConfig
from recipes.config import RunConfig
from recipes.recipe import Recipe
from records.progress import GameProgress, Progress
from replay.pace.game_settings import GameSettings
from replay.stats import TableStats

GAMES = ("pong", "boxing", "breakout")


class CountingEngine:
    """Only counts its actors."""

    def __init__(self, num_actors=3):
        self.room = 1_000
        self.actors = dict.fromkeys(GAMES, num_actors)
        self.shares = dict.fromkeys(GAMES, 1.0)
        self.calls = []

    def scale(self, game, wanted):
        check_wanted(game, wanted, GAMES)
        self.calls.append((game, wanted))
        self.actors[game] = wanted

    def configure(self, game, *, share, quota=1_000):
        if share > 1.9:
            raise ValueError("a share too many")
        self.shares[game] = share
        return GameSettings(share=share, quota=quota, samples_per_insert_cap=4.0)

    def progress(self):
        return Progress(
            updates=7,
            games={
                game: GameProgress(
                    played=ActorCounts(steps=100),
                    actors=min(self.room, self.actors[game]),
                    wanted=self.actors[game],
                    pending=max(0, self.actors[game] - self.room),
                    replay=TableStats(share=self.shares[game]),
                )
                for game in GAMES
            },
            faults={"actor_restarts": 2},
        )


class Board:
    """Somebody outside."""

    def __init__(self):
        self.wishes = {}
        self.settings_asked_for = {}
        self.shown = []

    def wanted(self):
        return dict(self.wishes)

    def settings(self):
        return dict(self.settings_asked_for)

    def show(self, status, record=None):
        self.shown.append((status, record))

    @property
    def status(self):
        return self.shown[-1][0]


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Scene:
    """A run that is looked at."""

    def __init__(self, *, balance=None, board=True):
        config = RunConfig(games=GAMES, num_steps=100, balance=balance or BalanceConfig())
        self.engine = CountingEngine()
        self.board = Board() if board else None
        self.events = []
        self.clock = Clock()
        self.recipe = Recipe(config)
        self.control = LiveControl(
            self.recipe,
            engine=self.engine,
            board=self.board,
            tell=lambda event, progress: self.events.append(event),
            clock=self.clock,
        )

    def look(self, row=None):
        self.control.look(self.engine.progress(), row or {})


def returns(recipe, **parts):
    """A look's training scores, as parts of the way from random play to the teacher."""
    row = {}
    for game, part in parts.items():
        low, high = get_game(game).random_score, recipe.teacher_score(game).mean
        row[f"game/{game}/return"] = low + part * (high - low)
    return row


def test_a_wish_is_followed_once_and_told():
    scene = Scene()
    scene.look()
    scene.board.wishes = {"pong": 8}
    scene.look()
    scene.look()
    assert scene.engine.calls == [("pong", 8)]
    assert scene.events == ["pong: 3 -> 8 actors"]
    assert scene.board.status["answered"] == {"pong": 8}
    assert scene.board.status["events"] == [
        {"seconds": None, "steps": 300, "updates": 7, "event": "pong: 3 -> 8 actors"}
    ]


def test_a_wish_that_cannot_be_is_refused_with_the_reason_and_changes_nothing():
    scene = Scene()
    scene.board.wishes = {"seaquest": 2, "boxing": 1}
    scene.look()
    assert scene.engine.calls == [("boxing", 1)]
    assert "'seaquest' is not a game of this run" in scene.board.status["refused"]["seaquest"]
    assert len(scene.events) == 2
    scene.look()
    assert len(scene.events) == 2, "the same refusal is told again"


def test_what_is_seen_from_outside():
    scene = Scene()
    scene.engine.room = 2
    scene.control.show("starting", None)
    assert scene.board.status["phase"] == "starting"
    assert set(scene.board.status["games"]) == set(GAMES)
    scene.look({"seconds": 5.0})
    status, record = scene.board.shown[-1]
    assert record == {"seconds": 5.0}
    assert status["phase"] == "training"
    pong = status["games"]["pong"]
    assert pong.pop("teacher") == scene.recipe.teacher_score("pong").mean
    assert pong.pop("settings") == {"share": 1.0, "quota": 0, "samples_per_insert_cap": 0.0}
    assert pong == {"live": 2, "wanted": 3, "waiting": 1, "steps": 100}
    assert (status["steps"], status["updates"]) == (300, 7)
    assert status["pid"] > 0
    assert status["host"]
    assert status["faults"] == {"actor_restarts": 2}


def test_the_balance_moves_an_actor_and_shares_and_says_so():
    scene = Scene(balance=BalanceConfig(enabled=True, period_s=60.0, bound=1.5))
    row = returns(scene.recipe, pong=1.0, boxing=0.5, breakout=0.0)
    scene.look(row)
    assert scene.engine.calls == [], "before its period is over"
    scene.clock.now = 61.0
    scene.look(row)
    # The one that gives comes first.
    assert scene.engine.calls == [("pong", 2), ("breakout", 4)]
    assert scene.events[:2] == [
        "pong: 3 -> 2 actors (balance)",
        "breakout: 3 -> 4 actors (balance)",
    ]
    assert scene.engine.shares == {
        "pong": pytest.approx(1 / 1.5),
        "boxing": 1.0,
        "breakout": pytest.approx(1.5),
    }
    assert "breakout: share 1.00 -> 1.50 (balance)" in scene.events
    scene.look(row)
    assert len(scene.engine.calls) == 2, "again within its period"


def test_a_game_that_somebody_has_set_a_number_for_is_left_alone():
    scene = Scene(balance=BalanceConfig(enabled=True))
    scene.board.wishes = {"breakout": 3}
    scene.clock.now = 1000.0
    scene.look(returns(scene.recipe, pong=1.0, boxing=0.6, breakout=0.0))
    assert {game for game, _ in scene.engine.calls} <= {"breakout", "pong", "boxing"}
    assert scene.engine.actors["breakout"] == 3
    assert scene.engine.shares["breakout"] == 1.0


def test_settings_that_somebody_asks_for_are_put_in_force_once_and_said():
    scene = Scene()
    scene.board.settings_asked_for = {"pong": {"share": 1.5, "quota": 2_000}}
    scene.look({"seconds": 5.0})
    scene.look({"seconds": 6.0})
    assert scene.engine.shares["pong"] == 1.5
    assert scene.events == ["pong: share 1.5, quota 2000"]
    assert scene.board.status["answered_settings"] == {"pong": {"share": 1.5, "quota": 2_000}}
    assert scene.board.status["refused"] == {}


def test_settings_that_are_refused_are_told_with_the_reason_until_others_are_asked_for():
    scene = Scene()
    scene.board.settings_asked_for = {"pong": {"share": 5.0}}
    scene.look({"seconds": 5.0})
    assert scene.board.status["refused"] == {"pong settings": "a share too many"}
    assert scene.events == ["cannot change the settings of pong: a share too many"]
    scene.board.settings_asked_for = {"pong": {"share": 1.0}}
    scene.look({"seconds": 6.0})
    assert scene.board.status["refused"] == {}
