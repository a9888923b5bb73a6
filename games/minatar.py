"""The five MinAtar games (Young and Tian 2019, https://arxiv.org/abs/1903.03176), optional.

They have the shape of the Atari problem at a hundredth of its cost: one joint action set, of which
each game accepts a part, and one observation shape, to which each game is padded. The package
`minatar` is not installed by default and is imported when an environment is made.

Joint actions: 0 nothing, 1 left, 2 up, 3 right, 4 down, 5 fire. Sticky actions come from the
protocol; MinAtar's own are switched off. Difficulty ramping is on, MinAtar's default. Freeway
ends after 2,500 steps by its own rules, and reports that as a real end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from games.gym import GymEnv, register_gym_game
from games.spec import GameSpec

NUM_ACTIONS = 6
# Channels of the widest game, Seaquest.
NUM_CHANNELS = 10

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


# The five games by name; the prefix keeps them apart from the Atari games.
MINATAR_GAMES: Mapping[str, GameSpec] = MappingProxyType(
    {_PREFIX + game: _build_spec(game, legal, random) for game, (legal, random) in _TABLE.items()}
)


def planes_to_frame(planes: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """MinAtar's bool [10, 10, C] as uint8 [10, 10, 10] with channels first.

    A set bit becomes 255, so that it is 1.0 once the networks have divided by 255; the channels
    that a game lacks are zero.
    """
    frame = np.zeros((NUM_CHANNELS, 10, 10), dtype=np.uint8)
    frame[: planes.shape[2]] = planes.transpose(2, 0, 1)
    frame *= 255
    return frame


def _make_gym_env(game: str) -> Callable[[], GymEnv]:
    def make() -> GymEnv:
        # Not above: it needs Gymnasium, which a command line that only names games does without.
        from games.minatar_env import MinAtarEnv

        return MinAtarEnv(game, num_actions=NUM_ACTIONS)

    return make


for _game in _TABLE:
    register_gym_game(
        MINATAR_GAMES[_PREFIX + _game], _make_gym_env(_game), to_frame=planes_to_frame
    )
