"""The five MinAtar games (Young and Tian 2019, https://arxiv.org/abs/1903.03176), optional.

They have the shape of the Atari problem at a hundredth of its cost: one joint action set, of which
each game accepts a part, and one observation shape, to which each game is padded. The package
`minatar` is not installed by default and is imported when an environment is made.

Joint actions: 0 nothing, 1 left, 2 up, 3 right, 4 down, 5 fire. Sticky actions come from the
protocol; MinAtar's own are switched off. Difficulty ramping is on, MinAtar's default. Freeway
ends after 2,500 steps by its own rules, and reports that as a real end.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Mapping
from types import MappingProxyType, ModuleType
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from games.gym import GymEnv, register_gym_game
from games.spec import GameSpec

NUM_ACTIONS = 6
NUM_CHANNELS = 10
"""Channels of the widest game, Seaquest."""

# MinAtar's own game name: minimal action set (that of the -v1 Gymnasium ids), random score.
#
# Random scores were measured with this module: mean return of uniformly random legal actions under
# the protocol "classic", 4,000 episodes (640 in Freeway), equally many from each environment;
# standard errors 0.01, in Freeway 0.03 and in Space Invaders 0.05.
_TABLE: dict[str, tuple[tuple[int, ...], float]] = {
    "asterix": ((0, 1, 2, 3, 4), 0.52),
    "breakout": ((0, 1, 3), 0.41),
    "freeway": ((0, 2, 4), 0.39),
    "seaquest": ((0, 1, 2, 3, 4, 5), 0.10),
    "space_invaders": ((0, 1, 3, 5), 4.22),
}

_PREFIX = "minatar_"


def _build_spec(game: str, legal_actions: tuple[int, ...], random_score: float) -> GameSpec:
    return GameSpec(
        name=_PREFIX + game,
        family="minatar",
        num_actions=NUM_ACTIONS,
        legal_actions=legal_actions,
        frame_shape=(NUM_CHANNELS, 10, 10),
        num_stack=1,
        frames_per_step=1,
        random_score=random_score,
        human_score=None,
    )


MINATAR_GAMES: Mapping[str, GameSpec] = MappingProxyType(
    {_PREFIX + game: _build_spec(game, legal, random) for game, (legal, random) in _TABLE.items()}
)
"""The five games by name; the prefix keeps them apart from the Atari games."""


def planes_to_frame(planes: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """MinAtar's bool [10, 10, C] as uint8 [10, 10, 10] with channels first.

    A set bit becomes 255, so that it is 1.0 once the networks have divided by 255; the channels
    that a game lacks are zero.
    """
    frame = np.zeros((NUM_CHANNELS, 10, 10), dtype=np.uint8)
    frame[: planes.shape[2]] = planes.transpose(2, 0, 1)
    frame *= 255
    return frame


class _MinAtarEnv(gymnasium.Env[NDArray[np.bool_], np.int64]):
    """One MinAtar game with joint actions, without the plotting libraries of minatar.gym."""

    def __init__(self, game: str) -> None:
        self._game = _import_minatar().Environment(game, sticky_action_prob=0.0)
        self.action_space = gymnasium.spaces.Discrete(NUM_ACTIONS)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.bool_], dict[str, Any]]:
        # Not the seeding of gymnasium.Env: the game draws from a generator of its own.
        if seed is not None:
            self._game.seed(seed)
        self._game.reset()
        return self._game.state(), {}

    def step(self, action: np.int64) -> tuple[NDArray[np.bool_], float, bool, bool, dict[str, Any]]:
        reward, terminated = self._game.act(action)
        return self._game.state(), float(reward), bool(terminated), False, {}


def _import_minatar() -> ModuleType:
    """Import the optional package.

    Raises:
        ValueError: if it is not installed, saying how to install it.
    """
    # Without its plotting libraries MinAtar logs a warning at import, and with that installs a
    # handler on the root logger. Neither is wanted here: nothing is plotted.
    disabled, handlers = logging.root.manager.disable, logging.root.handlers[:]
    logging.disable(logging.WARNING)
    try:
        return importlib.import_module("minatar")
    except ModuleNotFoundError as error:
        if error.name != "minatar":
            raise
        raise ValueError(
            "MinAtar games need the optional package minatar; install it with: pip install minatar"
        ) from None
    finally:
        logging.disable(disabled)
        logging.root.handlers[:] = handlers


def _make_gym_env(game: str) -> Callable[[], GymEnv]:
    return lambda: _MinAtarEnv(game)


for _game in _TABLE:
    register_gym_game(
        MINATAR_GAMES[_PREFIX + _game], _make_gym_env(_game), to_frame=planes_to_frame
    )
