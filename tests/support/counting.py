"""A game whose frames, rewards and ends count: a lost or mixed-up step shows as a wrong integer.

Every frame carries the game, the seed, the environment, the episode, the step, the environment's
clock, the action that led to it, and a checksum. What an environment does follows from its
Schedule alone, never from the actions, so that `expected_entries` can say in advance, by a plain
loop, what must come out at the other end of a pipeline.

Importing this module registers the games counting_ends, counting_cuts, counting_lives and four that
take their time, of the family "counting"; a process that plays them only has to import it.

    clock    calls of step() since the first reset(); a restart takes one, too
    step     number of the decision within its episode; a frame of step 0 is an episode's first
"""

from __future__ import annotations

import itertools
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from games.env import EnvProtocol, VectorStep, local_action_table, to_local_actions
from games.registry import register_game
from games.spec import GameSpec

NUM_ACTIONS = 6
FRAME_SHAPE = (1, 4, 4)
NUM_STACK = 3

# Bytes of a frame, big endian: game, seed 4, environment, episode 2, step 2, clock 3,
# action + 1, checksum 2.
_WIDTHS = (1, 4, 1, 2, 2, 3, 1)
_CHECKED_BYTES = sum(_WIDTHS)
_CHECK_WEIGHTS = np.arange(1, _CHECKED_BYTES + 1) * 181


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """When episodes end, how, and when lives are lost."""

    lengths: tuple[int, ...] = (5, 3, 8)
    """Steps of the episodes, in turn; environment e begins with entry e."""
    cut_every: int = 0
    """Every k-th episode is truncated; 0: none."""
    life_steps: int = 0
    """A life is lost with every k-th step of an episode; 0: only at the end."""
    step_s: float = 0.0
    """How long a step of all environments takes, without a processor."""

    def length(self, env: int, episode: int) -> int:
        return self.lengths[(env + episode) % len(self.lengths)]

    def is_cut(self, env: int, episode: int) -> bool:
        """Whether it is truncated instead of ending."""
        return self.cut_every > 0 and (env + episode + 1) % self.cut_every == 0

    def loses_life(self, step: int) -> bool:
        """Whether step number `step` costs a life, the end of the game apart."""
        return self.life_steps > 0 and (step + 1) % self.life_steps == 0


@dataclass(frozen=True, slots=True)
class Tags:
    """What frames say; int64 arrays of one shape."""

    game: NDArray[np.int64]
    seed: NDArray[np.int64]
    env: NDArray[np.int64]
    episode: NDArray[np.int64]
    step: NDArray[np.int64]
    clock: NDArray[np.int64]
    action: NDArray[np.int64]
    """That led to the frame; -1 at an episode's first."""

    def tuple_at(self, index: int) -> tuple[int, int, int, int, int, int]:
        """(game, seed, env, episode, step, clock) of one frame."""
        fields = (self.game, self.seed, self.env, self.episode, self.step, self.clock)
        return tuple(int(field[index]) for field in fields)  # type: ignore[return-value]


def read_tags(frames: NDArray[np.uint8]) -> Tags:
    """Decode frames [..., 1, 4, 4]; AssertionError if one is blank, mixed or otherwise damaged."""
    data = frames.reshape(*frames.shape[:-3], _CHECKED_BYTES + 2).astype(np.int64)
    check = data[..., _CHECKED_BYTES] * 256 + data[..., _CHECKED_BYTES + 1]
    assert (check == _checksum(data)).all(), "a frame is damaged"
    fields, start = [], 0
    for width in _WIDTHS:
        powers = 256 ** np.arange(width - 1, -1, -1, dtype=np.int64)
        fields.append(data[..., start : start + width] @ powers)
        start += width
    assert (fields[0] > 0).all(), "a frame is blank"
    fields[-1] = fields[-1] - 1
    return Tags(*fields)


def _write_frames(tags: Tags) -> NDArray[np.uint8]:
    fields = (
        tags.game,
        tags.seed,
        tags.env,
        tags.episode,
        tags.step,
        tags.clock,
        tags.action + 1,
    )
    columns = [
        (field >> (8 * place)) & 255
        for field, width in zip(fields, _WIDTHS, strict=True)
        for place in range(width - 1, -1, -1)
    ]
    data = np.stack(columns, axis=-1)
    check = _checksum(data)
    data = np.concatenate([data, np.stack([check >> 8, check & 255], axis=-1)], axis=-1)
    return data.astype(np.uint8).reshape(-1, *FRAME_SHAPE)


def _checksum(data: NDArray[np.int64]) -> NDArray[np.int64]:
    # Plus one: sixteen zeros are not a frame.
    result: NDArray[np.int64] = (data[..., :_CHECKED_BYTES] @ _CHECK_WEIGHTS + 1) % 65_521
    return result


def reward_of(tags: Tags) -> NDArray[np.float32]:
    """Reward of the step played from each frame: an integer that float32 and sums hold exactly."""
    mixed = tags.game % 4 * 64 + tags.seed % 4 * 16 + tags.env % 16
    return (tags.clock * 256 + mixed).astype(np.float32)


def game_id(name: str) -> int:
    """The number by which frames call a game, 1 to 255."""
    return zlib.crc32(name.encode()) % 255 + 1


def frames_of(observations: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return observations.reshape(-1, NUM_STACK, *FRAME_SHAPE)


def check_stacks(observations: NDArray[np.uint8]) -> Tags:
    """Tags of the newest frames, after checking that the frames before are those just before.

    AssertionError if a stack has a gap, crosses the start of an episode, lacks a frame of its own
    episode, or mixes environments.
    """
    stacks = frames_of(observations)
    newest = read_tags(stacks[:, -1])
    for back in range(1, NUM_STACK):
        frames = stacks[:, NUM_STACK - 1 - back]
        begun = newest.step >= back
        assert not frames[~begun].any(), "a stack reaches across the start of its episode"
        older = read_tags(frames[begun])
        for name in ("game", "seed", "env", "episode"):
            same = getattr(older, name) == getattr(newest, name)[begun]
            assert same.all(), f"a stack mixes frames of different {name}"
        assert (older.step == newest.step[begun] - back).all(), "a stack skips or repeats a step"
        assert (older.clock == newest.clock[begun] - back).all(), "a stack skips or repeats a clock"
    return newest


@dataclass(frozen=True, slots=True)
class Entry:
    """What must be stored of one observation."""

    episode: int
    step: int
    clock: int
    is_transition: bool
    """False for the last observation of a truncated episode."""
    terminated: bool
    life_lost: bool
    """Also at the real end."""

    @property
    def is_first(self) -> bool:
        return self.step == 0

    def discount(self, *, life_loss_ends_return: bool) -> float:
        ends = self.terminated or (self.life_lost and life_loss_ends_return)
        return 0.0 if ends and self.is_transition else 1.0


def expected_entries(schedule: Schedule, env: int, *, num_rows: int) -> list[Entry]:
    """What environment `env` gives to store in its first `num_rows` steps, in order."""
    return list(
        itertools.takewhile(lambda entry: entry.clock < num_rows, _all_entries(schedule, env))
    )


def _all_entries(schedule: Schedule, env: int) -> Iterator[Entry]:
    clock = 0
    for episode in itertools.count():
        length, is_cut = schedule.length(env, episode), schedule.is_cut(env, episode)
        for step in range(length):
            ends = step == length - 1 and not is_cut
            lost = ends or schedule.loses_life(step)
            yield Entry(episode, step, clock, True, ends, lost)
            clock += 1
        if is_cut:
            yield Entry(episode, length, clock, False, False, False)
        # The step from an episode's last observation only restarts the game.
        clock += 1


def expected_returns(schedule: Schedule, game: str, seed: int, env: int, num: int) -> list[float]:
    """Returns of the first `num` episodes of an environment."""
    returns: list[float] = []
    total = 0.0
    for entry in _all_entries(schedule, env):
        if entry.is_transition:
            tags = Tags(
                *(np.array([value]) for value in (game_id(game), seed, env)),
                *(np.array([value]) for value in (entry.episode, entry.step, entry.clock, 0)),
            )
            total += float(reward_of(tags)[0])
            if entry.step == schedule.length(env, entry.episode) - 1:
                returns.append(total)
                total = 0.0
        if len(returns) == num:
            break
    return returns


class CountingEnvs:
    """N counting environments behind the VectorEnv interface."""

    def __init__(self, spec: GameSpec, schedule: Schedule, *, num_envs: int, seed: int = 0) -> None:
        self._spec = spec
        self._schedule = schedule
        self._num_envs = num_envs
        self._seed = seed
        self._local_actions = local_action_table(spec)
        self._stacks = np.zeros((num_envs, NUM_STACK, *FRAME_SHAPE), np.uint8)
        self._episode = np.full(num_envs, -1, np.int64)
        self._step = np.zeros(num_envs, np.int64)
        self._action = np.full(num_envs, -1, np.int64)
        self._ended = np.zeros(num_envs, np.bool_)
        self._clock = 0
        self._is_started = False
        self.is_closed = False

    @property
    def spec(self) -> GameSpec:
        return self._spec

    @property
    def num_envs(self) -> int:
        return self._num_envs

    def reset(self) -> NDArray[np.uint8]:
        if self.is_closed:
            raise RuntimeError("the environments are closed")
        self._is_started = True
        self._ended[:] = False
        self._restart(np.ones(self._num_envs, np.bool_))
        self._push()
        return self._observations()

    def step(self, actions: NDArray[np.int64]) -> VectorStep:
        if self.is_closed or not self._is_started:
            raise RuntimeError("step() needs a reset() first, and no close()")
        to_local_actions(actions, self._local_actions, self._spec, self._num_envs)
        time.sleep(self._schedule.step_s)
        restarted = self._ended.copy()
        rewards = np.where(restarted, 0, reward_of(self._tags())).astype(np.float32)
        terminated = np.zeros(self._num_envs, np.bool_)
        truncated = np.zeros(self._num_envs, np.bool_)
        life_lost = np.zeros(self._num_envs, np.bool_)
        for env in np.flatnonzero(~restarted).tolist():
            episode, step = int(self._episode[env]), int(self._step[env])
            if step == self._schedule.length(env, episode) - 1:
                truncated[env] = self._schedule.is_cut(env, episode)
                terminated[env] = not truncated[env]
            life_lost[env] = terminated[env] or self._schedule.loses_life(step)
        self._clock += 1
        self._step[~restarted] += 1
        self._action = np.where(restarted, -1, actions)
        self._restart(restarted)
        self._push()
        self._ended = terminated | truncated
        return VectorStep(
            observations=self._observations(),
            rewards=rewards,
            terminated=terminated,
            truncated=truncated,
            life_lost=life_lost,
            restarted=restarted,
        )

    def close(self) -> None:
        self.is_closed = True

    def _restart(self, where: NDArray[np.bool_]) -> None:
        self._episode[where] += 1
        self._step[where] = 0
        self._action[where] = -1
        self._stacks[where] = 0

    def _push(self) -> None:
        self._stacks[:, :-1] = self._stacks[:, 1:].copy()
        self._stacks[:, -1] = _write_frames(self._tags())

    def _observations(self) -> NDArray[np.uint8]:
        return self._stacks.reshape(self._num_envs, *self._spec.observation_shape).copy()

    def _tags(self) -> Tags:
        def full(value: int) -> NDArray[np.int64]:
            return np.full(self._num_envs, value)

        return Tags(
            full(game_id(self._spec.name)),
            full(self._seed),
            np.arange(self._num_envs),
            self._episode,
            self._step,
            full(self._clock),
            self._action,
        )


SCHEDULES: dict[str, Schedule] = {}
"""Of every registered counting game."""


def register_counting_game(
    name: str, schedule: Schedule, *, legal_actions: tuple[int, ...] = (0, 2, 3, 5)
) -> GameSpec:
    """Make another counting game known to this process."""
    spec = GameSpec(
        name=name,
        family="counting",
        num_actions=NUM_ACTIONS,
        legal_actions=legal_actions,
        frame_shape=FRAME_SHAPE,
        num_stack=NUM_STACK,
        frames_per_step=2,
        random_score=0.0,
        human_score=None,
    )
    assert all(game_id(other) != game_id(name) for other in SCHEDULES if other != name)
    register_game(spec, make_counting_envs)
    SCHEDULES[name] = schedule
    return spec


def make_counting_envs(
    spec: GameSpec, *, num_envs: int, protocol: EnvProtocol, seed: int, num_threads: int
) -> CountingEnvs:
    """For the games' registry; the protocol is ignored, since the schedule says everything."""
    del protocol, num_threads
    return CountingEnvs(spec, SCHEDULES[spec.name], num_envs=num_envs, seed=seed)


ENDS = register_counting_game("counting_ends", Schedule(lengths=(5, 3, 8)))
_CUTS = Schedule(lengths=(4, 1, 6), cut_every=2)
_LIVES = Schedule(lengths=(9, 2), cut_every=3, life_steps=4)
CUTS = register_counting_game("counting_cuts", _CUTS, legal_actions=(1, 4))
LIVES = register_counting_game("counting_lives", _LIVES, legal_actions=(0, 1, 2, 3, 4, 5))
# A run of these leaves the cores to processes that start beside it.
CALM_CUTS = register_counting_game(
    "counting_cuts_calmly", replace(_CUTS, step_s=0.005), legal_actions=(1, 4)
)
CALM_LIVES = register_counting_game(
    "counting_lives_calmly", replace(_LIVES, step_s=0.005), legal_actions=(0, 1, 2, 3, 4, 5)
)
SLOWLY = register_counting_game("counting_slowly", Schedule(lengths=(5, 3, 8), step_s=0.04))
SLOWLY_TOO = register_counting_game("counting_slowly_too", Schedule(lengths=(7, 4), step_s=0.04))
