"""Layers of flax networks in PyTorch's layout: CleanRL's JAX scripts and Dopamine.

Convolution kernels are stored [height, width, in, out] and dense ones [in, out]. What goes into
the first dense layer was flattened with the channels last, so its rows are put into the order of
PyTorch's flattening, channels first.

Source of the layout: https://github.com/google/flax/blob/main/flax/linen/linear.py
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from teachers.formats.parts import Layer

Array = NDArray[Any]


def nature_layers(params: object, *, source: str) -> list[Layer]:
    """Conv_0, Conv_1, Conv_2 and the dense layers Dense_0, Dense_1, ... that follow."""
    layers = _mapping(params, "parameters", source)
    num_dense = len(layers) - 3
    names = [*(f"Conv_{i}" for i in range(3)), *(f"Dense_{i}" for i in range(num_dense))]
    if num_dense < 1 or set(layers) != set(names):
        raise ValueError(
            f"{source} has the layers {', '.join(sorted(map(repr, layers)))[:200]}; read are three "
            "convolutions Conv_0.. and the dense layers Dense_0.. behind them"
        )
    convolutions = [_convolution(layers[name], name, source) for name in names[:3]]
    channels = convolutions[-1].weight.shape[0]
    first, *others = [_dense(layers[name], name, source) for name in names[3:]]
    return [*convolutions, _channels_first(first, channels, source), *others]


def dense_layer(params: object, *, source: str) -> Layer:
    """The only layer Dense_0 of a head."""
    layers = _mapping(params, "parameters", source)
    if set(layers) != {"Dense_0"}:
        raise ValueError(f"{source}: a head has other layers than Dense_0")
    return _dense(layers["Dense_0"], "Dense_0", source)


def to_tensor(array: Array) -> Tensor:
    """Float32 copy."""
    return torch.from_numpy(np.array(array, np.float32))


def _convolution(layer: object, name: str, source: str) -> Layer:
    kernel, bias = _kernel_and_bias(layer, name, 4, source)
    return Layer(to_tensor(kernel.transpose(3, 2, 0, 1)), to_tensor(bias))


def _dense(layer: object, name: str, source: str) -> Layer:
    kernel, bias = _kernel_and_bias(layer, name, 2, source)
    return Layer(to_tensor(kernel.transpose(1, 0)), to_tensor(bias))


def _channels_first(layer: Layer, channels: int, source: str) -> Layer:
    """Inputs [height, width, channels] -> [channels, height, width] of square maps."""
    num_outputs, num_inputs = layer.weight.shape
    side = math.isqrt(num_inputs // channels) if channels else 0
    if channels * side * side != num_inputs:
        raise ValueError(
            f"{source}: its first dense layer has {num_inputs} inputs, which are not {channels} "
            "square maps"
        )
    weight = layer.weight.reshape(num_outputs, side, side, channels).permute(0, 3, 1, 2)
    return Layer(weight.reshape(num_outputs, num_inputs), layer.bias)


def _kernel_and_bias(layer: object, name: str, ndim: int, source: str) -> tuple[Array, Array]:
    arrays = _mapping(layer, f"layer {name}", source)
    return (
        _floats(arrays.get("kernel"), ndim, f"kernel of {name}", source),
        _floats(arrays.get("bias"), 1, f"bias of {name}", source),
    )


def _floats(array: object, ndim: int, what: str, source: str) -> Array:
    if not isinstance(array, np.ndarray) or array.ndim != ndim or array.dtype.kind != "f":
        raise ValueError(f"{source}: {what} is not an array of numbers in {ndim} dimensions")
    return array


def _mapping(value: object, what: str, source: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise ValueError(f"{source}: its {what} are missing")
    return value
