"""The joint objective: the sum of two losses that are tested by themselves, and its gate."""

import numpy as np
import pytest
import torch
from batches import GAMES, SPECS, build_value_network, random_batch

from learner.batch import BatchLoader
from learner.distillation import TeacherWeights
from learner.objectives.config import DistillationConfig, DqnConfig, MimicConfig
from learner.objectives.joint import JointObjective
from learner.objectives.value import DqnObjective
from networks.masking import legal_matrix
from recipes.distillation import schedules_of

TEMPERATURES = (0.3, 1.7)
LEGAL = legal_matrix(SPECS)
CPU = torch.device("cpu")


def load(batch):
    return BatchLoader(CPU, gamma=0.9, reward_clip=1.0)(batch)


def build(network, *, gated=False, mimic=None, counts=(1, 1), **distillation):
    rewards = DqnObjective(DqnConfig(target_period=2), network, legal_GA=LEGAL)
    teachers = TeacherWeights(
        schedules_of(DistillationConfig(**distillation), dict(zip(GAMES, counts, strict=True))),
        steps_per_update=10.0,
        device=CPU,
    )
    return JointObjective(
        rewards, mimic or MimicConfig(), teachers, network,
        legal_GA=LEGAL, temperatures=TEMPERATURES, gated=gated,
    )  # fmt: skip


def cross_entropy(batch, network, row):
    """Between softmax(Q_teacher / tau) and softmax(Q / tau), over the row's legal actions."""
    game = int(batch.game_index[row])
    legal, tau = list(SPECS[game].legal_actions), TEMPERATURES[game]
    with torch.no_grad():
        q = network(torch.from_numpy(batch.observations[row : row + 1]))[0].double().numpy()

    def policy(values):
        powers = np.exp((values - values.max()) / tau)
        return powers / powers.sum()

    teacher = policy(batch["teacher_logits"][row, legal].astype(float))
    return -(teacher * np.log(policy(q[legal]))).sum()


def test_the_loss_is_the_rewards_plus_lambda_times_the_teachers():
    batch = random_batch(num_successors=3)
    network = build_value_network()
    rewards = DqnObjective(DqnConfig(), network, legal_GA=LEGAL)(load(batch))
    result = build(network, weight=0.7)(load(batch))
    weights = DqnObjective(DqnConfig(), network, legal_GA=LEGAL).terms(load(batch)).weights_B
    distances = [cross_entropy(batch, network, row) for row in range(batch.batch_size)]
    distillation = np.mean(weights.numpy() * distances)
    assert result.loss.item() == pytest.approx(rewards.loss.item() + 0.7 * distillation, rel=1e-4)
    assert torch.equal(result.priorities_B, rewards.priorities_B)
    assert result.metrics["distillation_loss"].item() == pytest.approx(np.mean(distances), rel=1e-4)
    assert result.metrics["distillation_weight"].item() == pytest.approx(0.7)


def test_without_weight_it_is_the_dqn():
    batch = random_batch(num_successors=3)
    gradients = []
    for joint in (False, True):
        network = build_value_network()
        objective = build(network, weight=0.0)
        if not joint:
            objective = DqnObjective(DqnConfig(), network, legal_GA=LEGAL)
        objective(load(batch)).loss.backward()
        gradients.append(network.head.weight.grad)
    torch.testing.assert_close(gradients[0], gradients[1])


def test_a_game_without_teacher_learns_from_its_rewards_alone():
    batch = random_batch(num_successors=3)
    first = torch.from_numpy(batch.game_index) == 0
    result = build(build_value_network(), weight=2.0, counts=(0, 1))(load(batch))
    sums = result.game_sums["distillation_weight"] / result.game_sums["rows"]
    assert sums.tolist() == [0.0, 2.0]
    assert result.metrics["distillation_weight"].item() == pytest.approx(
        2.0 * float((~first).float().mean())
    )


def test_each_game_follows_its_own_gap():
    objective = build(build_value_network(), schedule="gap", weight=2.0, floor=0.1)
    objective.teachers.follow_gaps(GAMES[0], [0.25])
    objective.teachers.follow_gaps(GAMES[1], [0.0])
    assert objective.teachers.values() == {GAMES[0]: [0.5], GAMES[1]: [0.1]}


def test_the_weight_falls_with_the_steps_behind_the_updates_and_survives_a_checkpoint():
    network = build_value_network()
    objective = build(network, schedule="linear", weight=1.0, steps=100)
    for update in range(1, 6):
        objective.after_update(update)
    assert objective.teachers.values()[GAMES[0]] == [0.5]
    restored = build(network, schedule="linear", weight=1.0, steps=100)
    restored.load_state(objective.state())
    assert restored.teachers.values() == objective.teachers.values()
    with pytest.raises(ValueError, match="2 teachers were saved, 1 are in the run"):
        build(network, counts=(0, 1)).load_state(objective.state())


@pytest.mark.parametrize("agrees", [True, False])
def test_a_gate_keeps_distillation_only_where_it_does_not_oppose_the_rewards(agrees):
    batch = random_batch(num_successors=3, counts=(6, 0))
    network = build_value_network()
    # Rewards draw the value of one action far up; the teacher is all for it, or all against it.
    batch["actions"][:] = SPECS[0].legal_actions[0]
    batch.successors.rewards[:] = 100.0
    batch.successors.discounts[:] = 0.0
    batch["teacher_logits"][:] = -50.0 if agrees else 0.0
    batch["teacher_logits"][:, SPECS[0].legal_actions[0]] = 0.0 if agrees else -50.0
    result = build(network, gated=True, weight=1.0)(load(batch))
    assert result.metrics["distillation_kept"].item() == float(agrees)
    alone = build(network, weight=0.0)(load(batch)).loss.item()
    assert (result.loss.item() > alone) == agrees


def test_the_quantiles_of_a_distribution_are_distilled_by_their_means():
    batch = random_batch(num_successors=3)
    network = build_value_network(num_quantiles=5)
    rewards = DqnObjective(DqnConfig(quantiles=5), network, legal_GA=LEGAL)
    teachers = TeacherWeights(
        {game: [DistillationConfig()] for game in GAMES}, steps_per_update=1.0, device=CPU
    )
    objective = JointObjective(
        rewards, MimicConfig(), teachers, network,
        legal_GA=LEGAL, temperatures=TEMPERATURES, gated=False,
    )  # fmt: skip
    expected = np.mean([cross_entropy(batch, network, row) for row in range(batch.batch_size)])
    found = objective(load(batch)).metrics["distillation_loss"].item()
    assert found == pytest.approx(expected, rel=1e-4)
