"""Atari: the 57 games with published scores, every other one of ale-py, and how they are played.

All are played on ale-py's C++ AtariVectorEnv.

An observation is the 84x84 gray screen (pixel-wise maximum of the last two of a step's 4 frames,
area-interpolated), four of them, newest last. Nothing else is done to the game, unless a protocol
asks for it (games/openings.py): FIRE is not pressed for the agent, rewards are not clipped, and
losing a life does not restart anything.

Joint actions are the 18 of the ALE's Action enumeration, in its order (0 NOOP, 1 FIRE, 2 UP,
... 17 DOWNLEFTFIRE). The emulator runs in the game's minimal action set: in full-action mode some
games still have fewer than 18 (Skiing: 9), so that the index would not be the action id.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from games.env import EnvProtocol, VectorStep, local_action_table, to_local_actions
from games.flavours import (
    FlavouredEmulators,
    check_flavour,
    minimal_actions,
    parse_flavour,
    spec_of,
)
from games.openings import Openings
from games.registry import get_game, register_finder, register_game
from games.spec import GameSpec, Observations

if TYPE_CHECKING:
    from ale_py.vector_env import AtariVectorEnv

NUM_ACTIONS = 18


class _Row(NamedTuple):
    legal_actions: tuple[int, ...]
    random_score: float | None = None
    human_score: float | None = None


_ALL = tuple(range(NUM_ACTIONS))

# Game (also the name of its ROM in ale-py): minimal action set, random score, human score.
#
# Actions: ALEInterface.getMinimalActionSet() of ale-py 0.12.1.
# Scores: mean undiscounted return of uniformly random play and of a professional human tester,
# each over at least 3 episodes with random no-op starts (1 to 30) and a cap of 108,000 frames;
# the values of DQN Zoo (Quan and Ostrovski 2020),
# https://github.com/google-deepmind/dqn_zoo/blob/master/dqn_zoo/atari_data.py
# The table in Mnih et al. 2015 differs in places.
_TABLE: dict[str, _Row] = {
    "alien": _Row(_ALL, 227.8, 7127.7),
    "amidar": _Row((0, 1, 2, 3, 4, 5, 10, 11, 12, 13), 5.8, 1719.5),
    "assault": _Row((0, 1, 2, 3, 4, 11, 12), 222.4, 742.0),
    "asterix": _Row((0, 2, 3, 4, 5, 6, 7, 8, 9), 210.0, 8503.3),
    "asteroids": _Row((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12, 13, 14, 15), 719.1, 47388.7),
    "atlantis": _Row((0, 1, 11, 12), 12850.0, 29028.1),
    "bank_heist": _Row(_ALL, 14.2, 753.1),
    "battle_zone": _Row(_ALL, 2360.0, 37187.5),
    "beam_rider": _Row((0, 1, 2, 3, 4, 6, 7, 11, 12), 363.9, 16926.5),
    "berzerk": _Row(_ALL, 123.7, 2630.4),
    "bowling": _Row((0, 1, 2, 5, 10, 13), 23.1, 160.7),
    "boxing": _Row(_ALL, 0.1, 12.1),
    "breakout": _Row((0, 1, 3, 4), 1.7, 30.5),
    "centipede": _Row(_ALL, 2090.9, 12017.0),
    "chopper_command": _Row(_ALL, 811.0, 7387.8),
    "crazy_climber": _Row((0, 2, 3, 4, 5, 6, 7, 8, 9), 10780.5, 35829.4),
    "defender": _Row(_ALL, 2874.5, 18688.9),
    "demon_attack": _Row((0, 1, 3, 4, 11, 12), 152.1, 1971.0),
    "double_dunk": _Row(_ALL, -18.6, -16.4),
    "enduro": _Row((0, 1, 3, 4, 5, 8, 9, 11, 12), 0.0, 860.5),
    "fishing_derby": _Row(_ALL, -91.7, -38.7),
    "freeway": _Row((0, 2, 5), 0.0, 29.6),
    "frostbite": _Row(_ALL, 65.2, 4334.7),
    "gopher": _Row((0, 1, 2, 3, 4, 10, 11, 12), 257.6, 2412.5),
    "gravitar": _Row(_ALL, 173.0, 3351.4),
    "hero": _Row(_ALL, 1027.0, 30826.4),
    "ice_hockey": _Row(_ALL, -11.2, 0.9),
    "jamesbond": _Row(_ALL, 29.0, 302.8),
    "kangaroo": _Row(_ALL, 52.0, 3035.0),
    "krull": _Row(_ALL, 1598.0, 2665.5),
    "kung_fu_master": _Row((0, 2, 3, 4, 5, 8, 9, 11, 12, 13, 14, 15, 16, 17), 258.5, 22736.3),
    "montezuma_revenge": _Row(_ALL, 0.0, 4753.3),
    "ms_pacman": _Row((0, 2, 3, 4, 5, 6, 7, 8, 9), 307.3, 6951.6),
    "name_this_game": _Row((0, 1, 3, 4, 11, 12), 2292.3, 8049.0),
    "phoenix": _Row((0, 1, 3, 4, 5, 11, 12, 13), 761.4, 7242.6),
    "pitfall": _Row(_ALL, -229.4, 6463.7),
    "pong": _Row((0, 1, 3, 4, 11, 12), -20.7, 14.6),
    "private_eye": _Row(_ALL, 24.9, 69571.3),
    "qbert": _Row((0, 1, 2, 3, 4, 5), 163.9, 13455.0),
    "riverraid": _Row(_ALL, 1338.5, 17118.0),
    "road_runner": _Row(_ALL, 11.5, 7845.0),
    "robotank": _Row(_ALL, 2.2, 11.9),
    "seaquest": _Row(_ALL, 68.4, 42054.7),
    "skiing": _Row((0, 3, 4), -17098.1, -4336.9),
    "solaris": _Row(_ALL, 1236.3, 12326.7),
    "space_invaders": _Row((0, 1, 3, 4, 11, 12), 148.0, 1668.7),
    "star_gunner": _Row(_ALL, 664.0, 10250.0),
    "surround": _Row((0, 2, 3, 4, 5), -10.0, 6.5),
    "tennis": _Row(_ALL, -23.8, -8.3),
    "time_pilot": _Row((0, 1, 2, 3, 4, 5, 10, 11, 12, 13), 3568.0, 5229.2),
    "tutankham": _Row((0, 2, 3, 4, 5, 10, 11, 12), 11.4, 167.6),
    "up_n_down": _Row((0, 1, 2, 5, 10, 13), 533.4, 11693.2),
    "venture": _Row(_ALL, 0.0, 1187.5),
    "video_pinball": _Row((0, 1, 2, 3, 4, 5, 10, 11, 12), 16256.9, 17667.9),
    "wizard_of_wor": _Row((0, 1, 2, 3, 4, 5, 10, 11, 12, 13), 563.5, 4756.5),
    "yars_revenge": _Row(_ALL, 3092.9, 54576.9),
    "zaxxon": _Row(_ALL, 32.5, 9173.3),
}


def _build_spec(name: str, row: _Row) -> GameSpec:
    return GameSpec(
        name=name,
        family="atari",
        num_actions=NUM_ACTIONS,
        legal_actions=row.legal_actions,
        frame_shape=(1, 84, 84),
        num_stack=4,
        frames_per_step=4,
        random_score=row.random_score,
        human_score=row.human_score,
    )


# The 57 games by name.
ATARI_GAMES: Mapping[str, GameSpec] = MappingProxyType(
    {name: _build_spec(name, row) for name, row in _TABLE.items()}
)


class AtariEnvs:
    """N emulators of one Atari game behind the VectorEnv interface."""

    def __init__(
        self, spec: GameSpec, *, num_envs: int, protocol: EnvProtocol, seed: int, num_threads: int
    ) -> None:
        """Build the emulators; users call make_vector_env().

        Raises:
            ValueError: if the action sets of the table and of the installed emulator differ, or
                the episode limit is not a whole number of steps.
        """
        if protocol.max_episode_frames % spec.frames_per_step:
            # The emulator would stop within a step, with frames of the step before on its screen.
            raise ValueError(
                f"max_episode_frames ({protocol.max_episode_frames}) must be a multiple of the "
                f"{spec.frames_per_step} frames in a step of {spec.name!r}"
            )
        self._spec = spec
        self._num_envs = num_envs
        self._emulators: AtariVectorEnv | FlavouredEmulators | None = _build_emulators(
            spec, num_envs=num_envs, protocol=protocol, num_threads=num_threads
        )
        self._local_actions = local_action_table(spec)
        self._first_seeds: NDArray[np.int64] | None = _emulator_seeds(seed, num_envs)
        self._lives: NDArray[np.int32] | None = None
        self._ended = np.zeros(num_envs, dtype=np.bool_)
        self._openings = Openings(spec, protocol, num_envs) if Openings.has_any(protocol) else None

    @property
    def spec(self) -> GameSpec:
        """The game that is played."""
        return self._spec

    @property
    def num_envs(self) -> int:
        """Number of emulators."""
        return self._num_envs

    def reset(self) -> Observations:
        """Start N new episodes; the first call begins the random streams from the seed."""
        if self._emulators is None:
            raise RuntimeError(f"the environments of {self._spec.name!r} are closed")
        observations: Observations
        # Without seeds the emulators go on with the random streams they have.
        observations, info = self._emulators.reset(seed=self._first_seeds)
        self._first_seeds = None
        self._lives = info["lives"]
        self._ended = np.zeros(self._num_envs, dtype=np.bool_)
        if self._openings is None:
            return observations
        noops = np.zeros(self._num_envs, dtype=np.int64)
        for _ in range(self._openings.begin()):
            observations = self.step(noops).observations
        return self._openings.pad(observations)

    def step(self, actions: NDArray[np.int64]) -> VectorStep:
        """Play one step in every emulator, with the arguments and errors of VectorEnv.step()."""
        if self._emulators is None or self._lives is None:
            raise RuntimeError(
                f"step() of {self._spec.name!r} needs a reset() first, and no close()"
            )
        # An index beyond the action set must not be sent: the emulator's worker throws, and
        # receiving then waits for ever.
        local = to_local_actions(actions, self._local_actions, self._spec, self._num_envs)
        scripted = self._openings.replace_actions(local) if self._openings else None
        observations, rewards, terminated, truncated, info = self._emulators.step(local)
        lives: NDArray[np.int32] = info["lives"]
        restarted = self._ended
        # Only fewer lives count: bonus lives and the refill at a restart raise the number. The
        # end counts always, since many games report 0 lives from the start to the end.
        life_lost = ((lives < self._lives) | terminated) & ~restarted
        self._lives = lives
        self._ended = terminated | truncated
        step = VectorStep(
            observations=observations,
            rewards=rewards.astype(np.float32),
            terminated=terminated,
            truncated=truncated,
            life_lost=life_lost,
            restarted=restarted,
        )
        if self._openings is None or scripted is None:
            return step
        return self._openings.apply(step, scripted, lives)

    def close(self) -> None:
        """Stop the threads and free the emulators."""
        self._emulators = None


def _build_emulators(
    spec: GameSpec, *, num_envs: int, protocol: EnvProtocol, num_threads: int
) -> AtariVectorEnv | FlavouredEmulators:
    if (flavour := parse_flavour(spec.name)) is not None:
        return FlavouredEmulators(flavour, spec, num_envs=num_envs, protocol=protocol)
    # Not above: a command line that only names games is read without the emulator.
    from ale_py.vector_env import AtariVectorEnv

    channels, height, width = spec.frame_shape
    emulators = AtariVectorEnv(
        spec.name,
        num_envs,
        num_threads=num_threads,
        max_num_frames_per_episode=protocol.max_episode_frames,
        repeat_action_probability=protocol.repeat_action_probability,
        full_action_space=False,
        autoreset_mode="NextStep",
        img_height=height,
        img_width=width,
        grayscale=channels == 1,  # In colour for games/camera.py.
        stack_num=spec.num_stack,
        frameskip=spec.frames_per_step,
        maxpool=True,
        # The emulator draws from 0..noop_max-1.
        noop_max=protocol.noop_max + 1,
        # Both would end or restart an episode at a life loss; lives are compared instead.
        episodic_life=False,
        life_loss_info=False,
        reward_clipping=False,
        use_fire_reset=False,
    )
    actual = tuple(action.value for action in emulators.ale.get_action_set())
    if actual != spec.legal_actions:
        raise ValueError(
            f"ale-py plays {spec.name!r} with the actions {actual}, but its spec says "
            f"{spec.legal_actions}; install the ale-py version that pyproject.toml asks for"
        )
    return emulators


def _emulator_seeds(seed: int, num_envs: int) -> NDArray[np.int64]:
    """Int64 [num_envs], each in 0..2**31-1.

    The emulator itself would count up from the seed, so that environment 1 of seed 0 played the
    same as environment 0 of seed 1.
    """
    words = np.random.SeedSequence(seed).generate_state(num_envs, np.uint32)
    return (words >> 1).astype(np.int64)


def find_rom(name: str) -> GameSpec | None:
    """Register another game of ale-py, by the name of its ROM; None for other names.

    Raises:
        ValueError: the game is for two players only.
    """
    # Not above: a command line that only names games is read without the emulator.
    from ale_py import ALEInterface, roms

    path = roms.get_rom_path(name) if name in roms.get_all_rom_ids() else None
    if path is None:
        return None
    if not ALEInterface.isSupportedROM(path):
        raise ValueError(f"{name!r} is a game for two players; ale-py does not play it alone")
    spec = _build_spec(name, _Row(minimal_actions(name)))
    register_game(spec, AtariEnvs)
    return spec


def find_flavour(name: str) -> GameSpec | None:
    """Register a game that is another flavour of one of ale-py's; None for other names.

    Raises:
        ValueError: the game has no such mode or difficulty.
    """
    game, separator, _ = name.partition("@")
    # Other families have options behind an `@`, too.
    if separator and not _is_here(game):
        return None
    flavour = parse_flavour(name)
    if flavour is None or not _is_here(flavour.game):
        return None
    check_flavour(flavour)
    spec = spec_of(flavour, get_game(flavour.game))
    register_game(spec, AtariEnvs)
    return spec


def _is_here(game: str) -> bool:
    return game in ATARI_GAMES or find_rom(game) is not None


for _spec in ATARI_GAMES.values():
    register_game(_spec, AtariEnvs)
register_finder(find_flavour)
register_finder(find_rom)
