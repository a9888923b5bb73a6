"""What is particular to MinAtar; test_contract.py checks the rest."""

import sys

import numpy as np
import pytest

from games import MINATAR_GAMES, get_game, make_vector_env
from games.minatar import planes_to_frame


def own_name(spec):
    return spec.name.removeprefix("minatar_")


@pytest.fixture(params=MINATAR_GAMES)
def spec(request):
    pytest.importorskip("minatar")
    return get_game(request.param)


def test_missing_package_is_named_with_the_command_that_installs_it(monkeypatch):
    # None makes the import fail, as if the package was not there.
    monkeypatch.setitem(sys.modules, "minatar", None)
    with pytest.raises(ValueError, match="pip install minatar"):
        make_vector_env(get_game("minatar_breakout"), num_envs=1, protocol="classic", seed=0)


def test_legal_actions_are_the_games_minimal_sets(spec):
    import minatar

    assert list(spec.legal_actions) == minatar.Environment(own_name(spec)).minimal_action_set()


def test_steps_equal_the_game_played_directly(spec):
    import minatar

    env = make_vector_env(spec, num_envs=1, protocol="classic", seed=4)
    game = minatar.Environment(own_name(spec), sticky_action_prob=0.0)
    game.seed(int(np.random.SeedSequence(4).spawn(1)[0].generate_state(1)[0] >> 1))
    game.reset()
    assert np.array_equal(env.reset()[0], planes_to_frame(game.state()))
    rng = np.random.default_rng(0)
    num_ended = 0
    for _ in range(600):
        action = int(rng.choice(spec.legal_actions))
        step = env.step(np.array([action]))
        if step.restarted[0]:
            game.reset()
            reward, terminated = 0, False
        else:
            reward, terminated = game.act(action)
        num_ended += terminated
        assert step.rewards[0] == reward
        assert step.terminated[0] == terminated
        assert np.array_equal(step.observations[0], planes_to_frame(game.state()))
    assert num_ended > 0 or spec.name == "minatar_freeway"  # Freeway lasts 2,500 steps.


def test_random_play_scores_what_the_table_says(spec):
    # Freeway lasts 2,500 steps, the others less than a hundred.
    num_envs, num_episodes = 16, {"minatar_freeway": 2}.get(spec.name, 25)
    env = make_vector_env(spec, num_envs=num_envs, protocol="classic", seed=1)
    env.reset()
    rng = np.random.default_rng(1)
    returns, running = [[] for _ in range(num_envs)], np.zeros(num_envs)
    # Equally many from each environment: stopping at a total would favour short episodes.
    while min(map(len, returns)) < num_episodes:
        step = env.step(rng.choice(spec.legal_actions, num_envs))
        running += step.rewards
        for index in np.flatnonzero(step.terminated | step.truncated):
            returns[index].append(running[index])
            running[index] = 0
    sample = np.concatenate([of_one[:num_episodes] for of_one in returns])
    standard_error = sample.std() / len(sample) ** 0.5
    assert abs(sample.mean() - spec.random_score) < 4 * standard_error
