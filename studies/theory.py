"""Actor-Mimic's theory, numerically: small MDPs on which every quantity can be computed exactly.

    python -m studies.theory --out theory       theory.csv and theory.png

Covers what Parisotto et al. 2016 (https://arxiv.org/abs/1511.06342, section 4) state about a
student with softmax policies over linear features, fitted by cross-entropy with weight decay: the
gap between states of the expert and states of the student (after Ross et al. 2011,
https://arxiv.org/abs/1011.0686) and Proposition 1. Lemma 1 and Theorem 1 are tried out by
tests/studies/test_theory.py; docs/theory.md says what the assumptions are and what follows.

Shape suffixes:
    S  states
    A  actions
    F  features
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

HORIZONS = (10, 30, 100, 300, 1000)
WEIGHT_DECAY = 1e-4


@dataclass(frozen=True, slots=True)
class ImitationProblem:
    """A finite MDP with an expert to imitate and linear features to do it with."""

    features_SF: Array
    # The expert's action in each state.
    expert_S: NDArray[np.int64]
    # Probability of the next state for each state and action; every episode begins in state 0.
    transitions_SAS: Array
    costs_S: Array

    @property
    def expert_policy_SA(self) -> Array:
        """The expert's policy, which is deterministic."""
        return np.eye(self.transitions_SAS.shape[1])[self.expert_S]

    def visits(self, policy_SA: Array, horizon: float) -> Array:
        """Expected number of visits [S] in an episode that ends after each step with 1 / horizon.

        They sum to the horizon.
        """
        moves_SS = np.einsum("sa,sat->st", policy_SA, self.transitions_SAS)
        start_S = np.eye(len(moves_SS))[0]
        goes_on = 1.0 - 1.0 / horizon
        return np.linalg.solve(np.eye(len(moves_SS)) - goes_on * moves_SS.T, start_S)

    def cost(self, policy_SA: Array, horizon: float) -> float:
        """J_T: expected cost of an episode."""
        return float(self.visits(policy_SA, horizon) @ self.costs_S)

    def cross_entropy(self, policy_SA: Array, weights_S: Array) -> float:
        """Mean cross-entropy from the expert's actions to the policy, in nats."""
        chosen_S = policy_SA[np.arange(len(self.expert_S)), self.expert_S]
        return float(-(weights_S * np.log(chosen_S)).sum())


def tightrope() -> ImitationProblem:
    """A recoverable MDP in which an error leads to a state that the expert never shows.

    State 0 is on the rope, state 1 beside it and costs 1 a step. Action 1 falls off the rope, and
    climbs back onto it. Beside the rope the features are those on it and one more.
    """
    transitions_SAS = np.zeros((2, 2, 2))
    transitions_SAS[0, 0, 0] = transitions_SAS[0, 1, 1] = 1.0
    transitions_SAS[1, 0, 1] = transitions_SAS[1, 1, 0] = 1.0
    return ImitationProblem(
        features_SF=np.array([[1.0, 0.0], [1.0, 1.0]]),
        expert_S=np.array([0, 1]),
        transitions_SAS=transitions_SAS,
        costs_S=np.array([0.0, 1.0]),
    )


def softmax(logits_SA: Array, inverse_temperature: float = 1.0) -> Array:
    """Softmax over the actions of every state."""
    scaled_SA = inverse_temperature * logits_SA
    exponentials_SA = np.exp(scaled_SA - scaled_SA.max(1, keepdims=True))
    return np.asarray(exponentials_SA / exponentials_SA.sum(1, keepdims=True))


def gradient(
    problem: ImitationProblem, theta_FA: Array, weights_S: Array, *, weight_decay: float
) -> Array:
    """Gradient [F, A] of weighted cross-entropy + weight_decay / 2 * |theta|^2."""
    errors_SA = softmax(problem.features_SF @ theta_FA) - problem.expert_policy_SA
    return problem.features_SF.T @ (weights_S[:, None] * errors_SA) + weight_decay * theta_FA


def fit(problem: ImitationProblem, weights_S: Array, *, weight_decay: float) -> Array:
    """The minimizer theta* [F, A], by Newton's method; unique because of the weight decay."""
    num_features, num_actions = problem.features_SF.shape[1], len(problem.transitions_SAS[0])
    theta_FA = np.zeros((num_features, num_actions))
    for _ in range(200):
        policy_SA = softmax(problem.features_SF @ theta_FA)
        hessian = weight_decay * np.eye(theta_FA.size)
        for features_F, policy_A, weight in zip(
            problem.features_SF, policy_SA, weights_S, strict=True
        ):
            curvature_AA = np.diag(policy_A) - np.outer(policy_A, policy_A)
            hessian += weight * np.kron(np.outer(features_F, features_F), curvature_AA)
        slope_FA = gradient(problem, theta_FA, weights_S, weight_decay=weight_decay)
        step_FA = np.linalg.solve(hessian, slope_FA.reshape(-1)).reshape(theta_FA.shape)
        size = float(np.abs(step_FA).max())
        # Full steps overshoot where the softmax is flat.
        theta_FA -= step_FA * min(1.0, 2.0 / max(size, 1e-300))
        if size < 1e-12:
            break
    return theta_FA


@dataclass(frozen=True, slots=True)
class Separation:
    """Costs of two students of one problem, and the bound of Proposition 1 for the second."""

    horizon: int
    # J_T of the student fitted on states that the expert visits.
    from_expert: float
    # J_T of the student fitted on states that it visits itself, at the fixed point.
    from_student: float
    # J_T(E) + u * T * epsilon / log 2, with u = 1 and epsilon the mean cross-entropy.
    bound: float


def separate(problem: ImitationProblem, horizon: int, *, max_rounds: int = 500) -> Separation:
    """Fit on the expert's states once, and on the student's own until they no longer change."""
    expert_S = problem.visits(problem.expert_policy_SA, horizon) / horizon
    cloned_SA = _fitted_policy(problem, expert_S)
    states_S = np.full(len(expert_S), 1.0 / len(expert_S))
    for _ in range(max_rounds):
        policy_SA = _fitted_policy(problem, states_S)
        visited_S = problem.visits(policy_SA, horizon) / horizon
        is_settled = float(np.abs(visited_S - states_S).max()) < 1e-13
        states_S = visited_S
        if is_settled:
            break
    epsilon = problem.cross_entropy(policy_SA, states_S)
    expert_cost = problem.cost(problem.expert_policy_SA, horizon)
    return Separation(
        horizon=horizon,
        from_expert=problem.cost(cloned_SA, horizon),
        from_student=problem.cost(policy_SA, horizon),
        bound=expert_cost + horizon * epsilon / np.log(2.0),
    )


def _fitted_policy(problem: ImitationProblem, weights_S: Array) -> Array:
    theta_FA = fit(problem, weights_S, weight_decay=WEIGHT_DECAY)
    return softmax(problem.features_SF @ theta_FA)


def main(argv: Sequence[str] | None = None) -> None:
    """Write the separation of the two ways to sample as CSV and as one plot."""
    parser = argparse.ArgumentParser(prog="python -m studies.theory", description=__doc__)
    parser.add_argument("--out", default="theory", help="folder for theory.csv and theory.png")
    folder = Path(parser.parse_args(argv).out)
    folder.mkdir(parents=True, exist_ok=True)
    rows = [separate(tightrope(), horizon) for horizon in HORIZONS]
    with (folder / "theory.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["horizon", "states_of_the_expert", "states_of_the_student", "bound"])
        for row in rows:
            writer.writerow([row.horizon, row.from_expert, row.from_student, row.bound])
    _draw(rows, folder / "theory.png")
    print(f"{folder}: theory.csv, theory.png")


def _draw(rows: Sequence[Separation], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    horizons = [row.horizon for row in rows]
    axes.loglog(horizons, [row.from_expert for row in rows], "o-", label="states of the expert")
    axes.loglog(horizons, [row.from_student for row in rows], "s-", label="states of the student")
    axes.loglog(horizons, [row.bound for row in rows], "k--", label="bound of Proposition 1")
    axes.set_xlabel("horizon T, steps")
    axes.set_ylabel("cost of an episode above the expert's")
    axes.legend()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


if __name__ == "__main__":
    main()
