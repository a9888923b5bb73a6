"""Any other Gymnasium environment with discrete actions, played as a VectorEnv.

N environments are stepped one after the other in this process. The vector environments of
Gymnasium are not used: the restart of a single environment, the stacking of frames, sticky actions
and the length limit are few lines, and here they mean exactly what they mean for Atari.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from games.env import EnvProtocol, VectorEnv, VectorStep, local_action_table, to_local_actions
from games.registry import register_game
from games.spec import GameSpec, Observations

if TYPE_CHECKING:
    import gymnasium

GymEnv: TypeAlias = "gymnasium.Env[Any, Any]"


def image_to_frame(observation: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A uint8 image [H, W] or [H, W, C] as a frame [C, H, W]; ValueError for anything else."""
    image = np.asarray(observation)
    if image.dtype != np.uint8 or image.ndim not in (2, 3):
        raise ValueError(
            f"expected a uint8 image [H, W] or [H, W, C], not {image.dtype} {list(image.shape)}; "
            "register the game with a to_frame function that makes a uint8 frame [C, H, W]"
        )
    return image[None] if image.ndim == 2 else image.transpose(2, 0, 1)


def vector_to_frame(observation: Any) -> NDArray[np.float32]:
    """Numbers in one dimension as a frame [C]; ValueError for anything else, or for no numbers."""
    vector = np.asarray(observation)
    if vector.ndim != 1 or vector.dtype.kind not in "fiu":
        raise ValueError(f"expected numbers in one dimension, not {vector.dtype} {vector.shape}")
    frame = vector.astype(np.float32)
    if not np.isfinite(frame).all():
        raise ValueError("it has numbers that are not finite; wrap the environment")
    return frame


def register_gym_game(
    spec: GameSpec,
    make_gym_env: Callable[[], GymEnv],
    *,
    to_frame: Callable[[Any], Observations] | None = None,
) -> None:
    """Register a game that is played by a Gymnasium environment.

    A module that calls this when it is imported makes a game that runs find by the module's path
    (docs/games.md).

    Args:
        spec: the environment has either as many actions as `legal_actions`, in that order, or as
            many as `num_actions`; in the second case it is given joint action ids.
            `frames_per_step` says how many frames a step of the environment plays by itself.
        make_gym_env: makes one environment, such as `lambda: gymnasium.make("CartPole-v1")`.
            A limit on its length is kept and reported as truncation; a reward wrapper is not
            undone.
        to_frame: turns one observation into one frame of `spec.frame_shape`, uint8 if that is an
            image's and float32 if it is a vector's; without it, `image_to_frame` or
            `vector_to_frame`.

    Raises:
        ValueError: another game has the name, or the family another joint action set.
    """
    if to_frame is None:
        to_frame = vector_to_frame if spec.is_vector else image_to_frame

    def make_env(
        spec: GameSpec, *, num_envs: int, protocol: EnvProtocol, seed: int, num_threads: int
    ) -> VectorEnv:
        del num_threads  # Python environments hold the interpreter: one thread is all they can use.
        return GymEnvs(
            spec, make_gym_env, to_frame, num_envs=num_envs, protocol=protocol, seed=seed
        )

    register_game(spec, make_env)


class GymEnvs:
    """N Gymnasium environments of one game behind the VectorEnv interface.

    A life is lost when the number under "lives" in the environment's info falls, where there is
    one, and at the end of the game.
    """

    def __init__(
        self,
        spec: GameSpec,
        make_gym_env: Callable[[], GymEnv],
        to_frame: Callable[[Any], Observations],
        *,
        num_envs: int,
        protocol: EnvProtocol,
        seed: int,
    ) -> None:
        """Build the environments; users call register_gym_game() and then make_vector_env()."""
        self._spec = spec
        self._num_envs = num_envs
        self._to_frame = to_frame
        self._repeat_probability = protocol.repeat_action_probability
        # Rounded up: the step that reaches the limit is the last one.
        self._max_episode_steps = -(-protocol.max_episode_frames // spec.frames_per_step)
        self._local_actions = local_action_table(spec)

        sources = np.random.SeedSequence(seed).spawn(num_envs)
        self._first_seeds: list[int] | None = [int(s.generate_state(1)[0] >> 1) for s in sources]
        self._sticky_rngs = [np.random.default_rng(source) for source in sources]

        self._envs: list[GymEnv] = [make_gym_env() for _ in range(num_envs)]
        self._env_actions = _env_actions(spec, self._envs[0])

        self._stacks = np.zeros((num_envs, *spec.observation_shape), dtype=spec.frame_dtype)
        self._previous_actions: list[int | None] = [None] * num_envs
        self._lives: list[int | None] = [None] * num_envs
        self._episode_steps = np.zeros(num_envs, dtype=np.int64)
        self._ended = np.zeros(num_envs, dtype=np.bool_)
        self._started = False

    @property
    def spec(self) -> GameSpec:
        """The game that is played."""
        return self._spec

    @property
    def num_envs(self) -> int:
        """Number of environments."""
        return self._num_envs

    def reset(self) -> Observations:
        """Start N new episodes; the first call begins the random streams from the seed."""
        if not self._envs:
            raise RuntimeError(f"the environments of {self._spec.name!r} are closed")
        for index in range(self._num_envs):
            self._restart(index, None if self._first_seeds is None else self._first_seeds[index])
        self._first_seeds = None
        self._ended = np.zeros(self._num_envs, dtype=np.bool_)
        self._started = True
        return self._stacks.copy()

    def step(self, actions: NDArray[np.int64]) -> VectorStep:
        """Play one step in every environment, with the arguments and errors of VectorEnv.step()."""
        if not self._envs or not self._started:
            raise RuntimeError(
                f"step() of {self._spec.name!r} needs a reset() first, and no close()"
            )
        local = to_local_actions(actions, self._local_actions, self._spec, self._num_envs)
        restarted = self._ended
        rewards = np.zeros(self._num_envs, dtype=np.float32)
        terminated = np.zeros(self._num_envs, dtype=np.bool_)
        truncated = np.zeros(self._num_envs, dtype=np.bool_)
        life_lost = np.zeros(self._num_envs, dtype=np.bool_)
        for index in range(self._num_envs):
            if restarted[index]:
                self._restart(index, None)
                continue
            action = self._env_actions[int(local[index])]
            rewards[index], terminated[index], truncated[index], life_lost[index] = self._play(
                index, action
            )
        self._ended = terminated | truncated
        return VectorStep(
            observations=self._stacks.copy(),
            rewards=rewards,
            terminated=terminated,
            truncated=truncated,
            life_lost=life_lost,
            restarted=restarted,
        )

    def screen(self) -> NDArray[np.uint8] | None:
        """The first environment as a picture [H, W, 3]; None where it draws none."""
        import gymnasium

        if not self._envs or self._envs[0].render_mode != "rgb_array":
            return None
        try:
            picture: Any = self._envs[0].render()
        except gymnasium.error.DependencyNotInstalled:
            return None
        return np.asarray(picture, np.uint8)

    def close(self) -> None:
        """Close the environments."""
        for env in self._envs:
            env.close()
        self._envs = []

    def _restart(self, index: int, seed: int | None) -> None:
        """Start a new episode in one environment and put its first frame on the empty stack."""
        observation, info = self._envs[index].reset(seed=seed)
        self._stacks[index] = 0
        self._push(index, observation)
        self._previous_actions[index] = None
        self._lives[index] = info.get("lives")
        self._episode_steps[index] = 0

    def _play(self, index: int, action: int) -> tuple[float, bool, bool, bool]:
        """Step one environment; returns reward, terminated, truncated, life lost."""
        previous = self._previous_actions[index]
        # An episode's first action is never replaced: there is nothing to repeat.
        if previous is not None and self._sticky_rngs[index].random() < self._repeat_probability:
            action = previous
        self._previous_actions[index] = action

        observation, reward, terminated, truncated, info = self._envs[index].step(action)
        self._push(index, observation)
        self._episode_steps[index] += 1
        at_limit = bool(self._episode_steps[index] >= self._max_episode_steps)

        lives, lives_before = info.get("lives"), self._lives[index]
        self._lives[index] = lives
        fewer = lives is not None and lives_before is not None and lives < lives_before
        ended = bool(terminated)
        return float(reward), ended, (bool(truncated) or at_limit) and not ended, fewer or ended

    def _push(self, index: int, observation: Any) -> None:
        """Shift the stack of one environment and put the new frame last."""
        try:
            frame = self._to_frame(observation)
        except ValueError as error:
            raise ValueError(f"an observation of {self._spec.name!r}: {error}") from error
        wanted = self._spec.frame_dtype
        if frame.shape != self._spec.frame_shape or frame.dtype != wanted:
            raise ValueError(
                f"a frame of {self._spec.name!r} is {frame.dtype} {list(frame.shape)}, but its "
                f"spec says {wanted.__name__} {list(self._spec.frame_shape)}; correct frame_shape "
                "or to_frame"
            )
        channels = self._spec.frame_shape[0]
        stack = self._stacks[index]
        stack[:-channels] = stack[channels:].copy()
        stack[-channels:] = frame


def _env_actions(spec: GameSpec, env: GymEnv) -> tuple[int, ...]:
    """What to give the environment for each of the legal actions, in their order."""
    # Not above: a command line that only names games is read without Gymnasium.
    import gymnasium

    space = env.action_space
    if not isinstance(space, gymnasium.spaces.Discrete):
        raise ValueError(
            f"{spec.name!r} needs a Discrete action space, not {space}; wrap the environment"
        )
    start = int(space.start)
    if space.n == len(spec.legal_actions):
        return tuple(range(start, start + len(spec.legal_actions)))
    if space.n == spec.num_actions:
        return tuple(start + action for action in spec.legal_actions)
    raise ValueError(
        f"the environment of {spec.name!r} has {space.n} actions, but its spec has "
        f"{len(spec.legal_actions)} legal ones out of {spec.num_actions}; correct the spec"
    )
