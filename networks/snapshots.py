"""Takes snapshots of a module's weights, and puts them into another one of its kind."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from networks.weights import WeightSnapshot, WeightsVersion

# Parameters only the learner needs; they are left out of what travels.
REGRESSOR_PREFIX = "feature_regressors."


def take_snapshot(
    module: nn.Module,
    version: WeightsVersion,
    *,
    half: bool = True,
    exclude_prefixes: tuple[str, ...] = (REGRESSOR_PREFIX,),
) -> WeightSnapshot:
    """Copy a module's parameters and buffers; later updates of the module do not reach the copy.

    Args:
        module: on any device.
        version: stamped on the snapshot.
        half: floating point goes as float16, else as float32. Conversion happens on the module's
            device, before the transfer.
        exclude_prefixes: names that stay behind.

    Raises:
        ValueError: a weight is nan or infinite, or too large for float16.
    """
    dtype = torch.float16 if half else torch.float32
    arrays: dict[str, NDArray[Any]] = {}
    for name, tensor in module.state_dict().items():
        if not name.startswith(exclude_prefixes):
            arrays[name] = _to_array(name, tensor, dtype)
    return WeightSnapshot(version, arrays)


def _to_array(name: str, tensor: Tensor, dtype: torch.dtype) -> NDArray[Any]:
    if tensor.is_floating_point():
        tensor = tensor.to(dtype)
        if not tensor.isfinite().all():
            raise ValueError(
                f"weights {name!r} are not finite in {str(dtype).removeprefix('torch.')}: training "
                "has diverged; lower the learning rate or look at the rewards' scale"
            )
    # The copy matters: on a CPU the array would otherwise be the live parameter itself.
    array: NDArray[Any] = np.array(tensor.cpu().numpy(), order="C", copy=True)
    return array


def apply_snapshot(
    module: nn.Module,
    snapshot: WeightSnapshot,
    *,
    exclude_prefixes: tuple[str, ...] = (REGRESSOR_PREFIX,),
) -> None:
    """Overwrite a module's weights in place; nothing is written unless everything fits.

    Raises:
        ValueError: a name is missing or unknown, or a shape or the kind of a dtype differs.
    """
    copy_arrays(module, snapshot.arrays, optional_prefixes=exclude_prefixes)


def copy_arrays(
    module: nn.Module,
    arrays: Mapping[str, NDArray[Any]],
    *,
    optional_prefixes: tuple[str, ...] = (),
) -> None:
    """Overwrite a module's state with named arrays after checking all of them."""
    state = module.state_dict()
    _check_names(state, arrays, optional_prefixes)
    for name, array in arrays.items():
        target = state[name]
        if tuple(target.shape) != array.shape:
            raise ValueError(
                f"weights {name!r} have shape {list(array.shape)}, the network has "
                f"{list(target.shape)}; they belong to another architecture"
            )
        if target.is_floating_point() != np.issubdtype(array.dtype, np.floating):
            raise ValueError(f"weights {name!r} are {array.dtype}, the network has {target.dtype}")
    with torch.no_grad():
        for name, array in arrays.items():
            # np.array: torch refuses to share a read-only buffer, and shared ones are read-only.
            state[name].copy_(
                torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("=")))
            )


def _check_names(
    state: Mapping[str, Tensor], arrays: Mapping[str, NDArray[Any]], optional: tuple[str, ...]
) -> None:
    missing = [name for name in state if name not in arrays and not name.startswith(optional)]
    unknown = [name for name in arrays if name not in state]
    if missing or unknown:
        parts = [f"missing {', '.join(missing)}"] if missing else []
        parts += [f"unknown {', '.join(unknown)}"] if unknown else []
        raise ValueError(f"weights do not belong to this network: {'; '.join(parts)}")
