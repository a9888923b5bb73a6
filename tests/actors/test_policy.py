"""Exploration: the ladder's rungs, annealing, and how often which action is drawn."""

import numpy as np
import pytest

from actors.policy import EpsilonGreedy, SoftmaxPolicy, annealed, epsilon_ladder

LEGAL = np.array([True, False, True, True, False, False])


def test_the_ladder_equals_a_loop_from_the_paper():
    expected = [0.4 ** (1 + 7 * i / 15) for i in range(16)]
    np.testing.assert_allclose(epsilon_ladder(16), expected, rtol=1e-6)
    assert epsilon_ladder(16).dtype == np.float32


@pytest.mark.parametrize(
    ("step", "expected"), [(0, [1.0, 1.0]), (5, [0.6, 0.5]), (10, [0.2, 0.0]), (11, [0.2, 0.0])]
)
def test_exploration_falls_linearly_from_one(step, expected):
    epsilons = np.array([0.2, 0.0], np.float32)
    result = annealed(epsilons, step=step, anneal_steps=10)
    np.testing.assert_allclose(result, expected, rtol=1e-6)
    assert result.dtype == np.float32


def draw(epsilons, num_draws, *, best=2, seed=0):
    """[num_draws, N] actions; the best score of all is at an illegal action."""
    policy = EpsilonGreedy(LEGAL, np.random.default_rng(seed))
    scores = np.zeros((len(epsilons), len(LEGAL)), np.float32)
    scores[:, best] = 1.0
    scores[:, 4] = 9.0
    return np.stack([policy(scores, epsilons).actions for _ in range(num_draws)])


def test_with_full_exploration_all_legal_actions_come_equally_often():
    actions = draw(np.ones(1, np.float32), 30_000)
    frequencies = [(actions == action).mean() for action in range(6)]
    # Three standard deviations of a third over 30,000 draws are 0.008.
    np.testing.assert_allclose(frequencies, [1 / 3, 0, 1 / 3, 1 / 3, 0, 0], atol=0.01)


def test_each_environment_explores_at_its_own_rate_and_over_legal_actions_only():
    epsilons = np.array([0.0, 0.3, 0.9], np.float32)
    actions = draw(epsilons, 20_000)
    for env, epsilon in enumerate(epsilons.tolist()):
        frequencies = [(actions[:, env] == action).mean() for action in range(6)]
        # The random draw may hit the best action, too.
        expected = [epsilon / 3, 0, 1 - epsilon + epsilon / 3, epsilon / 3, 0, 0]
        np.testing.assert_allclose(frequencies, expected, atol=0.012)


# Probabilities of what was drawn

BEHAVIOURS = [EpsilonGreedy, SoftmaxPolicy]


def frequencies_and_probabilities(behaviour, logits, epsilon, num_draws=40_000):
    """How often each action came, and the probability that was told with it (nan: never drawn)."""
    policy = behaviour(LEGAL, np.random.default_rng(1))
    scores = np.tile(np.array(logits, np.float32), (num_draws, 1))
    drawn = policy(scores, np.full(num_draws, epsilon, np.float32))
    told = np.full(len(LEGAL), np.nan)
    for action in np.unique(drawn.actions):
        probabilities = np.unique(drawn.probabilities[drawn.actions == action])
        assert len(probabilities) == 1
        told[action] = probabilities[0]
    return np.bincount(drawn.actions, minlength=len(LEGAL)) / num_draws, told


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
@pytest.mark.parametrize("epsilon", [0.0, 0.3, 1.0])
def test_actions_come_as_often_as_their_probability_says(behaviour, epsilon):
    frequencies, told = frequencies_and_probabilities(
        behaviour, [1.0, 9.0, 0.0, -1.0, 9.0, 0.0], epsilon
    )
    assert frequencies[~LEGAL].tolist() == [0.0] * 3
    known = ~np.isnan(told)
    np.testing.assert_allclose(frequencies[known], told[known], atol=0.01)
    assert told[known].sum() == pytest.approx(1.0, abs=1e-6)


def test_a_policys_probabilities_are_its_softmax_with_exploration_folded_in():
    _, told = frequencies_and_probabilities(SoftmaxPolicy, [1.0, 9.0, 0.0, -1.0, 9.0, 0.0], 0.3)
    powers = np.exp([1.0, 0.0, -1.0])
    np.testing.assert_allclose(told[LEGAL], 0.7 * powers / powers.sum() + 0.1, rtol=1e-6)


def test_epsilon_greedy_knows_that_exploration_may_hit_the_best_action():
    _, told = frequencies_and_probabilities(EpsilonGreedy, [1.0, 9.0, 0.0, -1.0, 9.0, 0.0], 0.3)
    np.testing.assert_allclose(told[LEGAL], [0.7 + 0.1, 0.1, 0.1], rtol=1e-6)


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_what_is_drawn_has_a_positive_probability_in_every_environment(behaviour):
    rng = np.random.default_rng(0)
    scores = rng.normal(scale=4.0, size=(500, len(LEGAL))).astype(np.float32)
    drawn = behaviour(LEGAL, rng)(scores, rng.random(500).astype(np.float32))
    assert LEGAL[drawn.actions].all()
    assert (drawn.probabilities > 0).all()
    assert drawn.probabilities.dtype == np.float32
