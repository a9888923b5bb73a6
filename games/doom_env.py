"""One ViZDoom scenario as a Gymnasium environment; games/doom.py says what is played."""

from __future__ import annotations

import importlib
import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from games.flavours import shrink

# The engine makes this folder, empty, where it is started.
_LEFT_BEHIND = "_vizdoom"


class DoomEnv(gymnasium.Env[NDArray[np.uint8], np.int64]):
    """One scenario: action 0 does nothing, action k presses button k - 1 alone."""

    def __init__(
        self, scenario: str, buttons: Sequence[str], *, frames_per_step: int, size: int
    ) -> None:
        """Start an engine without a window; ValueError if ViZDoom is not installed."""
        vizdoom = _import_vizdoom()
        game = vizdoom.DoomGame()
        game.load_config(os.path.join(vizdoom.scenarios_path, f"{scenario}.cfg"))
        game.set_available_buttons([getattr(vizdoom.Button, name) for name in buttons])
        game.set_mode(vizdoom.Mode.PLAYER)
        game.set_window_visible(False)
        game.set_screen_format(vizdoom.ScreenFormat.GRAY8)
        game.set_screen_resolution(vizdoom.ScreenResolution.RES_160X120)
        self._game = game
        # The engine writes its settings to a file, by default where the command was started.
        self._folder = tempfile.TemporaryDirectory(prefix="doom-", ignore_cleanup_errors=True)
        game.set_doom_config_path(os.path.join(self._folder.name, "settings.ini"))
        was_there = Path(_LEFT_BEHIND).exists()
        game.init()
        if not was_there:
            with suppress(OSError):
                Path(_LEFT_BEHIND).rmdir()
        self._presses = [
            [i == k for i in range(1, len(buttons) + 1)] for k in range(len(buttons) + 1)
        ]
        self._frames_per_step = frames_per_step
        self._size = size
        self._picture = np.zeros((size, size), np.uint8)
        self.action_space = gymnasium.spaces.Discrete(len(buttons) + 1)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """Start an episode, with new random draws if there is a seed."""
        if seed is not None:
            self._game.set_seed(seed)
        self._game.new_episode()
        self._look()
        return self._picture, {}

    def step(self, action: np.int64) -> tuple[NDArray[np.uint8], float, bool, bool, dict[str, Any]]:
        """Hold a button for a step's tics; the scenario's own time limit is a truncation."""
        reward = float(self._game.make_action(self._presses[action], self._frames_per_step))
        is_over = bool(self._game.is_episode_finished())
        is_cut = is_over and bool(self._game.is_episode_timeout_reached())
        if not is_over:
            self._look()
        # After the end there is nothing to be seen: the picture before it stays.
        return self._picture, reward, is_over and not is_cut, is_cut, {}

    def close(self) -> None:
        """Stop the engine."""
        self._game.close()
        self._folder.cleanup()

    def _look(self) -> None:
        self._picture = shrink(self._game.get_state().screen_buffer, (self._size, self._size))


def _import_vizdoom() -> Any:
    try:
        return importlib.import_module("vizdoom")
    except ModuleNotFoundError as error:
        if error.name != "vizdoom":
            raise
        raise ValueError(
            "Doom games need the optional package vizdoom; install it with: pip install vizdoom"
        ) from None
