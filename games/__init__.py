"""The games: what they are, and how many copies of one are played at once. No torch in here."""

from games.atari import ATARI_GAMES  # Importing a family also registers its games.
from games.by_path import installed_games
from games.dmlab import DMLAB_30
from games.doom import DOOM_SCENARIOS
from games.env import PROTOCOLS, EnvProtocol, VectorEnv, VectorStep
from games.gym import register_gym_game
from games.minatar import MINATAR_GAMES
from games.registry import get_game, known_games, make_vector_env, register_game
from games.spec import GameSpec, human_normalized_score, normalized_score

__all__ = [
    "ATARI_GAMES",
    "DMLAB_30",
    "DOOM_SCENARIOS",
    "MINATAR_GAMES",
    "PROTOCOLS",
    "EnvProtocol",
    "GameSpec",
    "VectorEnv",
    "VectorStep",
    "get_game",
    "human_normalized_score",
    "installed_games",
    "known_games",
    "make_vector_env",
    "normalized_score",
    "register_game",
    "register_gym_game",
]
