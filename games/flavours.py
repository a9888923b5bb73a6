"""Flavours of Atari games: their other modes and difficulties, as games of their own.

`breakout@mode=4,difficulty=1` is what people write; breakout_mode4_difficulty1 is the game's name
in files and metrics. ale-py's vector environment plays default flavours only, so these emulators
are stepped here, one after the other, with the same screens bit for bit.

Shape suffixes:
    N     environments
    S     frames of a stack
    H, W  rows and columns of the screen, or of a frame
    K     most pixels that one pixel covers
    D     pixels, or lines of them, of the smaller image
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from games.env import EnvProtocol
from games.spec import GameSpec

if TYPE_CHECKING:
    from ale_py import ALEInterface

# float32 weights of up to so many pixels for every row, or column, of a frame.
_Weights = tuple[NDArray[np.int64], NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Flavour:
    """One mode and difficulty of a game."""

    game: str
    mode: int
    difficulty: int

    @property
    def name(self) -> str:
        """The flavour as the name of a game."""
        return f"{self.game}_mode{self.mode}_difficulty{self.difficulty}"


def parse_flavour(text: str) -> Flavour | None:
    """The flavour that `GAME@mode=M,difficulty=D`, or its name, stands for; None for neither.

    Either part may be left out behind the `@`: it is the game's own then, mode 0 and difficulty 0.

    Raises:
        ValueError: what follows `@` says neither.
    """
    if named := re.fullmatch(r"(\w+)_mode(\d+)_difficulty(\d+)", text):
        return Flavour(named[1], int(named[2]), int(named[3]))
    game, separator, settings = text.partition("@")
    if not separator:
        return None
    pairs = re.findall(r"(mode|difficulty)=(\d{1,3})", settings)
    if not pairs or settings != ",".join(map("=".join, pairs)) or len(pairs) != len(dict(pairs)):
        raise ValueError(
            f"{text!r} names no flavour of a game; write it like {game}@mode=4,difficulty=1"
        )
    named_values = dict(pairs)
    return Flavour(game, int(named_values.get("mode", 0)), int(named_values.get("difficulty", 0)))


def check_flavour(flavour: Flavour) -> None:
    """Refuse (ValueError) a mode or a difficulty that the game does not have."""
    emulator = _open_emulator(flavour.game)
    modes, difficulties = emulator.getAvailableModes(), emulator.getAvailableDifficulties()
    for what, value, known in (
        ("mode", flavour.mode, modes),
        ("difficulty", flavour.difficulty, difficulties),
    ):
        if value not in known:
            raise ValueError(
                f"{flavour.game} has no {what} {value}; it has {', '.join(map(str, known))}"
            )


def minimal_actions(game: str) -> tuple[int, ...]:
    """Joint actions that have an effect in a game, as the emulator says."""
    return tuple(action.value for action in _open_emulator(game).getMinimalActionSet())


def spec_of(flavour: Flavour, base: GameSpec) -> GameSpec:
    """The flavour's game: as the default one, but nobody has published scores of it."""
    return replace(base, name=flavour.name, random_score=None, human_score=None)


class FlavouredEmulators:
    """N emulators of one flavour, with the calls of ale-py's AtariVectorEnv that are used."""

    def __init__(
        self, flavour: Flavour, spec: GameSpec, *, num_envs: int, protocol: EnvProtocol
    ) -> None:
        """Load the game N times; `reset` starts it."""
        sticky = protocol.repeat_action_probability
        self._ales = [_open_emulator(flavour.game, sticky) for _ in range(num_envs)]
        self._flavour = flavour
        self._spec = spec
        self._protocol = protocol
        self._actions = self._ales[0].getMinimalActionSet()
        self._noop_rngs = [np.random.default_rng() for _ in range(num_envs)]
        # A stack of gray frames for each: the camera films no flavours.
        self._stacks_NSHW = np.zeros((num_envs, *spec.observation_shape), np.uint8)
        # Of a step's last two frames: the last one, or the maximum of both, and the other one.
        self._screens: list[list[NDArray[np.uint8]]] = [[] for _ in range(num_envs)]
        self._num_frames = np.zeros(num_envs, np.int64)
        self._is_over = np.zeros(num_envs, np.bool_)

    def reset(
        self, *, seed: NDArray[np.int64] | None
    ) -> tuple[NDArray[np.uint8], dict[str, NDArray[np.int32]]]:
        """Begin N episodes; with seeds, the random streams too."""
        for index in range(len(self._ales)):
            self._restart(index, None if seed is None else int(seed[index]))
        self._is_over[:] = False
        return self._stacks_NSHW.copy(), self._info()

    def step(self, actions_N: NDArray[np.int64]) -> tuple[Any, ...]:
        """Observations, rewards, terminated, truncated, info; an ended episode begins again."""
        rewards_N = np.zeros(len(self._ales))
        terminated_N, truncated_N = np.zeros_like(self._is_over), np.zeros_like(self._is_over)
        for index, ale in enumerate(self._ales):
            if self._is_over[index]:
                self._restart(index, None)
                continue
            rewards_N[index] = self._play(index, int(actions_N[index]))
            terminated_N[index] = ale.game_over(with_truncation=False)
            truncated_N[index] = self._is_at_limit(index) and not terminated_N[index]
        self._is_over = terminated_N | truncated_N
        return self._stacks_NSHW.copy(), rewards_N, terminated_N, truncated_N, self._info()

    def _is_at_limit(self, index: int) -> bool:
        return bool(self._num_frames[index] >= self._protocol.max_episode_frames)

    def _play(self, index: int, action: int) -> float:
        ale, reward = self._ales[index], 0.0
        for left in reversed(range(self._spec.frames_per_step)):
            reward += ale.act(self._actions[action])
            self._num_frames[index] += 1
            # The frame that ends an episode is not looked at: screens of before stay in place.
            if ale.game_over(with_truncation=False) or self._is_at_limit(index):
                break
            if left < 2:
                self._screens[index][left] = ale.getScreenGrayscale()
        self._push(index)
        return reward

    def _restart(self, index: int, seed: int | None) -> None:
        ale = self._ales[index]
        if seed is not None:
            ale.setInt("random_seed", seed)
            _load(ale, self._flavour.game)
            self._noop_rngs[index] = np.random.default_rng(seed)
        ale.setMode(self._flavour.mode)
        ale.setDifficulty(self._flavour.difficulty)
        ale.reset_game()
        for _ in range(self._noop_rngs[index].integers(self._protocol.noop_max + 1)):
            ale.act(self._actions[0])
            if ale.game_over(with_truncation=False):
                ale.reset_game()
        self._stacks_NSHW[index] = 0
        self._num_frames[index] = 0
        screen_HW = ale.getScreenGrayscale()
        self._screens[index] = [screen_HW, np.zeros_like(screen_HW)]
        self._push(index)

    def _push(self, index: int) -> None:
        """Add the pixel-wise maximum of a step's last two screens to the stack, as its newest."""
        screens = self._screens[index]
        screens[0] = np.maximum(*screens)
        stack = self._stacks_NSHW[index]
        stack[:-1] = stack[1:].copy()
        stack[-1] = shrink(screens[0], (stack.shape[1], stack.shape[2]))

    def _info(self) -> dict[str, NDArray[np.int32]]:
        return {"lives": np.array([ale.lives() for ale in self._ales], np.int32)}


def shrink(image_HW: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Mean grey levels of the areas that become a smaller image's pixels, rounded half to even.

    Sums are formed in single precision, columns first, as OpenCV's INTER_AREA forms them: half of a
    grey level is common, and where it is rounded to depends on it.
    """
    columns_WH = _weighted_sum(image_HW.T.astype(np.float32), size[1])
    return np.rint(_weighted_sum(columns_WH.T, size[0])).astype(np.uint8)


def _weighted_sum(lines: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """`size` lines, each the weighted sum of those that it covers, in their order."""
    places_KD, weights_KD = _weights(len(lines), size)
    total: NDArray[np.float32] = lines[places_KD[0]] * weights_KD[0, :, None]
    for places_D, weights_D in zip(places_KD[1:], weights_KD[1:], strict=True):
        total += lines[places_D] * weights_D[:, None]
    return total


@cache
def _weights(size: int, smaller: int) -> _Weights:
    """Places and weights [K, D] of the pixels that each of `smaller` pixels covers, in order."""
    scale = size / smaller
    covered = [_covered(index * scale, (index + 1) * scale, size) for index in range(smaller)]
    most = max(map(len, covered))
    places_KD = np.zeros((most, smaller), np.int64)
    weights_KD = np.zeros((most, smaller), np.float32)
    for index, parts in enumerate(covered):
        for place, (pixel, length) in enumerate(parts):
            places_KD[place, index] = pixel
            weights_KD[place, index] = length / scale
    return places_KD, weights_KD


def _covered(start: float, stop: float, size: int) -> list[tuple[int, float]]:
    """Pixels between two places on a line, with the length that lies between them."""
    lengths = (
        (pixel, min(stop, pixel + 1) - max(start, pixel))
        for pixel in range(int(start), min(int(np.ceil(stop)), size))
    )
    return [(pixel, length) for pixel, length in lengths if length > 1e-3]


def _open_emulator(game: str, repeat_action_probability: float = 0.0) -> ALEInterface:
    # Not above: a command line that only names games is read without the emulator.
    from ale_py import ALEInterface, LoggerMode

    ALEInterface.setLoggerMode(LoggerMode.Error)
    emulator = ALEInterface()
    emulator.setFloat("repeat_action_probability", repeat_action_probability)
    _load(emulator, game)
    return emulator


def _load(emulator: ALEInterface, game: str) -> None:
    from ale_py import roms

    path = roms.get_rom_path(game)
    assert path is not None, game
    emulator.loadROM(path)
