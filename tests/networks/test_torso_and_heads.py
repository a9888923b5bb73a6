"""Sizes, input scaling, memory format and heads of the single-game networks."""

import copy

import pytest
import torch
from torch import Tensor, nn

from networks.network import MultitaskNetwork
from networks.torso import build_torso

ATARI = (4, 84, 84)


def num_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def random_observations(batch: int, shape: tuple[int, int, int] = ATARI, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (batch, *shape), dtype=torch.uint8, generator=generator)


def build_q(
    torso: str = "nature_quarter", dueling: bool = False, seed: int = 0, num_quantiles: int = 0
) -> MultitaskNetwork:
    torch.manual_seed(seed)
    return MultitaskNetwork(
        torso=torso,
        observation_shape=ATARI,
        num_actions=18,
        dueling=dueling,
        num_quantiles=num_quantiles,
    )


@pytest.mark.parametrize(
    ("torso", "count", "num_features"),
    [
        ("nature", 1_693_362, 512),
        ("nature_quarter", 427_874, 256),
        ("large", 35_216_146, 1024),
        ("impala", 1_093_858, 256),
        ("nature_quarter_norm", 427_874 + 2 * (16 + 32 + 32 + 256), 256),
    ],
)
def test_q_network_for_18_actions_has_the_published_number_of_parameters(
    torso: str, count: int, num_features: int
) -> None:
    # The meta device allocates nothing: counting needs no memory for 35 million weights.
    with torch.device("meta"):
        network = MultitaskNetwork(torso=torso, observation_shape=ATARI, num_actions=18)
    assert num_parameters(network) == count
    assert network.num_features == num_features


@pytest.mark.parametrize("torso", ["nature", "nature_quarter", "impala", "nature_quarter_norm"])
def test_features_are_non_negative_and_as_wide_as_announced(torso: str) -> None:
    torch.manual_seed(0)
    network = build_torso(torso, ATARI)
    features = network(random_observations(2))
    assert features.shape == (2, network.num_features)
    assert features.dtype == torch.float32
    assert (features >= 0).all()
    assert (features > 0).any()


def test_nature_torso_equals_its_layers_written_out_on_pixels_divided_by_255() -> None:
    torch.manual_seed(1)
    torso = build_torso("nature", ATARI)
    observations = random_observations(2)
    conv1, conv2, conv3 = (torso.convolutions[index] for index in (0, 2, 4))
    hidden = observations.double().numpy() / 255
    x = torch.from_numpy(hidden).float()
    x = nn.functional.conv2d(x, conv1.weight, conv1.bias, stride=4, padding=1).relu()
    x = nn.functional.conv2d(x, conv2.weight, conv2.bias, stride=2).relu()
    x = nn.functional.conv2d(x, conv3.weight, conv3.bias).relu()
    x = nn.functional.linear(x.reshape(2, -1), torso.dense[0].weight, torso.dense[0].bias).relu()
    torch.testing.assert_close(torso(observations), x, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("torso", ["nature_quarter", "impala", "nature_quarter_norm"])
def test_channels_last_weights_give_the_same_values_and_gradients(torso: str) -> None:
    plain = build_q(torso)
    channels_last = copy.deepcopy(plain).to(memory_format=torch.channels_last)
    observations = random_observations(3)
    for network in (plain, channels_last):
        network(observations).square().sum().backward()
    torch.testing.assert_close(channels_last(observations), plain(observations))
    for expected, got in zip(plain.parameters(), channels_last.parameters(), strict=True):
        torch.testing.assert_close(got.grad, expected.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 84, 84), (4, 80, 84), (84, 84, 4)])
def test_observations_of_another_shape_are_refused(shape: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match=r"built for \[B, 4, 84, 84\]"):
        build_q()(random_observations(1, shape))


def test_dueling_q_is_value_plus_centred_advantage() -> None:
    network = build_q(dueling=True)
    q, features = network.forward_with_features(random_observations(5))
    value = features @ network.value.weight.T + network.value.bias
    advantage = features @ network.advantage.weight.T + network.advantage.bias
    expected = value + advantage - advantage.mean(1, keepdim=True)
    torch.testing.assert_close(q, expected)
    torch.testing.assert_close(q.mean(1, keepdim=True), value)


def test_normalized_torso_equals_its_layers_written_out():
    torch.manual_seed(1)
    torso = build_torso("nature_quarter_norm", ATARI)
    with torch.no_grad():
        for parameter in torso.parameters():
            # The scales and offsets begin at 1 and 0, where a wrong one would not show.
            parameter += 0.05 * torch.randn_like(parameter)
    observations = random_observations(3)
    x = observations.float() / 255
    for index, stride, padding in ((0, 4, 1), (3, 2, 0), (6, 1, 0)):
        conv, norm = torso.convolutions[index], torso.convolutions[index + 1]
        x = nn.functional.conv2d(x, conv.weight, conv.bias, stride=stride, padding=padding)
        mean, variance = x.mean((1, 2, 3), keepdim=True), x.var((1, 2, 3), False, keepdim=True)
        x = (x - mean) / (variance + 1e-5).sqrt()
        x = (x * norm.weight[:, None, None] + norm.bias[:, None, None]).relu()
    x = nn.functional.linear(x.flatten(1), torso.dense[0].weight, torso.dense[0].bias)
    x = (x - x.mean(1, keepdim=True)) / (x.var(1, False, keepdim=True) + 1e-5).sqrt()
    x = (x * torso.dense[1].weight + torso.dense[1].bias).relu()
    torch.testing.assert_close(torso(observations), x, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dueling", [False, True])
@pytest.mark.parametrize("torso", ["nature_quarter", "nature_quarter_norm"])
def test_a_head_folded_to_its_means_gives_the_same_q_values(torso: str, dueling: bool) -> None:
    network = build_q(torso, dueling=dueling, num_quantiles=32)
    folded = network.without_quantiles()
    observations = random_observations(6)
    torch.testing.assert_close(folded(observations), network(observations), rtol=1e-5, atol=1e-6)
    plain = build_q(torso, dueling=dueling)
    shapes = {name: tensor.shape for name, tensor in folded.state_dict().items()}
    assert shapes == {name: tensor.shape for name, tensor in plain.state_dict().items()}


def test_folding_does_not_change_or_share_the_network() -> None:
    network = build_q(num_quantiles=3)
    before = copy.deepcopy(network.state_dict())
    folded = network.without_quantiles()
    with torch.no_grad():
        for parameter in folded.parameters():
            parameter.fill_(7)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_heads_stay_in_float32_under_autocast() -> None:
    network = build_q()
    observations = random_observations(8)
    with torch.autocast("cpu", torch.bfloat16):
        q, features = network.forward_with_features(observations)
    assert q.dtype == features.dtype == torch.float32
    # The torso did run in bfloat16, and the head did not round its sums to it.
    assert torch.equal(features, features.bfloat16().float())
    torch.testing.assert_close(q, features @ network.head.weight.T + network.head.bias)
    assert not torch.equal(q, q.bfloat16().float())


def test_every_parameter_gets_a_gradient() -> None:
    for torso, num_quantiles in (
        ("nature_quarter", 0),
        ("impala", 0),
        ("nature_quarter_norm", 0),
        ("nature_quarter", 3),
    ):
        network = build_q(torso, dueling=True, num_quantiles=num_quantiles)
        network(random_observations(4)).square().sum().backward()
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name


@pytest.mark.gpu
def test_gpu_gives_the_same_values_in_channels_last() -> None:
    network = build_q("nature")
    observations = random_observations(16)
    expected = network(observations)
    network = network.cuda().to(memory_format=torch.channels_last)
    got = network(observations.cuda()).cpu()
    torch.testing.assert_close(got, expected, rtol=1e-2, atol=1e-3)
