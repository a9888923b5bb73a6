"""One game as a gymnasium.Env plays what the vector of one environment plays."""

import gymnasium
import numpy as np
import pytest

from games.registry import get_game, make_vector_env
from games.single_env import GameEnv


def legal_actions(game: str, count: int, seed: int) -> list[int]:
    spec = get_game(game)
    return np.random.default_rng(seed).choice(spec.legal_actions, count).tolist()


@pytest.mark.parametrize("protocol", ["classic", "modern"])
@pytest.mark.parametrize("render_mode", [None, "rgb_array"])
def test_a_seed_plays_the_same_as_a_vector_of_one(protocol, render_mode):
    env = GameEnv("breakout", protocol=protocol, render_mode=render_mode)
    vector = make_vector_env(get_game("breakout"), num_envs=1, protocol=protocol, seed=7)
    observation, _ = env.reset(seed=7)
    np.testing.assert_array_equal(observation, vector.reset()[0])
    for action in legal_actions("breakout", 400, seed=1):
        observation, reward, terminated, truncated, info = env.step(action)
        step = vector.step(np.array([action]))
        np.testing.assert_array_equal(observation, step.observations[0])
        assert (reward, terminated, truncated) == (
            step.rewards[0],
            step.terminated[0],
            step.truncated[0],
        )
        assert info["life_lost"] == step.life_lost[0]
        if terminated:
            np.testing.assert_array_equal(env.reset()[0], vector.reset()[0])
    env.close()
    vector.close()


def test_it_keeps_to_its_spaces_and_its_mask():
    env = GameEnv("pong")
    observation, info = env.reset(seed=1)
    assert observation in env.observation_space
    assert env.action_space == gymnasium.spaces.Discrete(18)
    assert np.flatnonzero(info["action_mask"]).tolist() == [0, 1, 3, 4, 11, 12]
    env.action_space.seed(1)
    for _ in range(30):
        observation, *_, info = env.step(env.action_space.sample(info["action_mask"]))
        assert observation in env.observation_space
    with pytest.raises(ValueError, match="action 2 of environment 0 is not legal in 'pong'"):
        env.step(2)
    for action in (1.7, "1", None, np.array([1, 3])):
        with pytest.raises(ValueError, match="an action is one whole number"):
            env.step(action)
    env.step(np.array(3))


def test_a_reset_without_a_seed_goes_on_with_the_random_streams():
    """Otherwise every episode would begin with the same number of no-ops."""
    env = GameEnv("boxing")
    firsts = [env.reset(seed=3)[0], env.reset()[0], env.reset()[0], env.reset()[0]]
    assert len({first.tobytes() for first in firsts}) > 1
    np.testing.assert_array_equal(env.reset(seed=3)[0], firsts[0])


def test_pictures_are_for_who_asks_for_them():
    env = GameEnv("pong", render_mode="rgb_array")
    env.reset(seed=1)
    assert env.render().shape == (210, 160, 3)
    assert GameEnv("pong").render() is None
    with pytest.raises(ValueError, match="render_mode must be rgb_array or None, not 'human'"):
        GameEnv("pong", render_mode="human")
    with pytest.raises(RuntimeError, match=r"reset\(\) before step"):
        GameEnv("pong").step(0)
