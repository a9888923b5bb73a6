"""Settings of a network. Imports no torch: a command line is read before that is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeAlias

from annotated_types import Ge

from games.spec import GameSpec

# What each torso is, by its name; networks/torso.py builds them.
TORSO_DESCRIPTIONS: Mapping[str, str] = MappingProxyType(
    {
        "nature": "the network of Nature DQN: 32/64/64 maps, 512 features, 1.7 M parameters",
        "nature_quarter": "a quarter of its parameters: 16/32/32 maps, 256 features",
        "large": "Actor-Mimic's transfer network: 256/512/512/512 maps, 2048 and 1024 wide, 35 M",
        "impala": "IMPALA's residual network, LSTM apart: 16/32/32 maps, 256 features",
        "minatar": "the MinAtar paper's, for 10x10 frames: 16 maps, 128 features",
        "nature_valid": "nature as most other libraries pad it; for their teachers",
        "nature_same": "nature as Dopamine pads it; for its teachers",
        "nature_quarter_norm": "nature_quarter with a layer normalisation before every ReLU",
        "minatar_norm": "minatar with a layer normalisation before every ReLU",
        "mlp": "for vectors of numbers instead of images: two dense layers, 256 features",
    }
)

# How much of the network belongs to single games.
#
# `joint`: nothing. `per_game`: the last layer, as in the multitask DQN of Actor-Mimic's appendix C.
# `per_game_dense`: the last layer and the dense layers below it, on shared convolutions, as in that
# appendix's multitask convolutions DQN.
HeadSharing: TypeAlias = Literal["joint", "per_game", "per_game_dense"]

# Pixels. On larger frames the one convolution of `minatar`, which has no stride, would end in a
# dense layer larger than all the other torsos.
_MAX_MINATAR_SIDE = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkConfig:
    """Architecture of one network."""

    torso: str = "nature"
    """One of nature, nature_quarter, nature_quarter_norm, large, impala, minatar, and mlp for
    vectors (also nature_valid and nature_same, the torsos of teachers from other libraries)."""

    heads: HeadSharing = "joint"
    """`joint`: one head for all games; `per_game`: a last layer for each; `per_game_dense`: the
    dense layers below it for each game, too, on shared convolutions."""

    dueling: bool = False
    """Q = V + A - mean(A). Only where the network learns Q-values."""

    lstm_width: Annotated[int, Ge(0)] = 0
    """Width of an LSTM between torso and heads, with which the network remembers its episode
    (IMPALA: 256); 0 for none. Only with objective actor_critic, which learns from sequences."""

    def __post_init__(self) -> None:
        """Refuse an unknown torso."""
        if self.torso not in TORSO_DESCRIPTIONS:
            raise ValueError(
                f"unknown torso {self.torso!r}; known torsos: {', '.join(TORSO_DESCRIPTIONS)}"
            )


def check_torso_fits(config: NetworkConfig, spec: GameSpec) -> None:
    """Raises ValueError for a torso of other frames than the game's: images or vectors, sizes."""
    if spec.is_vector != (config.torso == "mlp"):
        seen, other = ("numbers", "mlp") if spec.is_vector else ("images", "nature")
        raise ValueError(
            f"network.torso {config.torso} does not fit {spec.name}, which shows {seen}; use "
            f"--network.torso {other}"
        )
    if spec.is_vector:
        if config.heads == "per_game_dense":
            raise ValueError(
                "network.heads per_game_dense shares the convolutions alone, and mlp has none; use "
                "per_game"
            )
        return
    _, height, width = spec.frame_shape
    if config.torso.startswith("minatar") and max(height, width) > _MAX_MINATAR_SIDE:
        raise ValueError(
            f"network.torso {config.torso} is for 10x10 frames, but those of {spec.name} are "
            f"{height}x{width}; use nature"
        )


def with_current_names(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A network's settings as earlier versions wrote them, under the names they have now."""
    current = dict(settings)
    if current.pop("per_game_heads", False):
        current["heads"] = "per_game"
    return current
