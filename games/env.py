"""Many copies of one game, stepped together: the interface, and the rules they are played by.

Nothing here plays: games/atari.py, games/gym.py and games/minatar.py do.

Shape letters: N environments of the vector, S stacked frames, C channels, H, W.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from games.spec import GameSpec, Observations


@dataclass(frozen=True, slots=True)
class VectorStep:
    """What N environments answered to N actions. The arrays are fresh; the caller may keep them."""

    # [N, S*C, H, W], or [N, S*C] of vectors, after the step, newest frame last; zeros before an
    # episode's first frame.
    observations: Observations

    # [N] as the game gives them: never clipped or scaled.
    rewards: NDArray[np.float32]

    # [N] the game really ended with this step.
    terminated: NDArray[np.bool_]

    # [N] the episode was cut by its length limit; never together with `terminated`.
    truncated: NDArray[np.bool_]

    # [N] a life was lost with this step; also True at the real end. The game plays on.
    life_lost: NDArray[np.bool_]

    # [N] this step did not play: it only fetched the first observation of a new episode, because
    # the step before ended one, or it was part of the protocol's opening. Its action was ignored
    # and its reward is 0; never store it.
    restarted: NDArray[np.bool_]


class VectorEnv(Protocol):
    """N copies of one game. After the end of an episode, the next step only restarts it."""

    @property
    def spec(self) -> GameSpec:
        """The game that is played."""
        ...

    @property
    def num_envs(self) -> int:
        """N."""
        ...

    def reset(self) -> Observations:
        """Start N new episodes; returns their observations [N, S*C, H, W].

        The first call starts the random streams from the seed, later ones go on with them.
        """
        ...

    def step(self, actions: NDArray[np.int64]) -> VectorStep:
        """Play one step in every environment.

        Args:
            actions: [N] joint action ids.

        Raises:
            ValueError: for an action that is not legal in this game, or actions of a wrong shape
                or type. Nothing has been played then, and the next step may follow.
            RuntimeError: before the first reset() or after close().
        """
        ...

    def close(self) -> None:
        """Free the environments; a second call does nothing."""
        ...


StackPadding: TypeAlias = Literal["zeros", "first_frame"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvProtocol:
    """The rules under which a game is played, spelled out in one place.

    All families honour `repeat_action_probability` and `max_episode_frames`. The no-ops, the
    openings and the padding are for Atari alone: other games bring their own randomness, or do not
    survive doing nothing.
    """

    name: str

    # Most no-op frames at the start of an episode; the number is drawn uniformly from
    # 0..noop_max. They do not count towards max_episode_frames.
    noop_max: int

    # Sticky actions: chance that the previous action is played instead of the chosen one. In
    # Atari it is drawn anew at every frame (Machado et al. 2018), elsewhere at every step.
    repeat_action_probability: float

    # Whether training cuts the return (discount 0) at a life loss. The environments do not act
    # on it: they report `life_lost` and play on, so that all lives are seen.
    life_loss_ends_return: bool

    # An episode is truncated after this many frames.
    max_episode_frames: int

    # Whether a game with a FIRE button is opened for the agent: one step of FIRE, then one step
    # of the third legal action. An agent trained so may never have learned to press FIRE.
    fire_opening: bool = False

    # Whether a lost life is followed, before the agent goes on, by a step of no-op, the opening
    # again, and a stack of frames that begins anew. The game and its score go on.
    opening_at_life_loss: bool = False

    # What stands for the frames before the first one: black frames, or copies of the first.
    stack_padding: StackPadding = "zeros"

    # Share of random actions with which scores under this protocol are usually measured.
    evaluation_epsilon: float = 0.05

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if self.noop_max < 0:
            raise ValueError(f"noop_max must be 0 or more, not {self.noop_max}")
        if not 0.0 <= self.repeat_action_probability < 1.0:
            raise ValueError(
                "repeat_action_probability must be at least 0 and below 1, "
                f"not {self.repeat_action_probability}"
            )
        if self.max_episode_frames < 1:
            raise ValueError(f"max_episode_frames must be positive, not {self.max_episode_frames}")
        if not 0.0 <= self.evaluation_epsilon <= 1.0:
            raise ValueError(
                f"evaluation_epsilon must lie between 0 and 1, not {self.evaluation_epsilon}"
            )


# Mnih et al. 2015: random no-op starts, a life loss ends the return in training.
_CLASSIC = EnvProtocol(
    name="classic",
    noop_max=30,
    repeat_action_probability=0.0,
    life_loss_ends_return=True,
    max_episode_frames=108_000,
)
# Machado et al. 2018: sticky actions, only the end of the game ends the return.
_MODERN = EnvProtocol(
    name="modern",
    noop_max=0,
    repeat_action_probability=0.25,
    life_loss_ends_return=False,
    max_episode_frames=108_000,
)

# Those that a run plays by, its default first. The others are how libraries measure what they
# publish; they serve to verify imported teachers, and some of them act in the agent's place.
RUN_PROTOCOLS = ("classic", "modern")

# A step is 4 frames, and an episode lasts at most 108,000 (30 minutes of play at 60 frames per
# second) where nothing else is said. docs/teachers.md has them as a table, and what they leave out.
PROTOCOLS: Mapping[str, EnvProtocol] = MappingProxyType(
    {
        protocol.name: protocol
        for protocol in (
            _CLASSIC,
            _MODERN,
            # AtariWrapper with rl-zoo's settings: EpisodicLifeEnv stays on in its evaluations.
            replace(
                _CLASSIC,
                name="sb3",
                fire_opening=True,
                opening_at_life_loss=True,
                evaluation_epsilon=0.01,
            ),
            # The same wrappers, but FrameStack repeats the first frame.
            replace(
                _CLASSIC,
                name="cleanrl",
                fire_opening=True,
                opening_at_life_loss=True,
                stack_padding="first_frame",
                evaluation_epsilon=0.01,
            ),
            # play.py of floringogianu/atari-agents: ALEClassic and ALEModern.
            replace(_CLASSIC, name="atari_agents_classic", noop_max=29, evaluation_epsilon=0.001),
            replace(_MODERN, name="atari_agents_modern", evaluation_epsilon=0.001),
            # train_dqn.py: whole games of at most five minutes, and no FIRE.
            replace(_CLASSIC, name="pfrl", max_episode_frames=18_000, stack_padding="first_frame"),
            replace(_MODERN, name="dopamine", evaluation_epsilon=0.001),
        )
    }
)


def get_protocol(name: str) -> EnvProtocol:
    """The protocol of that name; ValueError for an unknown name."""
    if name not in PROTOCOLS:
        raise ValueError(f"unknown protocol {name!r}; choose one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


def local_action_table(spec: GameSpec) -> NDArray[np.int64]:
    """Int64 [num_actions]: joint action id -> its index among the legal ones, -1 if illegal."""
    table = np.full(spec.num_actions, -1, dtype=np.int64)
    table[list(spec.legal_actions)] = np.arange(len(spec.legal_actions))
    return table


def to_local_actions(
    actions: NDArray[np.int64], table: NDArray[np.int64], spec: GameSpec, num_envs: int
) -> NDArray[np.int64]:
    """Translate joint action ids into the game's own, refusing everything else."""
    actions = np.asarray(actions)
    if actions.shape != (num_envs,) or not np.issubdtype(actions.dtype, np.integer):
        raise ValueError(
            f"actions for {spec.name!r} must be {num_envs} integers in one dimension, "
            f"not {actions.dtype} {list(actions.shape)}"
        )
    # The range comes first: a negative id would index the table from its end.
    in_range = (actions >= 0) & (actions < spec.num_actions)
    local = table[np.where(in_range, actions, 0)]
    illegal = ~in_range | (local < 0)
    if illegal.any():
        index = int(illegal.argmax())
        raise ValueError(
            f"action {int(actions[index])} of environment {index} is not legal in "
            f"{spec.name!r}; choose one of the joint actions {spec.legal_actions}"
        )
    return local
