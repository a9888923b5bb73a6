"""Torsos: from stacked uint8 frames, or a vector of floats, to the last hidden layer.

A torso ends after its last hidden layer's ReLU, because that vector is what Actor-Mimic calls the
features of a network. network.py puts heads on top. Weights keep PyTorch's
default initialisation.

Shape suffixes:
    B  observations in the batch
    C  channels of one observation: stacked frames times channels of a frame, or numbers
    H, W  height and width of a frame
    F  features: width of the torso's last hidden layer
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from networks.config import TORSO_DESCRIPTIONS

# (C, H, W) of one observation, or (C,) of a vector.
ObservationShape = tuple[int, ...]


class Torso(nn.Module):
    """Convolutions, then dense layers; uint8 images are divided by 255 inside.

    Vectors are float32 and go into the dense layers as they are.
    """

    def __init__(
        self,
        convolutions: nn.Sequential,
        dense: nn.Sequential,
        *,
        observation_shape: ObservationShape,
        num_features: int,
    ) -> None:
        """Wrap layers that fit together; `build_torso` is the usual way to get one."""
        super().__init__()
        self.convolutions = convolutions
        self.dense = dense
        self.observation_shape = observation_shape
        self.is_vector = len(observation_shape) == 1
        self.num_features = num_features

    def forward(self, observations_BCHW: Tensor) -> Tensor:
        """Features after the last ReLU.

        Args:
            observations_BCHW: uint8, 0 to 255; or float32 [B, C].

        Returns:
            features_BF, float32, or the autocast type where autocast is on.

        Raises:
            ValueError: another dtype (an observation that is divided by 255 already would silently
                become black) or another shape.
        """
        if self.is_vector:
            wanted, hint = torch.float32, "this network sees float32 vectors"
        else:
            wanted = torch.uint8
            hint = "pass the uint8 frames, the network divides them by 255 itself"
        if observations_BCHW.dtype != wanted:
            raise ValueError(f"observations have dtype {observations_BCHW.dtype}; {hint}")
        if observations_BCHW.shape[1:] != self.observation_shape:
            raise ValueError(
                f"observations have shape {tuple(observations_BCHW.shape)}; this network was built "
                f"for [B, {', '.join(map(str, self.observation_shape))}]"
            )
        if self.is_vector:
            vector_features_BF: Tensor = self.dense(observations_BCHW)
            return vector_features_BF
        # In place: the conversion has made a new tensor already.
        dtype = self._compute_dtype(observations_BCHW.device)
        pixels_BCHW = observations_BCHW.to(dtype).div_(255)
        # flatten() reads in logical order, so channels_last weights meet the same dense inputs.
        features_BF: Tensor = self.dense(self.convolutions(pixels_BCHW).flatten(1))
        return features_BF

    def _compute_dtype(self, device: torch.device) -> torch.dtype:
        if torch.is_autocast_enabled(device.type):
            return torch.get_autocast_dtype(device.type)
        return next(self.convolutions.parameters()).dtype


def build_torso(name: str, observation_shape: ObservationShape) -> Torso:
    """Build the torso called `name` for observations of this shape."""
    if name not in TORSOS:
        raise ValueError(f"unknown torso {name!r}; known torsos: {', '.join(TORSOS)}")
    num_axes, wanted = (1, "(numbers,)") if name == "mlp" else (3, "(channels, height, width)")
    if len(observation_shape) != num_axes or min(observation_shape) < 1:
        raise ValueError(
            f"observation_shape is {observation_shape}; torso {name!r} needs {wanted}, all positive"
        )
    try:
        # A list would compare unequal to the shape of a tensor, and cards store lists.
        return TORSOS[name](tuple(observation_shape))
    except _FramesTooSmall:
        _, height, width = observation_shape
        raise ValueError(
            f"torso {name!r} does not fit frames of {height}x{width}; choose a torso with fewer "
            "strides, for example 'minatar'"
        ) from None


class _FramesTooSmall(Exception):
    """A convolution would have no output left."""


@dataclass(frozen=True, slots=True)
class _Convolution:
    channels: int
    kernel: int
    stride: int = 1
    padding: int = 0

    def output_size(self, size: int) -> int:
        output = (size + 2 * self.padding - self.kernel) // self.stride + 1
        if output < 1:
            raise _FramesTooSmall
        return output


def _build_plain(
    observation_shape: ObservationShape,
    *,
    convolutions: Sequence[_Convolution],
    dense_widths: Sequence[int],
    normalized: bool = False,
) -> Torso:
    """Convolutions and dense layers with a ReLU after each, a layer normalisation before it."""
    channels, height, width = observation_shape
    layers: list[nn.Module] = []
    for conv in convolutions:
        layers.append(nn.Conv2d(channels, conv.channels, conv.kernel, conv.stride, conv.padding))
        if normalized:
            # One group of all channels is a layer normalisation that keeps channels_last.
            layers.append(nn.GroupNorm(1, conv.channels))
        layers.append(nn.ReLU(inplace=True))
        channels = conv.channels
        height, width = conv.output_size(height), conv.output_size(width)
    return Torso(
        nn.Sequential(*layers),
        _dense(channels * height * width, dense_widths, normalized=normalized),
        observation_shape=observation_shape,
        num_features=dense_widths[-1],
    )


def _dense(num_inputs: int, widths: Sequence[int], *, normalized: bool = False) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in widths:
        layers.append(nn.Linear(num_inputs, width))
        if normalized:
            layers.append(nn.LayerNorm(width))
        layers.append(nn.ReLU(inplace=True))
        num_inputs = width
    return nn.Sequential(*layers)


_NATURE_VALID = (_Convolution(32, 8, 4), _Convolution(64, 4, 2), _Convolution(64, 3))
_NATURE_QUARTER = (_Convolution(16, 8, 4, 1), _Convolution(32, 4, 2), _Convolution(32, 3))
_LARGE = (
    _Convolution(256, 8, 4, 1), _Convolution(512, 4, 2), _Convolution(512, 3), _Convolution(512, 3),
)  # fmt: skip
_MINATAR = (_Convolution(16, 3),)


def _nature_same(observation_shape: ObservationShape) -> Torso:
    """The Nature network of Dopamine, with TensorFlow's SAME padding: 7744 inputs to the dense.

    Castro et al. 2018, https://github.com/google/dopamine/blob/master/dopamine/jax/networks.py.
    """
    channels, height, width = observation_shape
    layers: list[nn.Module] = []
    for conv in _NATURE_VALID:
        top, bottom = _same_padding(height, conv)
        left, right = _same_padding(width, conv)
        layers += [
            nn.ZeroPad2d((left, right, top, bottom)),
            nn.Conv2d(channels, conv.channels, conv.kernel, conv.stride),
            nn.ReLU(inplace=True),
        ]
        channels = conv.channels
        height, width = -(-height // conv.stride), -(-width // conv.stride)
    return Torso(
        nn.Sequential(*layers),
        _dense(channels * height * width, [512]),
        observation_shape=observation_shape,
        num_features=512,
    )


def _same_padding(size: int, conv: _Convolution) -> tuple[int, int]:
    """Zeros (before, after) so that ceil(size / stride) windows fit; an odd one goes after."""
    num_windows = -(-size // conv.stride)
    total = max(0, (num_windows - 1) * conv.stride + conv.kernel - size)
    return total // 2, total - total // 2


class _ResidualBlock(nn.Module):
    """relu, conv 3x3, relu, conv 3x3, plus the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, maps_BCHW: Tensor) -> Tensor:
        # The first ReLU must not work in place: the skip connection still needs its input.
        hidden_BCHW = self.conv1(maps_BCHW.relu())
        result_BCHW: Tensor = maps_BCHW + self.conv2(hidden_BCHW.relu())
        return result_BCHW


def _impala(observation_shape: ObservationShape) -> Torso:
    """Residual network of IMPALA (Espeholt et al. 2018, arXiv:1802.01561, figure 3)."""
    channels, height, width = observation_shape
    layers: list[nn.Module] = []
    for stage_channels in (16, 32, 32):
        layers += [
            nn.Conv2d(channels, stage_channels, 3, padding=1),
            nn.MaxPool2d(3, stride=2, padding=1),
            _ResidualBlock(stage_channels),
            _ResidualBlock(stage_channels),
        ]
        channels = stage_channels
        height, width = (height + 1) // 2, (width + 1) // 2
    layers.append(nn.ReLU(inplace=True))
    return Torso(
        nn.Sequential(*layers),
        _dense(channels * height * width, [256]),
        observation_shape=observation_shape,
        num_features=256,
    )


def _mlp(observation_shape: ObservationShape) -> Torso:
    """Two dense layers on a vector, which should be of the order of 1: nothing scales it."""
    return Torso(
        nn.Sequential(),
        _dense(observation_shape[0], [256, 256]),
        observation_shape=observation_shape,
        num_features=256,
    )


# Every torso by the name used in configurations and on teachers' cards.
TORSOS: dict[str, Callable[[ObservationShape], Torso]] = {
    # Mnih et al. 2015 (https://doi.org/10.1038/nature14236), also the small AMN. The padding of 1
    # in the first layer is not in the text; it is in their released code and in Actor-Mimic's. For
    # 84x84 frames it changes no layer's size.
    "nature": partial(
        _build_plain,
        convolutions=(_Convolution(32, 8, 4, 1), *_NATURE_VALID[1:]),
        dense_widths=[512],
    ),
    # The student with 25 % of the parameters in Rusu et al. 2015 (arXiv:1511.06295).
    "nature_quarter": partial(_build_plain, convolutions=_NATURE_QUARTER, dense_widths=[256]),
    # The wide network of Actor-Mimic's transfer experiment (arXiv:1511.06342, appendix).
    "large": partial(_build_plain, convolutions=_LARGE, dense_widths=[2048, 1024]),
    "impala": _impala,
    # Network of the MinAtar paper (Young and Tian 2019, arXiv:1903.03176) for 10x10 frames.
    "minatar": partial(_build_plain, convolutions=_MINATAR, dense_widths=[128]),
    # As most libraries build it, without padding (VALID). For 84x84 frames every layer has the
    # shape it has in `nature`, but the first looks at windows one pixel further right and down:
    # weights must not be moved between the two.
    "nature_valid": partial(_build_plain, convolutions=_NATURE_VALID, dense_widths=[512]),
    "nature_same": _nature_same,
    # A layer normalisation before every ReLU (Ba et al. 2016, https://arxiv.org/abs/1607.06450),
    # where PQN has it (Gallici et al. 2024, https://arxiv.org/abs/2407.04811). After a convolution
    # it runs over all of a state's numbers and has a scale and an offset for each channel.
    "nature_quarter_norm": partial(
        _build_plain, convolutions=_NATURE_QUARTER, dense_widths=[256], normalized=True
    ),
    "minatar_norm": partial(
        _build_plain, convolutions=_MINATAR, dense_widths=[128], normalized=True
    ),
    "mlp": _mlp,
}

assert TORSOS.keys() == TORSO_DESCRIPTIONS.keys(), "networks/config.py describes other torsos"
