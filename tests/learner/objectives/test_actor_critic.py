"""The actor-critic objective against a slow loop over sequences, and what each part may change."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from batches import GAMES, NUM_ACTIONS, SPECS, random_batch

from learner.batch import BatchLoader
from learner.distillation import TeacherWeights
from learner.objectives.actor_critic import ActorCriticObjective
from learner.objectives.config import ActorCriticConfig, DistillationConfig, MimicConfig
from networks.masking import legal_matrix
from networks.network import MultitaskNetwork
from recipes.distillation import schedules_of
from replay.types import Sequences

LENGTH = 3
LSTM_WIDTH = 6
GAMMA = 0.9
TAU = (0.3, 1.7)
LEGAL = legal_matrix(SPECS)
CPU = torch.device("cpu")


def sequence_batch(seed=0, counts=(9, 6)):
    """Five sequences: whole, ended early, truncated, with a life lost, and with an unknown end."""
    batch = random_batch(seed, counts=counts)
    rng = np.random.default_rng(seed + 100)
    size = sum(counts)
    num_steps = np.array([3, 2, 3, 3, 1][: size // LENGTH])
    discounts = np.ones(size, np.float32)
    discounts[LENGTH + 1] = 0.0
    discounts[3 * LENGTH + 1 : 3 * LENGTH + 2] = 0.0
    columns = dict(batch.columns) | {
        "rewards": rng.normal(scale=2.0, size=size).astype(np.float32),
        "discounts": discounts,
        "behaviour_probabilities": rng.uniform(0.1, 1.0, size).astype(np.float32),
    }
    sequences = Sequences(
        length=LENGTH,
        num_steps=num_steps,
        bootstrap_observations=rng.integers(
            256, size=(size // LENGTH, *SPECS[0].observation_shape), dtype=np.uint8
        ),
        can_bootstrap=np.array([True, False, True, True, False][: size // LENGTH]),
        starts={"memories": rng.normal(size=(size // LENGTH, 2 * LSTM_WIDTH)).astype(np.float16)},
    )
    weights = batch.loss_weights.copy()
    weights[~sequences.is_step.reshape(-1)] = 0.0
    return replace(batch, columns=columns, sequences=sequences, loss_weights=weights)


def build_network(seed=0, *, lstm_width=0):
    torch.manual_seed(seed)
    return MultitaskNetwork(
        torso="minatar",
        observation_shape=SPECS[0].observation_shape,
        num_actions=NUM_ACTIONS,
        games=GAMES,
        has_critic=True,
        lstm_width=lstm_width,
    )


def build(network, *, counts=(1, 1), mimic=None, distillation=None, **config):
    teachers = TeacherWeights(
        schedules_of(
            DistillationConfig(**(distillation or {})), dict(zip(GAMES, counts, strict=True))
        ),
        steps_per_update=10.0,
        device=CPU,
    )
    return ActorCriticObjective(
        ActorCriticConfig(gamma=GAMMA, **config), mimic or MimicConfig(), teachers, network,
        legal_GA=LEGAL, temperatures=TAU,
    )  # fmt: skip


def load(batch):
    return BatchLoader(CPU, gamma=GAMMA, reward_clip=1.0)(batch)


def softmax(values):
    powers = np.exp(values - values.max())
    return powers / powers.sum()


def see(network, batch):
    """Logits and values of all rows, and values after the sequences, a step at a time."""
    states, after = (
        torch.from_numpy(array)
        for array in (batch.observations, batch.sequences.bootstrap_observations)
    )
    if network.memory is None:
        logits, features = network.forward_with_features(states)
        last = network.forward_with_features(after)[1]
        return logits, network.values(features), network.values(last)
    logits, values = torch.zeros(len(states), NUM_ACTIONS), torch.zeros(len(states))
    bootstrap = torch.zeros(len(after))
    for q, count in enumerate(batch.sequences.num_steps.tolist()):
        memory = torch.from_numpy(batch.sequences.starts["memories"][q]).float()[None]
        for row in range(q * LENGTH, q * LENGTH + count):
            scores, memory = network.look(states[row][None], memory)
            logits[row], values[row] = scores[0], network.values(memory[:, :LSTM_WIDTH])[0]
        _, memory = network.look(after[q][None], memory)
        bootstrap[q] = network.values(memory[:, :LSTM_WIDTH])[0]
    return logits, values, bootstrap


def slow_terms(batch, network, lambdas):
    """(policy gradient, value, entropy, distillation) losses of the steps that count."""
    with torch.no_grad():
        logits, values, bootstrap = see(network, batch)
    values, bootstrap = values.double().numpy(), bootstrap.double().numpy()
    rows, weights = [], []
    for q, count in enumerate(batch.sequences.num_steps.tolist()):
        first = q * LENGTH
        game = int(batch.game_index[first])
        legal = list(SPECS[game].legal_actions)
        known = batch.sequences.can_bootstrap[q] or batch["discounts"][first + count - 1] == 0
        usable = count if known else count - 1
        target = bootstrap[q] if known else values[first + count - 1]
        for t in reversed(range(usable)):
            row = first + t
            policy = softmax(logits[row, legal].double().numpy())
            taken = policy[legal.index(int(batch["actions"][row]))]
            ratio = min(1.0, taken / batch["behaviour_probabilities"][row])
            reward = np.clip(batch["rewards"][row], -1, 1)
            discount = GAMMA * batch["discounts"][row]
            is_end = t == count - 1
            after_value = bootstrap[q] if is_end else values[row + 1]
            if is_end and not batch.sequences.can_bootstrap[q]:
                after_value = 0.0
            # v_t = V + rho (r + g V' - V) + g c (v' - V'), with rho = c here.
            advantage = ratio * (reward + discount * target - values[row])
            delta = ratio * (reward + discount * after_value - values[row])
            v = values[row] + delta + discount * ratio * (target - after_value)
            teacher = softmax(batch["teacher_logits"][row, legal].astype(float) / TAU[game])
            rows.append(
                (
                    -advantage * np.log(taken),
                    0.5 * (v - values[row]) ** 2,
                    -(policy * np.log(policy)).sum(),
                    -lambdas[game] * (teacher * np.log(policy)).sum(),
                )
            )
            weights.append(batch.loss_weights[row])
            target = v
    return np.average(rows, axis=0, weights=weights)


@pytest.mark.parametrize("lstm_width", [0, LSTM_WIDTH])
def test_the_loss_equals_a_slow_loop_over_sequences(lstm_width):
    batch, network = sequence_batch(), build_network(lstm_width=lstm_width)
    objective = build(network, value_weight=0.5, entropy_weight=0.02, distillation={"weight": 0.3})
    result = objective(load(batch))
    policy, value, entropy, distillation = slow_terms(batch, network, (0.3, 0.3))
    found = {name: float(term) for name, term in result.metrics.items()}
    assert found["policy_gradient_loss"] == pytest.approx(policy, rel=1e-3, abs=1e-5)
    assert found["value_loss"] == pytest.approx(value, rel=1e-3)
    assert found["entropy"] == pytest.approx(entropy, rel=1e-4)
    assert found["distillation_loss"] == pytest.approx(distillation, rel=1e-3)
    expected = policy + 0.5 * value - 0.02 * entropy + distillation
    assert result.loss.item() == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("lstm_width", [0, LSTM_WIDTH])
def test_some_sequences_of_a_batch_are_a_batch_of_their_own(lstm_width):
    objective = build(build_network(lstm_width=lstm_width))
    batch = load(sequence_batch())
    batch.loss_weights_B.fill_(1.0)
    part = batch.take(torch.tensor([0, 3]))
    rows = [0, 1, 2, 9, 10, 11]
    assert torch.equal(part.observations_BCHW, batch.observations_BCHW[rows])
    assert part.game_counts == (3, 3)
    assert part.sequences.can_bootstrap_Q.tolist() == [True, True]
    # The mean over two sequences of equally many steps is the mean of theirs.
    alone = [objective(batch.take(torch.tensor([place]))).loss.item() for place in (0, 3)]
    assert objective(part).loss.item() == pytest.approx(sum(alone) / 2, rel=1e-5)
    assert alone[0] != pytest.approx(alone[1], rel=0.01)


def test_without_teachers_it_is_plain_v_trace():
    batch, network = sequence_batch(), build_network()
    unlabelled = dict(batch.columns) | {"teacher_logits": np.zeros((15, 0), np.float16)}
    objective = build(network, counts=(0, 0), entropy_weight=0.0)
    result = objective(load(replace(batch, columns=unlabelled)))
    policy, value, _, _ = slow_terms(batch, network, (0.0, 0.0))
    assert result.loss.item() == pytest.approx(policy + 0.5 * value, rel=1e-3)


def test_several_teachers_add_up_and_a_missing_one_counts_for_nothing():
    batch, network = sequence_batch(), build_network()
    labels = np.asarray(batch["teacher_logits"])
    second = labels.copy()
    second[batch.game_index == 1] = 0.0
    two = dict(batch.columns) | {"teacher_logits": np.concatenate([labels, second], 1)}
    result = build(network, counts=(2, 1), distillation={"weight": 0.3})(
        load(replace(batch, columns=two))
    )
    # The second teacher of the first game says the same as its first.
    *_, expected = slow_terms(batch, network, (0.6, 0.3))
    assert result.metrics["distillation_loss"].item() == pytest.approx(expected, rel=1e-3)


def test_each_teacher_has_a_schedule_of_its_own():
    batch, network = sequence_batch(), build_network()
    labels = np.asarray(batch["teacher_logits"])
    two = dict(batch.columns) | {"teacher_logits": np.concatenate([labels, labels], 1)}
    weights = {"weights": (f"{GAMES[0]}=0.3,1.0",), "schedules": (f"{GAMES[0]}=constant,linear",)}
    objective = build(network, counts=(2, 1), distillation={"weight": 0.2, "steps": 40, **weights})
    objective.after_update(3)  # 30 steps: a quarter of the second teacher's weight is left.
    assert objective.teachers.values() == {GAMES[0]: [0.3, pytest.approx(0.25)], GAMES[1]: [0.2]}
    result = objective(load(replace(batch, columns=two)))
    *_, expected = slow_terms(batch, network, (0.55, 0.2))
    assert result.metrics["distillation_loss"].item() == pytest.approx(expected, rel=1e-3)
    # A teacher that the second game does not have is no distance away.
    assert result.game_sums["teacher_distance_2"][1] == 0
    assert result.game_sums["teacher_distance_2"][0] > 0


def test_nothing_is_clipped_of_what_the_policy_itself_has_played():
    batch, network = sequence_batch(), build_network()
    with torch.no_grad():
        logits = network.forward_with_features(torch.from_numpy(batch.observations))[0]
    own = [
        softmax(logits[row, list(SPECS[game].legal_actions)].double().numpy())[
            SPECS[game].legal_actions.index(int(batch["actions"][row]))
        ]
        for row, game in enumerate(batch.game_index)
    ]
    for factor, expected in ((1.0, 0.0), (0.25, 0.75), (2.0, 0.0)):
        taken = np.minimum(1.0, factor * np.array(own)).astype(np.float32)
        columns = dict(batch.columns) | {"behaviour_probabilities": taken}
        found = build(network)(load(replace(batch, columns=columns))).metrics["v_trace_clipped"]
        # Half of the ratios are above 1 by rounding, which is no clipping.
        assert found.item() == pytest.approx(expected, abs=1e-5)


def test_the_critic_learns_alone_while_it_warms_up():
    network = build_network()
    objective = build(network, critic_warmup_steps=25)
    for update, warming_up in ((0, True), (2, True), (3, False)):
        objective.after_update(update)
        network.zero_grad(set_to_none=True)
        objective(load(sequence_batch())).loss.backward()
        assert network.critic.weight.grad.abs().sum() > 0
        assert (network.head.weight.grad is None) == warming_up
        assert (next(network.torso.parameters()).grad is None) == warming_up


def test_rows_that_fill_a_sequence_up_change_nothing():
    batch = sequence_batch()
    filled = ~batch.sequences.is_step.reshape(-1)
    network = build_network()
    expected = build(network)(load(batch)).loss.item()
    columns = {name: np.array(column) for name, column in batch.columns.items()}
    columns["rewards"][filled] = 50.0
    columns["teacher_logits"][filled] = -3.0
    found = build(network)(load(replace(batch, columns=columns))).loss.item()
    assert found == pytest.approx(expected, rel=1e-6)


def test_the_teachers_log_probability_of_the_next_action_is_a_reward_of_this_step():
    batch, network = sequence_batch(), build_network()
    options = {"entropy_weight": 0.0, "reward_clip": 1e9, "distillation": {"weight": 0.3}}
    objective = build(network, mimic=MimicConfig(divergence="expected_entropy"), **options)
    found = objective(load(batch)).metrics
    rewards = batch["rewards"].copy()
    for row in range(batch.batch_size - 1):
        if (row + 1) % LENGTH == 0 or not batch.sequences.is_step.reshape(-1)[row + 1]:
            continue
        game = int(batch.game_index[row])
        legal = list(SPECS[game].legal_actions)
        teacher = softmax(batch["teacher_logits"][row + 1, legal].astype(float) / TAU[game])
        bonus = np.log(teacher[legal.index(int(batch["actions"][row + 1]))])
        rewards[row] += 0.3 * GAMMA * batch["discounts"][row] * bonus
    columns = dict(batch.columns) | {"rewards": rewards}
    plain = build(network, **options)(load(replace(batch, columns=columns))).metrics
    for name in ("policy_gradient_loss", "value_loss"):
        assert found[name].item() == pytest.approx(plain[name].item(), rel=1e-3)


def test_batches_of_single_steps_are_refused():
    with pytest.raises(ValueError, match="needs batches of sequences"):
        build(build_network())(load(random_batch()))
