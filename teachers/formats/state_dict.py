"""A plain state_dict of a Nature network, whatever its author called the layers.

The shapes say which tensor is which. They do not say everything: the pixels are taken to have been
divided by 255, the convolutions to have no padding, and the dense layer to read channels first, as
PyTorch flattens. A network that differs there loads and plays badly; measure it.
"""

from collections.abc import Mapping

from torch import Tensor

from games.spec import GameSpec
from teachers.formats.imported import Found
from teachers.formats.parts import Layer, NetworkParts, name_some
from teachers.formats.torch_files import tensors_of

# Shapes of the hidden layers' weights, without the number of input channels.
_HIDDEN = ((32, 8, 8), (64, 4, 4), (64, 3, 3), (512, 3136))


def read_state_dict(content: object, spec: GameSpec, *, source: str) -> Found:
    """A DQN of Nature's shapes, of a state_dict or a dictionary with exactly one in it."""
    where, tensors = _find_tensors(content, source=source)
    *hidden, head = _layers_of(tensors, source=source)
    return Found(
        parts=NetworkParts(torso="nature_valid", hidden=hidden, head=head),
        algorithm="unknown (a Q-network by its shapes)",
        protocol="classic",
        origin=f"state_dict{where}",
        notes="Protocol and scaling of pixels are assumed: a state_dict does not say them.",
    )


def _find_tensors(content: object, *, source: str) -> tuple[str, dict[str, Tensor]]:
    """Where the state_dict is, for the card, and the state_dict."""
    if (tensors := tensors_of(content)) is not None:
        return "", tensors
    if not isinstance(content, dict):
        raise ValueError(f"{source} does not hold a dictionary of tensors")
    found = {str(key): t for key, part in content.items() if (t := tensors_of(part)) is not None}
    if len(found) != 1:
        raise ValueError(
            f"{source} has {len(found)} dictionaries of tensors ({name_some(found) or 'none'}); "
            "save the one network that is to teach"
        )
    name, tensors = found.popitem()
    return f" under {name[:40]!r}", tensors


def _layers_of(tensors: Mapping[str, Tensor], *, source: str) -> list[Layer]:
    """Four hidden layers and the head, in the order of computation."""
    layers = _pairs(tensors, source=source)
    shapes = {
        name: (layer.weight.shape[0], *layer.weight.shape[2:]) for name, layer in layers.items()
    }
    shapes |= {n: tuple(la.weight.shape) for n, la in layers.items() if la.weight.ndim == 2}
    chosen: list[Layer] = []
    for wanted in _HIDDEN:
        names = [name for name, shape in shapes.items() if shape == wanted]
        if len(names) != 1:
            raise ValueError(
                f"{source} has {len(names)} layers of shape {list(wanted)} "
                f"({', '.join(map(repr, names[:4])) or 'none'}) where a Nature network has one; "
                + ("save one network alone" if names else "read are Nature networks")
            )
        chosen.append(layers.pop(names[0]))
        del shapes[names[0]]
    if len(layers) != 1:
        raise ValueError(
            f"{source} has {len(layers)} layers behind the 512 features ({name_some(layers)}); a "
            "plain Q-network has one. Dueling, distributional and actor-critic networks cannot be "
            "told apart by shapes: save them in their library's format"
        )
    return [*chosen, layers.popitem()[1]]


def _pairs(tensors: Mapping[str, Tensor], *, source: str) -> dict[str, Layer]:
    """Weights and biases by the name they have in common."""
    layers: dict[str, Layer] = {}
    for name, weight in tensors.items():
        stem = name.removesuffix("weight")
        if weight.ndim in (2, 4) and name.endswith("weight") and f"{stem}bias" in tensors:
            layers[stem.rstrip("._") or stem] = Layer(weight, tensors[f"{stem}bias"])
    if len(layers) * 2 != len(tensors):
        raise ValueError(
            f"{source} has tensors that are not a weight with its bias among {name_some(tensors)}; "
            "read are Nature networks"
        )
    return layers
