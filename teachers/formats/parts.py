"""From the layers of a foreign checkpoint to a network of ours, whatever library they came from.

A reader knows names and layouts; it hands over layers in PyTorch's layout. Here they are checked
and put into a network over the joint action set.

Shape suffixes:
    F  features: width of the last hidden layer
    N  outputs of the foreign head's every unit: actions it was trained with
    A  joint action set (18 for Atari)
    Z  atoms or quantiles
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from games.spec import GameSpec
from networks.teacher_network import (
    CategoricalNetwork,
    TeacherNetwork,
    build_teacher_network,
)
from networks.torso import build_torso
from teachers.card import MAX_ATOMS

TorsoName = Literal["nature_valid", "nature_same", "impala"]


class Layer(NamedTuple):
    """Weight and bias in PyTorch's layout: [out, in, height, width] or [out, in]."""

    weight: Tensor
    bias: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class NetworkParts:
    """The layers of a teacher, before anything is known to fit."""

    torso: TorsoName
    # Convolutions and dense layers up to the last hidden one, in the order of computation.
    hidden: Sequence[Layer]
    # One output per action; Z for each action with `atoms` (actions first, then atoms).
    head: Layer
    # Returns of a categorical head.
    atoms: Tensor | None = None
    # Makes the head's outputs a policy's logits.
    critic: Layer | None = None


def take_layer(tensors: Mapping[str, Tensor], name: str, *, source: str) -> Layer:
    """`name`.weight and `name`.bias; ValueError if one of them is not there."""
    for part in ("weight", "bias"):
        if f"{name}.{part}" not in tensors:
            raise ValueError(
                f"{source} has no {name + '.' + part!r}; it has {name_some(tensors)}: "
                "not an architecture that is read"
            )
    return Layer(tensors[f"{name}.weight"], tensors[f"{name}.bias"])


def take_all(
    tensors: Mapping[str, Tensor],
    names: Sequence[str],
    *,
    torso: TorsoName,
    source: str,
    atoms: Tensor | None = None,
) -> NetworkParts:
    """The layers of these names, the head's last; ValueError if one is missing or left over."""
    *hidden, head = (take_layer(tensors, name, source=source) for name in names)
    # Layers that nobody reads would be left out silently.
    if unknown := sorted({name.rpartition(".")[0] for name in tensors}.difference(names)):
        raise ValueError(
            f"{source} has layers that are not read: {', '.join(map(repr, unknown[:4]))}; its "
            "network is another than the library's Atari network"
        )
    return NetworkParts(torso=torso, hidden=hidden, head=head, atoms=atoms)


def take_only(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors below a prefix, without it."""
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def name_some(names: Mapping[str, object]) -> str:
    """A few names, for a message."""
    some = [repr(name)[:60] for name in list(names)[:4]]
    return ", ".join(some) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def mean_over_quantiles(
    head: Layer, num_actions: int, *, order: Literal["ZN", "NZ"], source: str
) -> Layer:
    """Fold the mean of a quantile head into one output per action.

    The mean is linear, so nothing is lost: Dabney et al. 2018, https://arxiv.org/abs/1710.10044.
    `order` says whether the N * Z outputs are counted by quantile first (ZN), or by action (NZ).
    """
    if head.weight.ndim != 2 or head.weight.shape[0] != head.bias.numel():
        raise ValueError(f"{source}: its quantile head has shape {list(head.weight.shape)}")
    shape, axis = ((-1, num_actions), 0) if order == "ZN" else ((num_actions, -1), 1)
    # In double precision: the mean over 200 quantiles is to agree to the last digits.
    weight = head.weight.double().reshape(*shape, head.weight.shape[1]).mean(axis)
    return Layer(weight.float(), head.bias.double().reshape(shape).mean(axis).float())


def choose_num_actions(
    num_outputs: int, spec: GameSpec, *, source: str, per_action: int = 1
) -> int:
    """Actions that a head has: the joint set, or the game's legal ones; else ValueError."""
    for num_actions in (spec.num_actions, len(spec.legal_actions)):
        if num_outputs == num_actions * per_action:
            return num_actions
    each = f" ({per_action} for each action)" if per_action > 1 else ""
    raise ValueError(
        f"{source}: its head has {num_outputs} outputs{each}, but {spec.name!r} has "
        f"{len(spec.legal_actions)} legal actions and {spec.num_actions} joint actions; is it an "
        "expert for another game?"
    )


def build_teacher(parts: NetworkParts, spec: GameSpec, *, source: str) -> TeacherNetwork:
    """A network over the joint action set with these layers.

    A head with one output for each legal action is spread: output k becomes joint action
    `spec.legal_actions[k]`, and illegal actions get zeros.

    Raises:
        ValueError: a layer of another shape, weights that are not finite, or a head that fits
            neither the game's legal actions nor the joint ones.
    """
    per_action = 1 if parts.atoms is None else _num_atoms(parts.atoms, source=source)
    num_outputs = parts.head.bias.numel()
    choose_num_actions(num_outputs, spec, source=source, per_action=per_action)
    network = _empty_network(parts, spec, source=source)
    _fill(_layers_of(network.torso), parts.hidden, source=source)
    _fill([network.head], [_spread(parts.head, spec, per_action, source=source)], source=source)
    if isinstance(network, CategoricalNetwork):
        assert parts.atoms is not None
        network.atoms_Z.copy_(parts.atoms)
    elif parts.critic is not None:
        assert network.critic is not None
        _fill([network.critic], [parts.critic], source=source)
    return network.eval().requires_grad_(False)


def _empty_network(parts: NetworkParts, spec: GameSpec, *, source: str) -> TeacherNetwork:
    shape = spec.observation_shape
    try:
        # Without memory: the shapes are still to be compared.
        with torch.device("meta"):
            build_torso(parts.torso, shape)
    except ValueError as error:
        raise ValueError(f"{source} cannot play {spec.name!r}: {error}") from error
    return build_teacher_network(
        torso=parts.torso,
        observation_shape=shape,
        num_actions=spec.num_actions,
        num_atoms=None if parts.atoms is None else parts.atoms.numel(),
        has_critic=parts.critic is not None,
    )


def _layers_of(torso: nn.Module) -> list[nn.Module]:
    return [layer for layer in torso.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]


def _fill(targets: Sequence[nn.Module], layers: Sequence[Layer], *, source: str) -> None:
    if len(targets) != len(layers):
        raise ValueError(f"{source} has {len(layers)} hidden layers; {len(targets)} are expected")
    for number, (target, layer) in enumerate(zip(targets, layers, strict=True), 1):
        for name, tensor in layer._asdict().items():
            wanted = getattr(target, name)
            if tensor.shape != wanted.shape:
                raise ValueError(
                    f"{source}: {name} {number} has shape {list(tensor.shape)}, but "
                    f"{list(wanted.shape)} is expected"
                )
            if not tensor.isfinite().all():
                raise ValueError(f"{source}: {name} {number} is not finite")
            with torch.no_grad():
                wanted.copy_(tensor)


def _spread(layer: Layer, spec: GameSpec, per_action: int, *, source: str) -> Layer:
    """Rows [N * per_action, F] at their joint actions' places [A * per_action, F]."""
    num_outputs, full = layer.bias.numel(), spec.num_actions * per_action
    if layer.weight.ndim != 2 or layer.weight.shape[0] != num_outputs:
        raise ValueError(
            f"{source}: its head has a weight of shape {list(layer.weight.shape)} and a bias of "
            f"{num_outputs} numbers"
        )
    if num_outputs == full:
        return layer
    legal = torch.tensor(spec.legal_actions)
    rows = (legal.unsqueeze(1) * per_action + torch.arange(per_action)).flatten()
    weight = torch.zeros(full, layer.weight.shape[1])
    bias = torch.zeros(full)
    weight[rows], bias[rows] = layer.weight, layer.bias
    return Layer(weight, bias)


def _num_atoms(atoms: Tensor, *, source: str) -> int:
    if atoms.ndim != 1 or not 2 <= atoms.numel() <= MAX_ATOMS or not atoms.isfinite().all():
        raise ValueError(f"{source}: its atoms are not a list of 2 to {MAX_ATOMS} finite numbers")
    if not math.isclose(float(atoms.max()), float(atoms[-1])) or (atoms.diff() <= 0).any():
        raise ValueError(f"{source}: its atoms do not ascend")
    return atoms.numel()
