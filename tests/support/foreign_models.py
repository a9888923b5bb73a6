"""Teachers that really play, in the formats of other libraries: the shipped experts, rebuilt.

A shipped expert has a quarter of the Nature network and a dueling head. Zeros fill it up to
Nature's shapes, and its head is linear in the features once the mean over actions is multiplied
out. Its first layer has a padding that other libraries do not have; golden/valid_convolutions holds
one without, fitted to the expert (golden/make_valid_convolutions.py).

    write_foreign_teachers(folder) -> {("pong", "sb3"): folder/pong.zip, ...}

Scores of 30 games under the classic protocol at epsilon 0.05, mean +- standard deviation, and the
shipped experts' own: Pong 15.6 +- 3.0 (16.3 +- 3.0), Boxing 22.2 +- 19.2 (23.4 +- 18.7), Breakout
32.0 +- 10.1 (39.2 +- 12.8).
"""

from dataclasses import replace
from functools import cache
from pathlib import Path

import foreign_layouts as layouts
import torch
from foreign_layouts import ATOMS, HIDDEN_SHAPES, Layer, NatureLayers
from safetensors.torch import load_file
from torch import Tensor

from games.registry import get_game
from teachers.expert import load_expert

GAMES = ("pong", "boxing", "breakout")
TEMPERATURE = 0.05
"""At which the Q-values of an expert become the logits of a policy."""

_GOLDEN = Path(__file__).parents[1] / "teachers" / "golden" / "valid_convolutions.safetensors"
_NUM_QUANTILES = 200
_SPREAD = 1.5
"""Standard deviation of the return distributions made up for C51, in units of return."""


def write_foreign_teachers(folder: Path) -> dict[tuple[str, str], Path]:
    """Write 18 checkpoints of playing teachers: three games in six formats.

    Plain Q-networks, quantile and categorical distributions, and policies are among them; none
    needs the library it pretends to come from.

    Returns:
        Paths by (game, name of the format).
    """
    written = {}
    for game in GAMES:
        for format_, suffix in _SUFFIXES.items():
            path = folder / format_ / f"{game}{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(path, game, format_)
            written[game, format_] = path
    return written


_SUFFIXES = {
    "sb3": ".zip",
    "cleanrl": ".cleanrl_model",
    "cleanrl_jax": ".cleanrl_model",
    "atari_agents": ".gz",
    "pfrl": ".zip",
    "state_dict": ".pt",
}


def _write(path: Path, game: str, format_: str) -> None:
    plain = nature_expert(game)
    match format_, game:
        case "sb3", "pong":
            layouts.write_sb3_of_2021(path, plain, kind="dqn")
        case "sb3", "boxing":
            layouts.write_sb3_of_2021(path, as_quantiles(plain), kind="qrdqn")
        case "sb3", _:
            layouts.write_sb3_of_2021(path, as_policy(plain), kind="ppo")
        case "cleanrl", "boxing":
            layouts.write_cleanrl_dqn(path, plain)
        case "cleanrl", _:
            layouts.write_cleanrl_c51(path, as_categorical(plain))
        case "cleanrl_jax", "pong":
            layouts.write_cleanrl_jax_ppo(path, as_policy(plain))
        case "cleanrl_jax", "boxing":
            layouts.write_cleanrl_jax_c51(path, as_categorical(plain))
        case "cleanrl_jax", _:
            layouts.write_cleanrl_jax_dqn(path, plain)
        case "atari_agents", "boxing":
            layouts.write_atari_agents(path, as_categorical(plain), ATOMS)
        case "atari_agents", _:
            layouts.write_atari_agents(path, plain)
        case "pfrl", _:
            layouts.write_pfrl(path, plain)
        case _:
            torch.save(plain.named("conv1", "conv2", "conv3", "fc", "q"), path)


@cache
def nature_expert(game: str) -> NatureLayers:
    """The shipped expert as a Nature network, VALID padding, one Q-value per legal action."""
    network = load_expert(game).network
    first = load_file(_GOLDEN)
    convolutions = [layer for layer in network.torso.convolutions if hasattr(layer, "weight")]
    layers = [(first[f"{game}.weight"].float(), first[f"{game}.bias"].float())]
    layers += [(layer.weight, layer.bias) for layer in (*convolutions[1:], network.torso.dense[0])]
    hidden = tuple(
        _embed(layer, shape, maps=49 if len(shape) == 2 else 1)
        for layer, shape in zip(layers, HIDDEN_SHAPES, strict=True)
    )
    advantage, value = network.advantage, network.value
    weight = advantage.weight - advantage.weight.mean(0) + value.weight
    bias = advantage.bias - advantage.bias.mean() + value.bias
    legal = list(get_game(game).legal_actions)
    head = _embed((weight[legal], bias[legal]), (len(legal), 512))
    return NatureLayers(hidden=hidden, head=head)


def _embed(layer: Layer, shape: tuple[int, ...], *, maps: int = 1) -> Layer:
    """The layer among zeros; inputs are channels, or channels of `maps` numbers each."""
    weight, bias = (tensor.detach() for tensor in layer)
    num_outputs, num_inputs = weight.shape[:2]
    large = torch.zeros(shape[0], shape[1] // maps, maps, *shape[2:])
    channels = num_inputs // maps
    large[:num_outputs, :channels] = weight.reshape(num_outputs, channels, maps, *shape[2:])
    large_bias = torch.zeros(shape[0])
    large_bias[:num_outputs] = bias
    return large.reshape(shape), large_bias


def as_policy(layers: NatureLayers) -> NatureLayers:
    """Actor and critic: logits Q / TEMPERATURE, and the mean Q as the value."""
    weight, bias = layers.head
    return replace(
        layers,
        head=(weight / TEMPERATURE, bias / TEMPERATURE),
        critic=(weight.mean(0, keepdim=True), bias.mean(0, keepdim=True)),
    )


def as_quantiles(layers: NatureLayers) -> NatureLayers:
    """200 quantiles for each action, by quantile first: Q plus offsets whose mean is 0."""
    weight, bias = layers.head
    offsets_Z1 = torch.linspace(-1, 1, _NUM_QUANTILES).unsqueeze(1)
    return replace(layers, head=(weight.repeat(_NUM_QUANTILES, 1), (bias + offsets_Z1).flatten()))


def as_categorical(layers: NatureLayers, atoms_Z: Tensor = ATOMS) -> NatureLayers:
    """A distribution over 51 returns whose mean is Q, very nearly.

    logits(z) = (z Q - z^2 / 2) / s^2 are those of a Gaussian around Q with standard deviation s;
    on 51 atoms from -10 to 10 its mean is within 0.01 of Q for |Q| < 5.
    """
    weight_AF, bias_A = layers.head
    slopes_Z = atoms_Z / _SPREAD**2
    weight = (slopes_Z[:, None] * weight_AF[:, None, :]).flatten(0, 1)
    bias = slopes_Z * bias_A[:, None] - atoms_Z.square() / (2 * _SPREAD**2)
    return replace(layers, head=(weight, bias.flatten()))
