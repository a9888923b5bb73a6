"""V-trace against the paper's sum, written-out examples, and a bandit with a known value."""

import numpy as np
import pytest
import torch

from learner.v_trace import VTrace, v_trace


def run(values, bootstrap, rewards, discounts, ratios, *, lengths, known, **bars) -> VTrace:
    values = torch.tensor(values)
    steps = torch.arange(values.shape[1]) < torch.tensor(lengths).unsqueeze(1)
    return v_trace(
        values,
        torch.tensor(bootstrap),
        torch.tensor(rewards),
        torch.tensor(discounts),
        torch.tensor(ratios),
        is_step_QT=steps,
        can_bootstrap_Q=torch.tensor(known),
        **bars,
    )


def slow(values, rewards, discounts, ratios, rho_bar, c_bar):
    """One whole sequence by the paper's definition; `values` has one more, to bootstrap from.

    v_s = V(x_s) + sum_t (prod_{i=s}^{t-1} gamma_i c_i) delta_t
    """
    count = len(rewards)
    rhos, cs = np.minimum(rho_bar, ratios), np.minimum(c_bar, ratios)
    targets = np.array(values, float)
    for s in range(count):
        for t in range(s, count):
            carried = np.prod([discounts[i] * cs[i] for i in range(s, t)])
            delta = rhos[t] * (rewards[t] + discounts[t] * values[t + 1] - values[t])
            targets[s] += carried * delta
    advantages = [
        rhos[s] * (rewards[s] + discounts[s] * targets[s + 1] - values[s]) for s in range(count)
    ]
    return targets[:count], np.array(advantages)


@pytest.mark.parametrize(("rho_bar", "c_bar"), [(1.0, 1.0), (2.0, 0.5), (np.inf, 1.0)])
def test_targets_and_advantages_equal_the_papers_sums(rho_bar, c_bar):
    rng = np.random.default_rng(0)
    num, length = 6, 7
    lengths = np.array([7, 7, 4, 1, 6, 2])
    values = rng.normal(size=(num, length))
    bootstrap = rng.normal(size=num)
    rewards = rng.normal(size=(num, length))
    # Lives are lost within sequences, and one game is over at the end of its sequence.
    discounts = np.where(rng.random((num, length)) < 0.2, 0.0, 0.9)
    discounts[1, -1] = 0.0
    ratios = np.exp(rng.normal(size=(num, length)))
    found = run(
        values, bootstrap, rewards, discounts, ratios,
        lengths=lengths, known=[True] * num, rho_bar=rho_bar, c_bar=c_bar,
    )  # fmt: skip
    for q, count in enumerate(lengths):
        here = slice(0, count)
        targets, advantages = slow(
            [*values[q, here], bootstrap[q]],
            rewards[q, here], discounts[q, here], ratios[q, here], rho_bar, c_bar,
        )  # fmt: skip
        np.testing.assert_allclose(found.targets_QT[q, here], targets, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found.advantages_QT[q, here], advantages, rtol=1e-5, atol=1e-6)
        assert found.counts_QT[q].tolist() == [True] * count + [False] * (length - count)
        assert found.advantages_QT[q, count:].tolist() == [0.0] * (length - count)


def test_a_life_lost_cuts_the_return_while_the_sequence_goes_on():
    found = run(
        [[0.0, 5.0]], [7.0], [[1.0, 2.0]], [[0.0, 1.0]], [[1.0, 1.0]], lengths=[2], known=[True]
    )
    # Nothing of the second life is in the first step's target.
    assert found.targets_QT.tolist() == [[1.0, 9.0]]


def test_a_last_step_whose_outcome_is_not_known_does_not_count():
    found = run(
        [[2.0, 6.0]], [99.0], [[1.0, 50.0]], [[0.5, 0.5]], [[1.0, 1.0]], lengths=[2], known=[False]
    )
    assert found.counts_QT.tolist() == [[True, False]]
    # The step before bootstraps from the last one's state: 1 + 0.5 * 6.
    assert found.targets_QT.tolist() == [[4.0, 6.0]]
    assert found.advantages_QT.tolist() == [[2.0, 0.0]]


def test_a_game_that_is_over_needs_no_observation_after_it():
    found = run(
        [[2.0, 6.0]], [torch.nan], [[1.0, 5.0]], [[0.5, 0.0]], [[1.0, 1.0]],
        lengths=[2], known=[False],
    )  # fmt: skip
    assert found.counts_QT.tolist() == [[True, True]]
    assert found.targets_QT.tolist() == [[3.5, 5.0]]


def test_targets_have_no_gradient():
    values = torch.zeros(1, 2, requires_grad=True)
    found = v_trace(
        values, torch.zeros(1), torch.ones(1, 2), torch.ones(1, 2), torch.ones(1, 2),
        is_step_QT=torch.ones(1, 2, dtype=torch.bool), can_bootstrap_Q=torch.tensor([True]),
    )  # fmt: skip
    assert not found.targets_QT.requires_grad
    assert not found.advantages_QT.requires_grad


def test_the_correction_removes_a_bias_that_shows_without_it():
    """A bandit that pays 1 for one arm and 0 for the other; pi and mu prefer different arms.

    The policy's value is 0.8, that of the behaviour 0.2. The mean target from a critic that is 0 is
    the value that the critic is drawn to.
    """
    rng = np.random.default_rng(0)
    good = rng.random(200_000) < 0.2
    rewards = good.astype(float)[:, None]
    ratios = np.where(good, 0.8 / 0.2, 0.2 / 0.8)[:, None]
    shape = (len(good), 1)
    arguments = (np.zeros(shape), np.zeros(len(good)), rewards, np.zeros(shape))
    options = {"lengths": [1] * len(good), "known": [True] * len(good)}
    without = run(*arguments, np.ones(shape), **options)
    corrected = run(*arguments, ratios, **options, rho_bar=np.inf)
    assert float(without.targets_QT.mean()) == pytest.approx(0.2, abs=0.01)
    assert float(corrected.targets_QT.mean()) == pytest.approx(0.8, abs=0.02)
