"""The learner: the order of what it does, one exact step, priorities, versions, going on."""

import copy

import numpy as np
import pytest
import torch
from batches import GAMES, SPECS, build_student, build_value_network, encoded, random_batch
from fakes import FakeReplay, FakeWeights, Tape
from players import table_spec
from replay_chunks import with_array

from learner.batch import BatchLoader
from learner.checkpoint import load_newest, save_checkpoint
from learner.config import LearnerConfig
from learner.learner import Learner, precision_on
from learner.objectives.base import ObjectiveResult
from learner.objectives.config import DqnConfig, MimicConfig
from learner.objectives.mimic import ActorMimicObjective
from learner.objectives.value import DqnObjective
from learner.optim import build_optimizer
from learner.schedule import LearningRate
from networks.masking import legal_matrix
from networks.weights import WeightsVersion

CPU = torch.device("cpu")


class SumObjective:
    """Loss: weighted sum of the head's biases; priority: the row's number plus the update's."""

    num_successors = 0

    def __init__(self, network, tape=None):
        self.network = network
        self.tape = tape or Tape()
        self.calls = 0

    def __call__(self, batch):
        self.tape.record("objective", batch)
        rows = torch.arange(len(batch.actions_B), dtype=torch.float32)
        priorities = rows + 100.0 * self.calls
        self.calls += 1
        loss = (self.network.head.bias * torch.arange(1.0, 7.0)).sum()
        return ObjectiveResult(loss, priorities, {"loss": loss.detach(), "calls": rows.sum() * 0})

    def after_update(self, num_updates):
        self.tape.record("after_update", num_updates)

    def state(self):
        return {}

    def load_state(self, state):
        pass


def build_mimic(network, **config):
    return ActorMimicObjective(
        MimicConfig(**config), network, legal_GA=legal_matrix(SPECS), temperatures=(0.5, 0.5)
    )


def build_learner(
    *,
    network=None,
    objective=None,
    optimizer=None,
    tape=None,
    device=CPU,
    incarnation=0,
    num_updates=1,
    **config,
):
    network = network or build_student()
    optimizer = optimizer or torch.optim.SGD(network.parameters(), lr=0.1)
    tape = tape or Tape()
    replay = FakeReplay([table_spec(spec) for spec in SPECS], batch_size=7, tape=tape)
    weights = FakeWeights(tape)
    settings = {"precision": "float32", "max_gradient_norm": 0.0, **config}
    config = LearnerConfig(**settings)
    learner = Learner(
        config,
        network=network,
        objective=objective or build_mimic(network),
        optimizer=optimizer,
        learning_rate=LearningRate(
            start=optimizer.param_groups[0]["lr"],
            num_updates=num_updates,
            decay_share=config.learning_rate_decay,
        ),
        load_batch=BatchLoader(device, gamma=0.9, reward_clip=1.0),
        replay=replay,
        weights=weights,
        device=device,
        incarnation=incarnation,
    )
    return learner, replay, weights


def update(learner, *seeds, **kwargs):
    for seed in seeds:
        learner.update(learner.load_batch(random_batch(seed, **kwargs)))


def weights_of(network):
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


# The order of things


def test_an_update_is_followed_by_the_priorities_before_it_and_then_by_the_weights():
    tape = Tape()
    network = build_student()
    learner, _, _ = build_learner(
        network=network, objective=SumObjective(network, tape), tape=tape, publish_period=2
    )
    update(learner, 0, 1, 2, 3)
    learner.flush_priorities()
    assert tape.names == [
        *("objective", "after_update"),
        *("objective", "after_update", "update_priorities", "publish"),
        *("objective", "after_update", "update_priorities"),
        *("objective", "after_update", "update_priorities", "publish"),
        "update_priorities",
    ]
    assert tape.details("after_update") == [1, 2, 3, 4]
    assert tape.details("publish") == [(0, 2), (0, 4)]


def test_priorities_go_back_one_update_late_under_the_keys_of_their_own_batch():
    network = build_student()
    learner, replay, _ = build_learner(network=network, objective=SumObjective(network))
    batches = [random_batch(seed) for seed in range(3)]
    for number, batch in enumerate(batches):
        learner.update(learner.load_batch(batch))
        assert len(replay.updates) == number
    learner.flush_priorities()
    learner.flush_priorities()
    assert len(replay.updates) == 3
    for number, (sent, batch) in enumerate(zip(replay.updates, batches, strict=True)):
        assert sent.keys is batch.keys
        assert sent.priorities.tolist() == [row + 100.0 * number for row in range(7)]
        assert sent.priorities.dtype == np.float32


def test_priorities_are_those_of_the_weights_that_the_update_began_with():
    learner, replay, _ = build_learner()
    before = copy.deepcopy(learner.network)
    update(learner, 0)
    learner.flush_priorities()
    batch = BatchLoader(CPU, gamma=0.9, reward_clip=1.0)(random_batch(0))
    expected = build_mimic(before)(batch).priorities_B
    np.testing.assert_array_equal(replay.updates[0].priorities, expected.numpy())


# One exact step


def test_a_step_of_plain_sgd_is_weights_minus_rate_times_gradient():
    network = build_student(features=True)
    reference = copy.deepcopy(network)
    learner, _, _ = build_learner(
        network=network, objective=build_mimic(network, feature_weight=0.1)
    )
    batch = learner.load_batch(random_batch(3))
    learner.update(batch)
    result = build_mimic(reference, feature_weight=0.1)(batch)
    gradients = torch.autograd.grad(result.loss, list(reference.parameters()))
    for (name, parameter), gradient in zip(reference.named_parameters(), gradients, strict=True):
        expected = parameter.detach() - 0.1 * gradient
        assert gradient.any(), name
        torch.testing.assert_close(
            network.state_dict()[name], expected, rtol=1e-6, atol=1e-8, msg=name
        )


def test_gradients_of_one_update_do_not_reach_the_next():
    network = build_student()
    learner, _, _ = build_learner(network=network, objective=SumObjective(network))
    start = network.head.bias.detach().clone()
    update(learner, 0, 1, 2)
    expected = start - 3 * 0.1 * torch.arange(1.0, 7.0)
    torch.testing.assert_close(network.head.bias.detach(), expected)


def test_gradients_are_scaled_down_to_the_configured_norm():
    network = build_student()
    learner, _, _ = build_learner(
        network=network, objective=SumObjective(network), max_gradient_norm=0.5
    )
    start = network.head.bias.detach().clone()
    update(learner, 0)
    gradient = torch.arange(1.0, 7.0)
    expected = start - 0.1 * 0.5 * gradient / gradient.norm()
    torch.testing.assert_close(network.head.bias.detach(), expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("kind", ["mimic", "dqn"])
def test_bfloat16_comes_close_to_float32(kind):
    results = []
    for precision in ("float32", "bfloat16"):
        if kind == "mimic":
            network = build_student(features=True)
            objective = build_mimic(network, feature_weight=0.05)
        else:
            network = build_value_network()
            objective = DqnObjective(DqnConfig(), network, legal_GA=legal_matrix(SPECS))
        learner, replay, _ = build_learner(
            network=network, objective=objective, precision=precision
        )
        before = weights_of(network)
        update(learner, 1, counts=(40, 40), num_successors=3 if kind == "dqn" else 0)
        learner.flush_priorities()
        step = torch.cat([(t - before[n]).flatten() for n, t in network.state_dict().items()])
        assert all(tensor.dtype == torch.float32 for tensor in network.state_dict().values())
        results.append((step, replay.updates[0].priorities, learner.drain_metrics()))
    (step, priorities, metrics), (half_step, half_priorities, half_metrics) = results
    cosine = torch.nn.functional.cosine_similarity(step, half_step, dim=0)
    assert cosine > 0.999
    assert half_step.norm() == pytest.approx(step.norm().item(), rel=0.02)
    np.testing.assert_allclose(half_priorities, priorities, atol=0.03)
    assert not np.array_equal(half_priorities, priorities)
    for name, value in metrics.items():
        assert half_metrics[name] == pytest.approx(value, rel=0.03, abs=0.01), name


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx2": True, "avx512_bf16": False}, "float32"),
        ({"avx512_bf16": True}, "bfloat16"),
        ({"amx_bf16": True}, "bfloat16"),
        ({"neon": True, "bf16": True}, "bfloat16"),
    ],
)
def test_auto_is_bfloat16_only_where_the_processor_has_it(monkeypatch, capabilities, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    cpu = torch.device("cpu")
    assert precision_on(cpu, "auto") == expected
    assert precision_on(torch.device("cuda"), "auto") == "bfloat16"
    assert precision_on(cpu, "bfloat16") == "bfloat16"
    assert precision_on(cpu, "float32") == "float32"


# Weights and versions


@pytest.mark.parametrize("period", [1, 3])
def test_weights_are_published_once_per_period_with_their_version(period):
    learner, _, weights = build_learner(publish_period=period, incarnation=4)
    update(learner, *range(7))
    expected = [(4, updates) for updates in range(period, 8, period)]
    assert [snapshot.version for snapshot in weights.published] == expected
    assert learner.version == WeightsVersion(4, 7)


def test_weights_that_are_not_finite_are_not_published():
    learner, _, weights = build_learner()
    with torch.no_grad():
        learner.network.head.bias[0] = float("nan")
    with pytest.raises(ValueError, match="training has diverged"):
        learner.publish()
    assert weights.published == []


def test_priorities_that_are_not_finite_stop_the_run_with_the_reason():
    learner, replay, _ = build_learner()
    with torch.no_grad():
        learner.network.head.bias[0] = float("nan")
    update(learner, 0)
    with pytest.raises(ValueError, match=r"diverged by update 1.*learning_rate"):
        learner.flush_priorities()
    assert replay.updates == []


# Metrics


def test_metrics_are_means_since_they_were_last_drained():
    network = build_student()
    learner, _, _ = build_learner(network=network, objective=SumObjective(network))
    factors = torch.arange(1.0, 7.0)
    losses = []
    for seed in range(5):
        losses.append(float((network.head.bias.detach() * factors).sum()))
        update(learner, seed)
        if seed == 1:
            assert learner.drain_metrics()["loss"] == pytest.approx(np.mean(losses))
            losses.clear()
    assert learner.drain_metrics()["loss"] == pytest.approx(np.mean(losses))
    assert learner.drain_metrics() == {}


def test_policy_lag_is_in_updates_and_measured_when_a_batch_is_learned_from():
    learner, _, _ = build_learner()
    update(learner, *range(10), versions=[encoded(0, 0)] * 7)
    learner.drain_metrics()
    versions = [encoded(0, count) for count in (0, 2, 4, 6, 8, 10, 10)]
    update(learner, 0, versions=versions)
    assert learner.drain_metrics()["policy_lag"] == pytest.approx(np.mean([10, 8, 6, 4, 2, 0, 0]))
    # Made by a learner that had got further before it died.
    update(learner, 1, versions=[encoded(0, 500)] * 7)
    assert learner.drain_metrics()["policy_lag"] == 0.0
    # Loaded ahead: the updates that come in between count.
    waiting = learner.load_batch(random_batch(versions=[encoded(0, 12)] * 7))
    update(learner, 2, 3)
    learner.drain_metrics()
    learner.update(waiting)
    assert learner.drain_metrics()["policy_lag"] == 2.0


# Going on


def build_for(kind, optimizer):
    if kind == "mimic":
        network = build_student(features=True)
        objective = build_mimic(network, feature_weight=0.05)
    else:
        network = build_value_network()
        config = DqnConfig(target_period=2)
        objective = DqnObjective(config, network, legal_GA=legal_matrix(SPECS))
    config = LearnerConfig(optimizer=optimizer, learning_rate=1e-2)
    built = build_optimizer(config, network.parameters(), mean_over=7)
    return build_learner(network=network, objective=objective, optimizer=built)[0]


@pytest.mark.parametrize("optimizer", ["adam", "actor_mimic_adam", "centered_rmsprop"])
@pytest.mark.parametrize("kind", ["mimic", "dqn"])
def test_a_learner_that_goes_on_from_a_checkpoint_equals_one_that_never_stopped(
    kind, optimizer, tmp_path
):
    num_successors = 3 if kind == "dqn" else 0
    whole = build_for(kind, optimizer)
    # Five updates: the target network is not just copied when the checkpoint is taken.
    update(whole, *range(9), num_successors=num_successors)
    first = build_for(kind, optimizer)
    update(first, *range(5), num_successors=num_successors)
    save_checkpoint(tmp_path, first.state(), num_updates=first.num_updates, keep=1)
    second = build_for(kind, optimizer)
    update(second, 77, num_successors=num_successors)
    second.load_state(load_newest(tmp_path))
    assert second.version == WeightsVersion(1, 5)
    update(second, *range(5, 9), num_successors=num_successors)
    assert second.version == WeightsVersion(1, 9)
    assert_same(weights_of(second.network), weights_of(whole.network))
    assert_same(second.state()["objective"], whole.state()["objective"])


def test_a_state_is_a_copy_that_later_updates_do_not_reach():
    learner = build_for("dqn", "adam")
    update(learner, 0, 1, num_successors=3)
    state = learner.state()
    expected = copy.deepcopy(state)
    update(learner, 2, 3, 4, num_successors=3)
    assert_equal_states(state, expected)
    learner.load_state(state)
    update(learner, 5, 6, num_successors=3)
    assert_equal_states(state, expected)


def assert_equal_states(one, other):
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_equal_states(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for left, right in zip(one, other, strict=True):
            assert_equal_states(left, right)
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    else:
        assert one == other


def test_every_start_is_a_new_incarnation():
    state = build_learner()[0].state()
    for expected in (1, 2, 3):
        learner, _, _ = build_learner()
        learner.load_state(state)
        assert learner.version == WeightsVersion(expected, 0)
        state = learner.state()


def test_a_second_restart_from_the_same_checkpoint_can_be_told_from_the_first():
    state = build_learner()[0].state()
    learner, _, _ = build_learner(incarnation=5)
    learner.load_state(state)
    assert learner.version == WeightsVersion(5, 0)
    # But it never falls back behind the checkpoint's.
    behind, _, _ = build_learner(incarnation=2)
    behind.load_state(learner.state())
    assert behind.version == WeightsVersion(6, 0)


def test_a_checkpoint_of_another_network_is_refused_in_one_sentence():
    state = build_learner(network=build_student(features=True))[0].state()
    with pytest.raises(ValueError, match="the checkpoint does not fit this run") as caught:
        build_learner()[0].load_state(state)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="the checkpoint does not fit this run"):
        build_learner()[0].load_state({"steps": {}})


# With replay


def test_batches_come_from_replay_and_priorities_find_their_way_back():
    from client_contracts import make_actor

    tape = Tape()
    network = build_student()
    learner, replay, _ = build_learner(
        network=network,
        objective=SumObjective(network, tape),
        tape=tape,
        publish_period=2,
    )
    actors = [make_actor(spec, serial=serial) for serial, spec in enumerate(SPECS)]
    for actor in actors:
        chunk = actor.collect()
        narrow = np.zeros((chunk.num_entries, 0), np.float16)
        replay.add(with_array(chunk, "teacher_features", narrow), timeout_s=0.0)
    for _ in range(2):
        batch = replay.sample(timeout_s=0.0)
        learner.update(learner.load_batch(batch))
    learner.flush_priorities()
    assert tape.names == [
        *("add", "add"),
        *("sample", "objective", "after_update"),
        *("sample", "objective", "after_update", "update_priorities", "publish"),
        "update_priorities",
    ]
    first, second = tape.details("sample")
    assert first.games == GAMES
    assert [sent.keys for sent in replay.updates] == [first.keys, second.keys]


@pytest.mark.gpu
def test_the_accelerator_learns_the_same_and_sends_its_priorities_back_in_order():
    results = []
    for device in (CPU, torch.device("cuda")):
        network = build_student().to(device, memory_format=torch.channels_last)
        objective = ActorMimicObjective(
            MimicConfig(),
            network,
            legal_GA=legal_matrix(SPECS).to(device),
            temperatures=(0.5, 0.5),
        )
        learner, replay, _ = build_learner(network=network, objective=objective, device=device)
        update(learner, *range(5))
        learner.flush_priorities()
        state = learner.state()
        assert all(tensor.device == CPU for tensor in state["network"].values())
        results.append((state["network"], replay.updates))
    (weights, updates), (gpu_weights, gpu_updates) = results
    for name, tensor in weights.items():
        torch.testing.assert_close(gpu_weights[name], tensor, rtol=1e-3, atol=1e-4)
    for sent, gpu_sent in zip(updates, gpu_updates, strict=True):
        np.testing.assert_allclose(gpu_sent.priorities, sent.priorities, atol=1e-3)
        np.testing.assert_array_equal(gpu_sent.keys.generations, sent.keys.generations)


def test_a_falling_learning_rate_scales_every_update():
    num_updates = 4
    changes = []
    for decay in (0.0, 1.0):
        learner, *_ = build_learner(num_updates=num_updates, learning_rate_decay=decay)
        update(learner, *range(num_updates - 1))
        learner.network.load_state_dict(weights_of(build_student()))
        before = weights_of(learner.network)
        update(learner, 9)
        after = weights_of(learner.network)
        changes.append({name: after[name] - before[name] for name in before})
    constant, falling = changes
    for name, change in constant.items():
        # The last of four updates: a quarter of the rate is left.
        torch.testing.assert_close(falling[name], change / 4, rtol=1e-3, atol=1e-7)
