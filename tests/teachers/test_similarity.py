"""How alike two teachers see states: the estimate against a slow sum, and real experts."""

from itertools import permutations

import numpy as np
import pytest
import torch

from teachers.expert import load_expert
from teachers.similarity import features_of, linear_cka, play_states

RANDOM = np.random.default_rng(0)


def features(rows, columns):
    return torch.from_numpy(RANDOM.normal(size=(rows, columns)))


def slow_hsic(x, y):
    """Song et al. 2012, equation 5, as a sum over tuples of different states."""
    k, n = x @ x.T, len(x)
    other = y @ y.T
    pairs = [k[i, j] * other[i, j] for i, j in permutations(range(n), 2)]
    triples = [k[i, j] * other[i, m] for i, j, m in permutations(range(n), 3)]
    fours = [k[i, j] * other[m, o] for i, j, m, o in permutations(range(n), 4)]
    return np.mean(pairs) + np.mean(fours) - 2 * np.mean(triples)


def test_it_is_the_normalized_sum_over_tuples_of_different_states():
    x, y = features(7, 3), features(7, 5)
    x[:, 0] += 2 * y[:, 0]
    by_hand = slow_hsic(x, y) / np.sqrt(slow_hsic(x, x) * slow_hsic(y, y))
    assert linear_cka(x, y) == pytest.approx(by_hand, rel=1e-9)
    assert abs(by_hand) > 0.1


def test_rotation_size_and_place_do_not_matter_and_unrelated_features_are_at_nothing():
    x = features(400, 20)
    rotation, _ = torch.linalg.qr(features(20, 20))
    assert linear_cka(x, 3 * (x @ rotation) + 5) == pytest.approx(1)
    # Where the plain estimate says 0.5: the more features, the more alike by chance.
    unrelated = [linear_cka(features(400, 300), features(400, 300)) for _ in range(10)]
    assert abs(np.mean(unrelated)) < 0.02


def test_features_that_do_not_vary_are_like_nothing():
    assert np.isnan(linear_cka(torch.ones(10, 3), features(10, 3)))
    with pytest.raises(ValueError, match="3 states are too few"):
        linear_cka(features(3, 2), features(3, 2))


def test_states_follow_the_seed_and_differ():
    teacher = load_expert("pong")
    states = play_states(teacher, 60, seed=1)
    assert states.shape == (64, 4, 84, 84)
    assert torch.equal(states, play_states(teacher, 60, seed=1))
    assert not torch.equal(states, play_states(teacher, 60, seed=2))
    assert len(torch.unique(states, dim=0)) > 50


def test_a_teacher_sees_as_itself_and_another_one_less_so():
    pong, boxing = load_expert("pong"), load_expert("boxing")
    states = play_states(pong, 400, seed=1)
    own = features_of(pong, states)
    assert linear_cka(own, own) == pytest.approx(1)
    assert linear_cka(own, features_of(boxing, states)) < 0.9
