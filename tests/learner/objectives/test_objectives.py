"""Objectives against slow loops: masks, temperatures and weights of the right row, every time."""

import math

import numpy as np
import pytest
import torch
from batches import (
    FEATURE_SIZES,
    GAMES,
    NUM_ACTIONS,
    SPECS,
    build_student,
    build_value_network,
    random_batch,
)

from learner.batch import BatchLoader
from learner.losses import double_q_loss, quantile_double_q_loss
from learner.objectives.config import DqnConfig, MimicConfig
from learner.objectives.mimic import ActorMimicObjective
from learner.objectives.value import DqnObjective
from networks.masking import legal_matrix

TEMPERATURES = (0.3, 1.7)
GAMMA, REWARD_CLIP = 0.9, 1.0


def load(batch):
    return BatchLoader(torch.device("cpu"), gamma=GAMMA, reward_clip=REWARD_CLIP)(batch)


def build_mimic(student, **config):
    return ActorMimicObjective(
        MimicConfig(**config), student, legal_GA=legal_matrix(SPECS), temperatures=TEMPERATURES
    )


def log_softmax(values):
    values = np.asarray(values, float)
    return values - values.max() - math.log(np.exp(values - values.max()).sum())


def policies(batch, student, row):
    """Log-probabilities over the row's own legal actions: (teacher's softened, student's)."""
    game = int(batch.game_index[row])
    legal = list(SPECS[game].legal_actions)
    with torch.no_grad():
        logits = student(torch.from_numpy(batch.observations[row : row + 1]))[0].double().numpy()
    teacher = batch["teacher_logits"][row, legal].astype(float) / TEMPERATURES[game]
    return log_softmax(teacher), log_softmax(logits[legal])


def importance(batch, exponent):
    inverse = batch.inverse_probabilities.astype(float)
    return (inverse / inverse.max()) ** exponent


# Actor-Mimic


@pytest.mark.parametrize("exponent", [0.0, 0.6])
@pytest.mark.parametrize("counts", [(4, 3), (0, 5)])
def test_policy_loss_equals_a_slow_loop_over_the_rows(counts, exponent):
    batch = random_batch(counts=counts)
    student = build_student()
    result = build_mimic(student, importance_exponent=exponent)(load(batch))
    losses = []
    for row in range(batch.batch_size):
        log_p, log_q = policies(batch, student, row)
        losses.append(-(np.exp(log_p) * log_q).sum())
    expected = np.mean(batch.loss_weights * importance(batch, exponent) * losses)
    assert result.loss.item() == pytest.approx(expected, rel=1e-4)
    assert result.metrics["policy_loss"].item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("kind", ["l1", "kl"])
def test_priorities_are_the_distances_of_the_two_policies_without_weights(kind):
    batch = random_batch()
    student = build_student()
    result = build_mimic(student, priority=kind, importance_exponent=1.0)(load(batch))
    expected = []
    for row in range(batch.batch_size):
        log_p, log_q = policies(batch, student, row)
        p, q = np.exp(log_p), np.exp(log_q)
        expected.append(np.abs(p - q).sum() if kind == "l1" else (p * (log_p - log_q)).sum())
    np.testing.assert_allclose(result.priorities_B.numpy(), expected, rtol=1e-3, atol=1e-6)
    assert not result.priorities_B.requires_grad
    assert result.metrics["policy_distance"].item() == pytest.approx(np.mean(expected), rel=1e-3)


@pytest.mark.parametrize("counts", [(4, 3), (0, 5), (6, 0)])
def test_feature_loss_takes_each_games_rows_through_its_own_regressor_at_its_own_width(counts):
    batch = random_batch(counts=counts)
    # What lies behind a narrower teacher's features belongs to nobody.
    narrow = batch.game_index == 0
    batch["teacher_features"][narrow, FEATURE_SIZES[GAMES[0]] :] = 77.0
    student = build_student(features=True)
    result = build_mimic(student, feature_weight=0.02, importance_exponent=0.6)(load(batch))
    losses = []
    for row in range(batch.batch_size):
        game = GAMES[int(batch.game_index[row])]
        with torch.no_grad():
            observation = torch.from_numpy(batch.observations[row : row + 1])
            _, features = student.forward_with_features(observation)
            regressed = student.feature_regressors[game](features)[0].numpy()
        teacher = batch["teacher_features"][row, : FEATURE_SIZES[game]].astype(float)
        losses.append(((regressed - teacher) ** 2).sum())
    expected = np.mean(batch.loss_weights * importance(batch, 0.6) * losses)
    assert result.metrics["feature_loss"].item() == pytest.approx(expected, rel=1e-4)
    total = result.metrics["policy_loss"].item() + 0.02 * expected
    assert result.loss.item() == pytest.approx(total, rel=1e-5)


def test_only_the_regressor_of_a_game_in_the_batch_learns():
    student = build_student(features=True)
    build_mimic(student, feature_weight=0.1)(load(random_batch(counts=(0, 5)))).loss.backward()
    absent, present = (student.feature_regressors[game].weight.grad for game in GAMES)
    assert absent is None or not absent.any()
    assert present.any()


def test_features_pull_at_the_torso_too():
    gradients = []
    for weight in (0.0, 0.1):
        student = build_student(features=True)
        build_mimic(student, feature_weight=weight)(load(random_batch())).loss.backward()
        gradients.append(next(student.torso.parameters()).grad.clone())
    assert not torch.allclose(gradients[0], gradients[1])


def test_metrics_and_priorities_hold_no_graph():
    result = build_mimic(build_student(features=True), feature_weight=1.0)(load(random_batch()))
    assert result.loss.requires_grad
    assert not any(value.requires_grad for value in result.metrics.values())


def test_games_in_another_order_than_the_students_are_refused():
    # The masks would be swapped without anything looking wrong.
    with pytest.raises(ValueError, match="counting_cuts, counting_ends"):
        build_mimic(build_student())(load(random_batch(games=GAMES[::-1])))


# Value learning


def build_dqn(network, **config):
    return DqnObjective(
        DqnConfig(gamma=GAMMA, reward_clip=REWARD_CLIP, **config),
        network,
        legal_GA=legal_matrix(SPECS),
    )


def different_target(objective, seed):
    """Give the objective a target network unlike its network."""
    target = build_value_network(seed)
    objective.load_state(target.state_dict())
    return target


def q_values(network, images):
    with torch.no_grad():
        return network(torch.from_numpy(images)).double().numpy()


@pytest.mark.parametrize("exponent", [0.0, 0.4])
def test_double_dqn_equals_a_slow_loop_over_the_rows(exponent):
    batch = random_batch(counts=(12, 9), num_successors=3)
    network = build_value_network(1)
    objective = build_dqn(network, num_steps=3, importance_exponent=exponent)
    target_network = different_target(objective, 2)
    result = objective(load(batch))

    successors = batch.successors
    q = q_values(network, batch.observations)
    online = q_values(network, successors.bootstrap_observations)
    target = q_values(target_network, successors.bootstrap_observations)
    losses, errors, best = [], [], []
    for row in range(batch.batch_size):
        legal = list(SPECS[int(batch.game_index[row])].legal_actions)
        value, factor = 0.0, 1.0
        for step in range(int(successors.lengths[row])):
            reward = float(successors.rewards[row, step])
            value += factor * min(max(reward, -REWARD_CLIP), REWARD_CLIP)
            factor *= GAMMA * float(successors.discounts[row, step])
        greedy = max(legal, key=lambda action: online[row, action])
        value += factor * target[row, greedy]
        error = value - q[row, batch["actions"][row]]
        errors.append(abs(error))
        losses.append(0.5 * error**2 if abs(error) <= 1 else abs(error) - 0.5)
        best.append(max(q[row, action] for action in legal))
    np.testing.assert_allclose(result.priorities_B.numpy(), errors, rtol=1e-4, atol=1e-5)
    expected = np.mean(batch.loss_weights * importance(batch, exponent) * losses)
    assert result.loss.item() == pytest.approx(expected, rel=1e-4)
    assert result.metrics["td_loss"].item() == pytest.approx(expected, rel=1e-4)
    assert result.metrics["td_error"].item() == pytest.approx(np.mean(errors), rel=1e-4)
    assert result.metrics["q_value"].item() == pytest.approx(np.mean(best), rel=1e-4)
    assert not result.priorities_B.requires_grad


@pytest.mark.parametrize("dueling", [False, True])
def test_quantile_objective_equals_the_loss_of_the_networks_own_quantiles(dueling):
    batch = load(random_batch(counts=(12, 9), num_successors=3))
    network = build_value_network(1, num_quantiles=5, dueling=dueling)
    objective = build_dqn(network, num_steps=3, quantiles=5, importance_exponent=0.4)
    target_network = build_value_network(2, num_quantiles=5, dueling=dueling)
    objective.load_state(target_network.state_dict())
    result = objective(batch)
    future, legal = batch.temporal_difference, legal_matrix(SPECS)[batch.game_index_B]
    with torch.no_grad():
        quantiles = network.forward_quantiles(batch.observations_BCHW)
        losses, errors = quantile_double_q_loss(
            quantiles,
            batch.actions_B,
            future.returns_B,
            future.bootstrap_discounts_B,
            network(future.bootstrap_observations_BCHW),
            target_network.forward_quantiles(future.bootstrap_observations_BCHW),
            legal,
        )
    inverse = batch.inverse_probabilities_B
    weights = batch.loss_weights_B * (inverse / inverse.max()) ** 0.4
    torch.testing.assert_close(result.loss.detach(), (weights * losses).mean())
    torch.testing.assert_close(result.priorities_B, errors.abs())
    best = quantiles.mean(2).masked_fill(~legal, -torch.inf).amax(1).mean()
    torch.testing.assert_close(result.metrics["q_value"], best)
    assert set(result.metrics) == {"td_loss", "td_error", "q_value"}
    assert not result.priorities_B.requires_grad


def test_one_step_of_quantiles_moves_the_head_by_the_quantile_gradient_alone():
    # With every weight but the head's bias at zero, the quantiles are the bias itself.
    network = build_value_network(1, num_quantiles=2)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    batch = load(random_batch(counts=(1, 0), num_successors=1))
    objective = build_dqn(network, num_steps=1, quantiles=2, importance_exponent=0.0)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    objective(batch).loss.backward()
    optimizer.step()
    # All quantiles and bootstraps are 0, so u is the clipped reward at both levels.
    u = batch.temporal_difference.returns_B.item()
    assert u != 0
    scale = 0.1 * batch.loss_weights_B.item()
    below = 1.0 if u < 0 else 0.0
    expected = torch.zeros(NUM_ACTIONS, 2)
    expected[batch.actions_B.item()] = torch.tensor(
        [scale * abs(level - below) * u for level in (0.25, 0.75)]
    )
    torch.testing.assert_close(network.head.bias.detach().reshape(NUM_ACTIONS, 2), expected)


def test_without_quantiles_nothing_is_computed_differently_than_by_the_means_loss():
    batch = load(random_batch(counts=(12, 9), num_successors=3))
    network = build_value_network(1)
    result = build_dqn(network, num_steps=3, importance_exponent=0.0, quantiles=0)(batch)
    future, legal = batch.temporal_difference, legal_matrix(SPECS)[batch.game_index_B]
    following = network(future.bootstrap_observations_BCHW)
    losses, errors = double_q_loss(
        network(batch.observations_BCHW),
        batch.actions_B,
        future.returns_B,
        future.bootstrap_discounts_B,
        following,
        following,
        legal,
    )
    assert result.loss.item() == (batch.loss_weights_B * losses).mean().item()
    assert torch.equal(result.priorities_B, errors.abs())


def test_the_gradient_goes_through_the_taken_actions_value_alone():
    batch = random_batch(counts=(1, 0), num_successors=1)
    network = build_value_network(1)
    build_dqn(network, num_steps=1)(load(batch)).loss.backward()
    touched = network.head.bias.grad.nonzero().flatten().tolist()
    assert touched == batch["actions"].tolist()


def test_the_torso_learns_in_bfloat16_although_it_was_used_without_gradient_just_before():
    # Autocast keeps the converted weights of a forward pass; without a graph, if it had none.
    network = build_value_network(1)
    objective = build_dqn(network)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = objective(load(random_batch(num_successors=3)))
    result.loss.backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name


def same_weights(one, other):
    pairs = zip(one.values(), other.values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_the_target_network_is_copied_once_per_period_and_not_in_between():
    network = build_value_network(1)
    objective = build_dqn(network, target_period=3)
    start = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    for update in range(1, 7):
        with torch.no_grad():
            for parameter in network.parameters():
                parameter += 0.1
        objective.after_update(update)
        is_copied = same_weights(objective.state(), network.state_dict())
        assert is_copied == (update % 3 == 0)
        if update < 3:
            assert same_weights(objective.state(), start)


def test_the_target_network_survives_in_the_state():
    objective = build_dqn(build_value_network(1))
    target = different_target(objective, 2)
    assert same_weights(objective.state(), target.state_dict())
    other = build_dqn(build_value_network(1))
    other.load_state(objective.state())
    batch = load(random_batch(num_successors=3))
    assert other(batch).loss.item() == objective(batch).loss.item()
