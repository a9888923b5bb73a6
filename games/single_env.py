"""One game as a gymnasium.Env: the observations, rules and restarts that networks are trained with.

For loops of your own, and for libraries that step one environment. Everything here that trains or
tests steps vectors (games/env.py).
"""

from __future__ import annotations

import operator
import secrets
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from games.camera import FilmedEnv
from games.env import VectorEnv, VectorStep, get_protocol
from games.registry import get_game, make_vector_env
from games.spec import Observations


class GameEnv(gymnasium.Env[Observations, np.int64]):
    """One copy of a game.

    Observations are uint8 `[S*C, H, W]`, newest frame last, or float32 `[S*C]` of a vector. Actions
    are joint action ids; the int8 `info["action_mask"]` has 1 for those that are legal in the game,
    and fits `env.action_space.sample(mask)`. Rewards are raw. `info["life_lost"]` is True at a step
    that cost a life; the episode goes on.
    """

    def __init__(
        self, game: str, *, protocol: str = "classic", render_mode: str | None = None
    ) -> None:
        """Play `game` by the rules of `protocol`.

        Args:
            game: name of a registered game.
            protocol: name of one in games.env.PROTOCOLS.
            render_mode: "rgb_array" makes render() give the screen in colour, for which a second
                emulator runs beside an Atari game; None for no picture.

        Raises:
            ValueError: unknown game, protocol or render mode.
        """
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": 15}
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode must be rgb_array or None, not {render_mode!r}")
        self._game = get_game(game)
        self._protocol = get_protocol(protocol)
        self.render_mode = render_mode
        low, high = (-np.inf, np.inf) if self._game.is_vector else (0, 255)
        self.observation_space = gymnasium.spaces.Box(
            low, high, self._game.observation_shape, self._game.frame_dtype
        )
        self.action_space = gymnasium.spaces.Discrete(self._game.num_actions)
        self._env: VectorEnv | FilmedEnv | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        """Start an episode; with a seed, all random streams of the game begin anew from it."""
        super().reset(seed=seed)
        if seed is not None or self._env is None:
            self.close()
            self._env = self._build(secrets.randbits(31) if seed is None else seed)
        return self._env.reset()[0], self._info(life_lost=False)

    def step(
        self, action: int | np.int64
    ) -> tuple[Observations, float, bool, bool, dict[str, Any]]:
        """Play one step; ValueError for an action that is not legal in this game."""
        if self._env is None:
            raise RuntimeError("call reset() before step()")
        try:
            number = operator.index(action)
        except TypeError:
            raise ValueError(f"an action is one whole number, not {action!r}") from None
        step = self._step(self._env, number)
        return (
            step.observations[0],
            float(step.rewards[0]),
            bool(step.terminated[0]),
            bool(step.truncated[0]),
            self._info(life_lost=bool(step.life_lost[0])),
        )

    def render(self) -> NDArray[np.uint8] | None:
        """The screen, uint8 [H, W, 3]; None without a render mode or before the first reset."""
        return self._env.screen if isinstance(self._env, FilmedEnv) else None

    def close(self) -> None:
        """Free the emulators."""
        if self._env is not None:
            self._env.close()
        self._env = None

    def _build(self, seed: int) -> VectorEnv | FilmedEnv:
        if self.render_mode is None:
            return make_vector_env(self._game, num_envs=1, protocol=self._protocol, seed=seed)
        return FilmedEnv(self._game, protocol=self._protocol, seed=seed)

    @staticmethod
    def _step(env: VectorEnv | FilmedEnv, action: int) -> VectorStep:
        if isinstance(env, FilmedEnv):
            return env.step(action)
        return env.step(np.array([action], np.int64))

    def _info(self, *, life_lost: bool) -> dict[str, Any]:
        return {"action_mask": self._game.legal_mask().astype(np.int8), "life_lost": life_lost}
