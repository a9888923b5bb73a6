"""The LSTM of a network: against its equations step by step, and what is remembered when."""

import copy

import numpy as np
import pytest
import torch

from networks.acting import Acting
from networks.memory import Memory
from networks.network import MultitaskNetwork

WIDTH = 5
NUM_INPUTS = 3


def sigmoid(values):
    return 1.0 / (1.0 + np.exp(-values))


def slow_step(memory, inputs, state):
    """One step of one LSTM (Gers et al. 2000), as PyTorch lays its weights out."""
    lstm = memory.lstm
    output, cell = state[:WIDTH], state[WIDTH:]
    gates = (
        lstm.weight_ih_l0.detach().double().numpy() @ inputs
        + lstm.bias_ih_l0.detach().double().numpy()
        + lstm.weight_hh_l0.detach().double().numpy() @ output
        + lstm.bias_hh_l0.detach().double().numpy()
    )
    enter, keep, new, leave = gates.reshape(4, WIDTH)
    cell = sigmoid(keep) * cell + sigmoid(enter) * np.tanh(new)
    return np.concatenate([sigmoid(leave) * np.tanh(cell), cell])


@pytest.fixture
def memory():
    torch.manual_seed(0)
    return Memory(NUM_INPUTS, WIDTH)


def build_network(lstm_width=WIDTH, **settings):
    torch.manual_seed(1)
    return MultitaskNetwork(
        torso="minatar", observation_shape=(2, 4, 4), num_actions=3, lstm_width=lstm_width,
        **settings,
    ).eval()  # fmt: skip


def frames(rng, *shape):
    return torch.from_numpy(rng.integers(256, size=(*shape, 2, 4, 4), dtype=np.uint8))


def test_sequences_that_end_early_are_unrolled_as_a_slow_loop_does(memory):
    rng = np.random.default_rng(0)
    num_steps = np.array([4, 1, 3])
    features, after = rng.normal(size=(3, 4, NUM_INPUTS)), rng.normal(size=(3, NUM_INPUTS))
    start = rng.normal(size=(3, 2 * WIDTH))
    start[1] = 0.0  # Begins with its episode.
    outputs, last = memory.unroll(
        *(torch.from_numpy(array).float() for array in (features, after, start)),
        torch.from_numpy(num_steps),
    )
    for q, count in enumerate(num_steps.tolist()):
        state = start[q]
        for t in range(count):
            state = slow_step(memory, features[q, t], state)
            np.testing.assert_allclose(outputs[q, t].detach(), state[:WIDTH], atol=1e-6)
        np.testing.assert_allclose(
            last[q].detach(), slow_step(memory, after[q], state)[:WIDTH], atol=1e-6
        )


def test_what_lies_behind_a_sequence_and_after_it_gives_its_steps_no_gradient(memory):
    features = torch.randn(1, 4, NUM_INPUTS, requires_grad=True)
    after = torch.randn(1, NUM_INPUTS, requires_grad=True)
    outputs, _ = memory.unroll(features, after, memory.begin(1), torch.tensor([2]))
    outputs[0, :2].sum().backward()
    assert features.grad[0, :2].all()
    assert not features.grad[0, 2:].any()
    assert after.grad is None or not after.grad.any()


def test_a_vector_is_played_as_each_of_its_episodes_alone():
    """Environment 0 begins anew at step 2; what came before leaves no trace."""
    network, rng = build_network(), np.random.default_rng(2)
    states = frames(rng, 5, 2)
    is_first = np.zeros((5, 2), np.bool_)
    is_first[0] = is_first[2, 0] = True
    act = Acting(network)
    with torch.inference_mode():
        together = []
        for row, first in zip(states, is_first, strict=True):
            together.append(act(row, first))
            assert not act.memory_BM[torch.from_numpy(first)].any()
        for env, episodes in enumerate([[(0, 2), (2, 5)], [(0, 5)]]):
            for start, stop in episodes:
                memory = None
                for step in range(start, stop):
                    scores, memory = network.look(states[step, env][None], memory)
                    torch.testing.assert_close(scores[0], together[step][env])


def test_the_same_state_means_another_thing_after_another_past():
    network, rng = build_network(), np.random.default_rng(3)
    one, other, asked = frames(rng, 3, 1)
    after = [network.look(asked, network.look(cue)[1])[0] for cue in (one, other)]
    assert (after[0] - after[1]).abs().max() > 1e-4


@pytest.mark.parametrize("heads", ["joint", "per_game", "per_game_dense"])
def test_every_kind_of_head_lies_on_the_lstm(heads):
    network = build_network(games=("a", "b"), heads=heads, has_critic=True)
    state = frames(np.random.default_rng(4), 2)
    index = torch.tensor([0, 1])
    scores, memory = network.look(state, None, index)
    assert (scores.shape, memory.shape) == ((2, 3), (2, 2 * WIDTH))
    assert network.values(memory[:, :WIDTH], index).shape == (2,)
    with torch.no_grad():
        network.memory.lstm.weight_hh_l0.zero_()
        network.memory.lstm.weight_ih_l0.zero_()
    changed, _ = network.look(state, None, index)
    assert (changed - scores).abs().max() > 1e-4


def test_a_network_with_an_lstm_is_not_asked_for_a_state_alone():
    state = frames(np.random.default_rng(5), 1)
    with pytest.raises(ValueError, match="has an LSTM"):
        build_network()(state)
    assert build_network(0)(state).shape == (1, 3)


def test_a_network_without_one_is_played_as_it_is():
    network = build_network(0)
    state = frames(np.random.default_rng(6), 2)
    act = Acting(network)
    torch.testing.assert_close(act(state, np.ones(2, np.bool_)), network(state), rtol=0, atol=0)
    assert act.memory_BM.shape == (0, 0)
    scores, memory = network.look(state)
    torch.testing.assert_close(scores, network(state), rtol=0, atol=0)
    assert memory.shape == (2, 0)


def test_an_lstm_leaves_the_other_layers_first_weights_alone():
    """The torso comes first, so that runs without one begin as they always have."""
    with_one, without = build_network(), build_network(0)
    for name, weights in without.torso.state_dict().items():
        torch.testing.assert_close(with_one.torso.state_dict()[name], weights, rtol=0, atol=0)
    assert not any(name.startswith("memory") for name in without.state_dict())
    assert copy.deepcopy(with_one).memory.width == WIDTH
