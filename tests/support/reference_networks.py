"""Forward passes of other libraries' networks, written out from their published definitions.

Each takes layers in PyTorch's layout and uint8 observations [B, 4, 84, 84], and gives the last
hidden layer and the head's raw outputs.

Sources: AtariNet in floringogianu/atari-agents (play.py), QNetwork in vwxyzjn/cleanrl
(dqn_atari.py, c51_atari.py, qdagger_dqn_atari_impalacnn.py), NatureCNN in DLR-RM/stable-baselines3
(common/torch_layers.py), LargeAtariCNN in pfnet/pfrl (nn/atari_cnn.py), NatureDQNNetwork in
google/dopamine (jax/networks.py).
"""

from collections.abc import Mapping

import torch
from foreign_layouts import NatureLayers
from torch import Tensor
from torch.nn import functional


def nature_valid(layers: NatureLayers, observations: Tensor) -> tuple[Tensor, Tensor]:
    """Three convolutions without padding and a dense layer, ReLU after each, and the head."""
    maps = observations.float() / 255.0
    *convolutions, dense = layers.hidden
    for (weight, bias), stride in zip(convolutions, (4, 2, 1), strict=True):
        maps = functional.relu(functional.conv2d(maps, weight, bias, stride=stride))
    features = functional.relu(functional.linear(maps.flatten(1), *dense))
    return features, functional.linear(features, *layers.head)


def nature_same(layers: NatureLayers, observations: Tensor) -> tuple[Tensor, Tensor]:
    """The same with SAME padding as XLA has it: 84 -> 21 -> 11 -> 11."""
    maps = observations.float() / 255.0
    *convolutions, dense = layers.hidden
    paddings = ((2, 2), (1, 2), (1, 1))
    for (weight, bias), stride, (before, after) in zip(
        convolutions, (4, 2, 1), paddings, strict=True
    ):
        maps = functional.pad(maps, (before, after, before, after))
        maps = functional.relu(functional.conv2d(maps, weight, bias, stride=stride))
    features = functional.relu(functional.linear(maps.flatten(1), *dense))
    return features, functional.linear(features, *layers.head)


def impala(state: Mapping[str, Tensor], observations: Tensor) -> tuple[Tensor, Tensor]:
    """CleanRL's QDagger student: three stages of convolution, pooling and two residual blocks."""

    def convolve(name: str, maps: Tensor) -> Tensor:
        return functional.conv2d(maps, state[f"{name}.weight"], state[f"{name}.bias"], padding=1)

    maps = observations.float() / 255.0
    for stage in range(3):
        maps = convolve(f"network.{stage}.conv", maps)
        maps = functional.max_pool2d(maps, kernel_size=3, stride=2, padding=1)
        for block in range(2):
            name = f"network.{stage}.res_block{block}"
            hidden = convolve(f"{name}.conv0", functional.relu(maps))
            maps = maps + convolve(f"{name}.conv1", functional.relu(hidden))
    flat = functional.relu(maps.flatten(1))
    features = functional.relu(
        functional.linear(flat, state["network.5.weight"], state["network.5.bias"])
    )
    head = functional.linear(features, state["network.7.weight"], state["network.7.bias"])
    return features, head


def categorical_mean(outputs: Tensor, atoms: Tensor) -> Tensor:
    """Q-values of C51: outputs are counted by action, then by atom."""
    probabilities = outputs.reshape(len(outputs), -1, len(atoms)).softmax(2)
    return (probabilities * atoms).sum(2)


def quantile_mean(outputs: Tensor, num_quantiles: int = 200) -> Tensor:
    """Q-values of sb3-contrib's QR-DQN: outputs are counted by quantile, then by action."""
    return outputs.reshape(len(outputs), num_quantiles, -1).mean(1)


def impala_state(num_actions: int, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def layer(name: str, *shape: int) -> dict[str, Tensor]:
        fan_in = 1
        for size in shape[1:]:
            fan_in *= size
        weight = torch.randn(shape, generator=generator) / fan_in**0.5
        return {f"{name}.weight": weight, f"{name}.bias": weight.flatten(1).mean(1)}

    state: dict[str, Tensor] = {}
    channels = 4
    for stage, width in enumerate((16, 32, 32)):
        state |= layer(f"network.{stage}.conv", width, channels, 3, 3)
        for block in range(2):
            for conv in range(2):
                name = f"network.{stage}.res_block{block}.conv{conv}"
                state |= layer(name, width, width, 3, 3)
        channels = width
    state |= layer("network.5", 256, 3872)
    return state | layer("network.7", num_actions, 256)
