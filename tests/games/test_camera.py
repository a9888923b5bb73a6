"""The screen that people see belongs to the game that is played."""

import numpy as np
import pytest

from games.camera import FilmedEnv
from games.env import get_protocol
from games.registry import get_game, make_vector_env


def play(env, num_steps, seed=3):
    rng = np.random.default_rng(seed)
    legal = env.spec.legal_actions
    for _ in range(num_steps):
        yield env.step(int(rng.choice(legal)))


@pytest.mark.parametrize("protocol", ["classic", "modern"])
@pytest.mark.parametrize("game", ["breakout", "boxing"])
def test_the_camera_follows_the_game_through_rewards_lives_and_restarts(game, protocol):
    env = FilmedEnv(get_game(game), protocol=get_protocol(protocol), seed=5)
    env.reset()
    # It raises by itself where rewards or ends differ.
    steps = list(play(env, 300))
    env.close()
    assert sum(float(abs(step.rewards[0])) for step in steps) > 0
    if game == "breakout":
        assert any(step.restarted[0] for step in steps)


def test_the_screen_is_what_the_network_sees_in_colour_and_full_size():
    env = FilmedEnv(get_game("pong"), protocol=get_protocol("classic"), seed=1)
    env.reset()
    for step in play(env, 60):
        assert env.screen.shape == (210, 160, 3)
        gray = env.screen @ np.array([0.299, 0.587, 0.114])
        # Area interpolation keeps the mean brightness.
        assert gray.mean() == pytest.approx(step.observations[0, -1].mean(), abs=1.0)
    assert len(np.unique(env.screen.reshape(-1, 3), axis=0)) >= 3
    env.close()


def test_filming_changes_nothing_in_the_game():
    spec, protocol = get_game("boxing"), get_protocol("modern")
    plain = make_vector_env(spec, num_envs=1, protocol=protocol, seed=7)
    filmed = FilmedEnv(spec, protocol=protocol, seed=7)
    assert np.array_equal(plain.reset(), filmed.reset())
    for action in (0, 5, 1, 9, 1, 2):
        one, other = plain.step(np.array([action])), filmed.step(action)
        assert np.array_equal(one.observations, other.observations)
        assert one.rewards == other.rewards
