"""One MinAtar game as a Gymnasium environment; games/minatar.py says what is played."""

from __future__ import annotations

import importlib
import logging
from types import ModuleType
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray


class MinAtarEnv(gymnasium.Env[NDArray[np.bool_], np.int64]):
    """One MinAtar game with joint actions, without the plotting libraries of minatar.gym."""

    def __init__(self, game: str, *, num_actions: int) -> None:
        """Make the game that MinAtar calls `game`; ValueError if MinAtar is not installed."""
        self._game = _import_minatar().Environment(game, sticky_action_prob=0.0)
        self.action_space = gymnasium.spaces.Discrete(num_actions)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.bool_], dict[str, Any]]:
        """Start an episode, with new random draws if there is a seed."""
        # Not the seeding of gymnasium.Env: the game draws from a generator of its own.
        if seed is not None:
            self._game.seed(seed)
        self._game.reset()
        return self._game.state(), {}

    def step(self, action: np.int64) -> tuple[NDArray[np.bool_], float, bool, bool, dict[str, Any]]:
        """Play one joint action; MinAtar itself never truncates."""
        reward, terminated = self._game.act(action)
        return self._game.state(), float(reward), bool(terminated), False, {}


def _import_minatar() -> ModuleType:
    """Import the optional package; ValueError if it is not installed, saying how to install it."""
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
