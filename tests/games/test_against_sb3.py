"""The protocol `sb3` beside Stable-Baselines3's own wrappers, step by step.

Needs the extra `formats`; those wrappers shrink pictures with its OpenCV.
"""

import dataclasses
import warnings

import numpy as np
import pytest

from games import PROTOCOLS, get_game, make_vector_env

pytestmark = [pytest.mark.formats, pytest.mark.slow]

SB3 = dataclasses.replace(PROTOCOLS["sb3"], noop_max=0)


def make_theirs(env_id: str):
    pytest.importorskip("cv2")
    pytest.importorskip("stable_baselines3")
    import ale_py
    import gymnasium
    from stable_baselines3.common.env_util import make_atari_env
    from stable_baselines3.common.vec_env import VecFrameStack

    gymnasium.register_envs(ale_py)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # These environments are called out of date.
        env = make_atari_env(env_id, n_envs=1, seed=0, wrapper_kwargs={"noop_max": 0})
    return VecFrameStack(env, 4)


# Pixels are the same where the last two frames never differ in colour at the same place.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("game", "env_id", "largest"),
    [
        ("breakout", "BreakoutNoFrameskip-v4", 0),
        ("space_invaders", "SpaceInvadersNoFrameskip-v4", 0),
        ("ms_pacman", "MsPacmanNoFrameskip-v4", 60),
        ("seaquest", "SeaquestNoFrameskip-v4", 30),
    ],
)
def test_every_step_is_what_the_librarys_own_wrappers_make_of_it(game, env_id, largest):
    spec = get_game(game)
    theirs = make_theirs(env_id)
    ours = make_vector_env(spec, num_envs=1, protocol=SB3, seed=0)
    opening = 3 if 1 in spec.legal_actions else 1
    rng = np.random.default_rng(0)
    their_observation, observation = theirs.reset(), ours.reset()
    score, num_games, far = 0.0, 0, []
    while num_games < 3:
        difference = np.abs(their_observation.transpose(0, 3, 1, 2).astype(int) - observation)
        assert difference.max() <= largest
        far.append((difference > 2).mean())
        index = int(rng.integers(len(spec.legal_actions)))
        their_observation, _, done, info = theirs.step(np.array([index]))
        step = ours.step(np.array([spec.legal_actions[index]]))
        score += float(step.rewards[0])
        assert bool(done[0]) == bool(step.life_lost[0])
        if step.terminated[0]:
            assert score == info[0]["episode"]["r"]
            num_games, score = num_games + 1, 0.0
        if step.life_lost[0]:
            for _ in range(opening):
                step = ours.step(np.array([0]))
                assert step.restarted[0]
        observation = step.observations
    assert np.mean(far) < 0.01
