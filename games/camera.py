"""One game with a picture for people: the screen in colour while a network plays.

What networks see of an Atari game is small and gray. The camera is a second emulator that gets the
same seed and the same actions, so that it goes through the same states; that it does is checked
at every step by reward and end. Other games show the newest frame of the observation, or what their
Gymnasium environment draws of numbers.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from games.atari import ATARI_GAMES, AtariEnvs
from games.env import EnvProtocol, VectorEnv, VectorStep
from games.gym import GymEnvs
from games.registry import make_vector_env
from games.spec import GameSpec, Observations

# Colours, height and width of an Atari screen.
_SCREEN = (3, 210, 160)

# Distinguishable also without full colour vision (Okabe and Ito 2008); then shades of gray.
_PALETTE = np.array(
    [
        (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178),
        (213, 94, 0), (204, 121, 167), (255, 255, 255), (170, 170, 170), (100, 100, 100),
    ],
    dtype=np.uint8,
)  # fmt: skip


class FilmedEnv:
    """One environment of a game, and its screen."""

    def __init__(self, spec: GameSpec, *, protocol: EnvProtocol, seed: int) -> None:
        """Build the environment, and for an Atari game a second emulator that films it."""
        self._env = make_vector_env(spec, num_envs=1, protocol=protocol, seed=seed)
        self._camera: VectorEnv | None = None
        if ATARI_GAMES.get(spec.name) == spec:
            in_colour = replace(spec, frame_shape=_SCREEN, num_stack=1)
            self._camera = AtariEnvs(
                in_colour, num_envs=1, protocol=protocol, seed=seed, num_threads=1
            )
        self._spec = spec
        # [H, W, 3] of the newest frame, red, green and blue.
        self.screen: NDArray[np.uint8] = np.zeros((1, 1, 3), np.uint8)

    @property
    def spec(self) -> GameSpec:
        """The game."""
        return self._spec

    def reset(self) -> Observations:
        """Start an episode; returns [1, S*C, H, W], or [1, S*C] of a vector."""
        observations = self._env.reset()
        filmed = self._camera.reset() if self._camera else observations
        self._look(filmed)
        return observations

    def step(self, action: int) -> VectorStep:
        """Play one step, which must be a legal joint action."""
        actions = np.array([action], np.int64)
        step = self._env.step(actions)
        filmed = self._camera.step(actions) if self._camera else step
        same = filmed.rewards == step.rewards and filmed.terminated == step.terminated
        if not same or filmed.truncated != step.truncated:
            raise RuntimeError(f"the camera has lost the game of {self._spec.name!r}")
        self._look(filmed.observations)
        return step

    def close(self) -> None:
        """Free the emulators."""
        self._env.close()
        if self._camera:
            self._camera.close()

    def _look(self, observations: Observations) -> None:
        channels = self._spec.frame_shape[0]
        newest = observations[0, -channels:]
        if self._camera:
            self.screen = observations.reshape(*_SCREEN[1:], _SCREEN[0]).astype(np.uint8)
        elif self._spec.is_vector:
            drawn = self._env.screen() if isinstance(self._env, GymEnvs) else None
            self.screen = vector_to_picture(newest) if drawn is None else drawn
        else:
            self.screen = frame_to_picture(newest)


def vector_to_picture(numbers: Observations) -> NDArray[np.uint8]:
    """[H, W, 3], where nothing better is there: a bar for each number, upwards if it is positive.

    A bar has its full length at about 2 and more.
    """
    half = 20
    picture = np.zeros((2 * half, 8 * len(numbers), 3), np.uint8)
    for index, height in enumerate(np.rint(half * np.tanh(numbers)).astype(int).tolist()):
        rows = slice(half - max(height, 0), half - min(height, 0))
        picture[rows, 8 * index + 1 : 8 * index + 7] = _PALETTE[index % len(_PALETTE)]
    picture[half] = 100
    return picture


def frame_to_picture(frame: Observations) -> NDArray[np.uint8]:
    """[H, W, 3] from a frame [C, H, W]: gray, in colour, or one colour for each channel."""
    channels, height, width = frame.shape
    if channels == 1:
        return np.repeat(frame[0][:, :, None], 3, axis=2).astype(np.uint8)
    if channels == 3:
        return frame.transpose(1, 2, 0).astype(np.uint8)
    picture = np.zeros((height, width, 3), np.uint8)
    for channel in range(channels):
        shown = frame[channel] > 0
        picture[shown] = _PALETTE[channel % len(_PALETTE)]
    return picture
