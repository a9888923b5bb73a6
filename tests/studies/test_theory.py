"""The paper's theory on MDPs that are small enough for exact numbers."""

import csv

import numpy as np
import pytest

from studies.theory import (
    HORIZONS,
    ImitationProblem,
    fit,
    gradient,
    main,
    separate,
    softmax,
    tightrope,
)


def aliased(probability: float = 0.98):
    """Two states that look alike, each of which the expert leaves by another action.

    Action 0 leads to state 1 and action 1 to state 0 with this probability, whatever the state: a
    student that favours one action sees mostly the state in which the expert favours the other.
    """
    to_other = np.array([1.0 - probability, probability])
    to_first = to_other[::-1]
    return ImitationProblem(
        features_SF=np.ones((2, 1)),
        expert_S=np.array([0, 1]),
        transitions_SAS=np.array([[to_other, to_first]] * 2),
        costs_S=np.zeros(2),
    )


def stochastic_fit(
    problem: ImitationProblem,
    weights_S: np.ndarray,
    *,
    num_updates: int,
    weight_decay: float,
    seed: int,
) -> np.ndarray:
    """Lemma 1's procedure: one state a step, drawn by a fixed policy's visits, step sizes ~ 1 / t.

    Their sum is infinite and the sum of their squares is not, so theta converges to `fit`.
    """
    rng = np.random.default_rng(seed)
    theta_FA = np.zeros((problem.features_SF.shape[1], len(problem.transitions_SAS[0])))
    for update, state in enumerate(rng.choice(len(weights_S), size=num_updates, p=weights_S)):
        drawn_S = np.eye(len(weights_S))[state]
        slope_FA = gradient(problem, theta_FA, drawn_S, weight_decay=weight_decay)
        theta_FA -= slope_FA / (weight_decay * (update + 1) + 1.0)
    return theta_FA


def iterate(
    problem: ImitationProblem,
    behaviour,  # Gamma of Theorem 1: from logits [S, A] to the policy that states are visited by.
    *,
    weight_decay: float,
    num_rounds: int = 400,
    start: float = 0.6,
) -> list[float]:
    """Alternate fitting and visiting; the probability of action 0 in state 0 after each round.

    States are those of the behaviour's stationary distribution, as in Theorem 1.
    """
    policy_SA = np.array([[start, 1.0 - start]] * len(problem.expert_S))
    trace = []
    for _ in range(num_rounds):
        weights_S = _stationary(problem, policy_SA)
        theta_FA = fit(problem, weights_S, weight_decay=weight_decay)
        policy_SA = behaviour(problem.features_SF @ theta_FA)
        trace.append(float(policy_SA[0, 0]))
    return trace


def _stationary(problem: ImitationProblem, policy_SA: np.ndarray) -> np.ndarray:
    moves_SS = np.einsum("sa,sat->st", policy_SA, problem.transitions_SAS)
    size = len(moves_SS)
    # d M = d and sum(d) = 1: one equation more than unknowns, and consistent.
    system = np.vstack([moves_SS.T - np.eye(size), np.ones(size)])
    solution, *_ = np.linalg.lstsq(system, np.eye(size + 1)[size], rcond=None)
    return np.asarray(solution)


def soft(inverse_temperature: float):
    """A rule that Theorem 1 allows: Lipschitz, with a constant that grows with its argument."""
    return lambda logits_SA: softmax(logits_SA, inverse_temperature)


def is_settled(trace, *, tolerance: float = 1e-6) -> bool:
    """Whether the last rounds no longer change."""
    return max(trace[-4:]) - min(trace[-4:]) < tolerance


@pytest.mark.parametrize(
    ("horizon", "from_expert", "from_student", "bound"),
    [
        (10, 0.0350, 0.0102, 0.0177),
        (30, 0.334, 0.0330, 0.0533),
        (100, 3.60, 0.113, 0.178),
        (300, 28.5, 0.342, 0.533),
        (1000, 220.0, 1.14, 1.78),
    ],
)
def test_the_costs_of_the_two_students_are_those_that_docs_give(
    horizon, from_expert, from_student, bound
):
    found = separate(tightrope(), horizon)
    assert found.from_expert == pytest.approx(from_expert, rel=5e-3)
    assert found.from_student == pytest.approx(from_student, rel=5e-3)
    assert found.bound == pytest.approx(bound, rel=5e-3)


def test_errors_grow_with_the_square_of_the_horizon_from_the_experts_states_alone():
    rows = [separate(tightrope(), horizon) for horizon in HORIZONS[:3]]
    slope = np.polyfit(np.log(HORIZONS[:3]), np.log([row.from_expert for row in rows]), 1)[0]
    own = np.polyfit(np.log(HORIZONS[:3]), np.log([row.from_student for row in rows]), 1)[0]
    assert slope == pytest.approx(2.0, abs=0.05)
    assert own == pytest.approx(1.0, abs=0.05)


def test_proposition_1_holds_on_the_students_own_states():
    for horizon in HORIZONS:
        row = separate(tightrope(), horizon)
        assert row.from_student <= row.bound


def test_stochastic_updates_under_a_fixed_policy_find_newtons_solution():
    """Lemma 1."""
    problem, weights_S = tightrope(), np.array([0.7, 0.3])
    exact_FA = fit(problem, weights_S, weight_decay=0.1)
    distances = [
        np.abs(
            stochastic_fit(problem, weights_S, num_updates=count, weight_decay=0.1, seed=1)
            - exact_FA
        ).max()
        for count in (100, 10_000, 100_000)
    ]
    assert distances[2] < 0.02 < distances[0]
    assert distances[2] < distances[1] < distances[0]


@pytest.mark.parametrize("inverse_temperature", [0.5, 0.9, 1.0])
def test_soft_behaviour_with_a_small_constant_converges(inverse_temperature):
    trace = iterate(aliased(), soft(inverse_temperature), weight_decay=1e-4)
    assert is_settled(trace)
    assert trace[-1] == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize("inverse_temperature", [1.1, 2.0, 5.0])
def test_soft_behaviour_with_a_larger_constant_ends_in_a_cycle_of_two(inverse_temperature):
    """Lipschitz alone is not enough for Theorem 1: the map must be a contraction."""
    trace = iterate(aliased(), soft(inverse_temperature), weight_decay=1e-4)
    assert not is_settled(trace)
    assert trace[-1] == pytest.approx(trace[-3])
    assert trace[-1] == pytest.approx(1.0 - trace[-2])


@pytest.mark.parametrize(("weight_decay", "converges"), [(0.1, False), (0.4, False), (0.5, True)])
def test_enough_weight_decay_restores_convergence(weight_decay, converges):
    assert is_settled(iterate(aliased(), soft(2.0), weight_decay=weight_decay)) == converges


def test_the_study_writes_its_numbers_and_one_plot(tmp_path, capsys):
    main(["--out", str(tmp_path / "out")])
    rows = list(csv.DictReader((tmp_path / "out" / "theory.csv").read_text().splitlines()))
    assert [int(row["horizon"]) for row in rows] == list(HORIZONS)
    assert (tmp_path / "out" / "theory.png").stat().st_size > 1000
