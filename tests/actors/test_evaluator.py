"""Evaluation: which episodes count, and over which states agreement and KL are taken."""

import counting
import numpy as np
import pytest
import torch
from counting import CountingEnvs, Schedule, expected_entries, expected_returns
from players import TagNetwork, TagTeacher, build_expert, build_q_network

from actors.evaluator import EvaluationResult, evaluate, evaluate_epoch

SPEC = counting.ENDS
# Environment 1 plays short episodes and would be done long before environment 0.
UNEVEN = Schedule(lengths=(9, 2, 5), cut_every=3, life_steps=2)
SEED = 5


def build_env(num_envs, schedule=UNEVEN):
    return CountingEnvs(SPEC, schedule, num_envs=num_envs, seed=SEED)


def run(network=None, *, num_envs=3, num_episodes=7, epsilon=0.0, seed=1, **kwargs):
    return evaluate(
        network or TagNetwork(),
        build_env(num_envs),
        num_episodes=num_episodes,
        epsilon=epsilon,
        seed=seed,
        **kwargs,
    )


def counted_clocks(env, num_episodes):
    """Clocks of the states that environment `env` acts in during its first episodes."""
    entries = expected_entries(UNEVEN, env, num_rows=500)
    return [e.clock for e in entries if e.is_transition and e.episode < num_episodes]


@pytest.mark.parametrize(
    ("num_envs", "num_episodes", "per_env"),
    [(1, 1, [1]), (1, 4, [4]), (3, 7, [3, 2, 2]), (3, 3, [1, 1, 1]), (4, 2, [1, 1, 0, 0])],
)
def test_every_environment_plays_its_own_number_of_episodes(num_envs, num_episodes, per_env):
    result = run(num_envs=num_envs, num_episodes=num_episodes)
    expected = [
        value
        for env, count in enumerate(per_env)
        for value in expected_returns(UNEVEN, SPEC.name, SEED, env, count)
        if count
    ]
    assert sorted(result.returns) == sorted(expected)
    assert len(result.returns) == num_episodes
    assert result.steps == sum(len(counted_clocks(env, count)) for env, count in enumerate(per_env))


def test_mean_spread_and_maximum_are_over_episodes():
    result = EvaluationResult(returns=(1.0, 2.0, 6.0), steps=9, agreement=None, kl=None)
    assert result.mean == pytest.approx(3.0)
    assert result.std == pytest.approx(np.sqrt((4 + 1 + 9) / 3))
    assert result.max == 6.0


def slow_comparison(network, teacher, num_envs, per_env, temperature, own_temperature=1.0):
    legal = list(SPEC.legal_actions)
    same, kl = [], []
    for env in range(num_envs):
        for clock in counted_clocks(env, per_env[env]):
            ours = network.scores(clock)[legal].astype(float) / own_temperature
            theirs = teacher.network.scores(clock)[legal].astype(float) / temperature
            same.append(ours.argmax() == theirs.argmax())
            p = np.exp(theirs - theirs.max())
            p /= p.sum()
            log_q = ours - ours.max() - np.log(np.exp(ours - ours.max()).sum())
            log_p = np.log(np.where(p > 0, p, 1.0))
            kl.append(float((p * (log_p - log_q)).sum()))
    return np.mean(same), np.mean(kl)


@pytest.mark.parametrize(("num_envs", "per_env"), [(1, [4]), (3, [3, 2, 2]), (4, [1, 1, 0, 0])])
def test_agreement_and_kl_are_means_over_the_states_of_counted_episodes(num_envs, per_env):
    network, teacher = TagNetwork(), TagTeacher(SPEC)
    result = run(
        network,
        num_envs=num_envs,
        num_episodes=sum(per_env),
        teacher=teacher,
        temperature=1.5,
    )
    agreement, kl = slow_comparison(network, teacher, num_envs, per_env, 1.5)
    assert 0 < agreement < 1
    assert result.agreement == pytest.approx(agreement)
    assert result.kl == pytest.approx(kl, rel=1e-4)


def test_values_are_compared_as_the_policy_that_their_temperature_makes_of_them():
    network, teacher = TagNetwork(), TagTeacher(SPEC)
    temperatures = {"temperature": 1.5, "student_temperature": 0.4}
    result = run(network, num_envs=1, num_episodes=4, teacher=teacher, **temperatures)
    _, kl = slow_comparison(network, teacher, 1, [4], 1.5, 0.4)
    assert result.kl == pytest.approx(kl, rel=1e-4)
    same = {"temperature": 0.4, "student_temperature": 0.4}
    assert run(teacher.network, num_episodes=4, teacher=teacher, **same).kl == pytest.approx(
        0.0, abs=1e-6
    )


def test_evaluation_leaves_no_trace_in_the_network():
    network = build_q_network(SPEC)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    run(network, teacher=build_expert(SPEC))
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name])
    assert all(parameter.grad is None for parameter in network.parameters())


def run_epoch(*, num_steps, num_envs=1, **kwargs):
    env = build_env(num_envs)
    return evaluate_epoch(TagNetwork(), env, num_steps=num_steps, epsilon=0.0, seed=1, **kwargs)


# Environment 0 plays episodes of 9, 2 and 5 steps, over and over.


@pytest.mark.parametrize(("num_steps", "num_ended"), [(9, 1), (10, 1), (11, 2), (15, 2), (16, 3)])
def test_an_epoch_scores_the_episodes_that_ended_in_it(num_steps, num_ended):
    result = run_epoch(num_steps=num_steps)
    assert result.returns == tuple(expected_returns(UNEVEN, SPEC.name, SEED, 0, num_ended))
    assert result.finished
    assert result.steps == num_steps


def test_an_epoch_in_which_nothing_ends_scores_what_there_is():
    result = run_epoch(num_steps=4)
    first_four = Schedule(lengths=(4,))
    assert result.returns == tuple(expected_returns(first_four, SPEC.name, SEED, 0, 1))
    assert not result.finished


def test_an_epoch_compares_every_state_that_it_plays():
    network, teacher = TagNetwork(), TagTeacher(SPEC)
    env = build_env(1)
    result = evaluate_epoch(network, env, num_steps=16, epsilon=0.0, seed=1, teacher=teacher)
    agreement, _ = slow_comparison(network, teacher, 1, [3], 1.0)
    assert result.agreement == pytest.approx(agreement)
