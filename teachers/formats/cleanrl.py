"""CleanRL's PyTorch scripts: `*.cleanrl_model` of dqn_atari, c51_atari and qdagger (IMPALA).

dqn_atari and qdagger save the bare state_dict, c51_atari {"model_weights": ..., "args": ...}. The
PyTorch PPO scripts save nothing.

Networks: https://github.com/vwxyzjn/cleanrl/blob/master/cleanrl/dqn_atari.py, c51_atari.py and
qdagger_dqn_atari_impalacnn.py. Our IMPALA torso has the same layers in the same order.
"""

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from games.spec import GameSpec
from teachers.card import Preprocessing
from teachers.formats.imported import POLICY_NOTE, Found
from teachers.formats.parts import NetworkParts, take_all
from teachers.formats.torch_files import tensors_of

# What the Atari scripts do to the game; those on envpool start the stack with zeros.
_PREPROCESSING = Preprocessing(
    frames="maximum of the last two, resize (area), gray",
    stack_start="first_frame",
    fire_on_reset=True,
    life_loss_ends_episode=True,
    max_noops=30,
    repeat_action_probability=0.0,
)

_NATURE = tuple(f"network.{index}" for index in (0, 2, 4, 7, 9))
_IMPALA = (
    *(
        f"network.{stage}.{layer}"
        for stage in range(3)
        for layer in ("conv", *(f"res_block{b}.conv{c}" for b in range(2) for c in range(2)))
    ),
    "network.5",
    "network.7",
)


def is_cleanrl(content: object) -> bool:
    """Whether what torch.load gave is from CleanRL."""
    tensors = _weights_of(content)
    return tensors is not None and any(name.startswith("network.0.") for name in tensors)


def read_cleanrl(content: object, spec: GameSpec, *, source: str) -> Found:
    """A DQN, C51 or QDagger student, of what torch.load gave."""
    tensors = _weights_of(content)
    if tensors is None:
        raise ValueError(f"{source} has no state_dict where CleanRL puts it")
    is_impala = "network.0.conv.weight" in tensors
    atoms = tensors.pop("atoms", None)
    return of_cleanrl(
        take_all(
            tensors,
            _IMPALA if is_impala else _NATURE,
            torso="impala" if is_impala else "nature_valid",
            atoms=atoms,
            source=source,
        ),
        algorithm="C51" if atoms is not None else "QDagger DQN" if is_impala else "DQN",
        settings=content.get("args") if isinstance(content, dict) else None,
    )


def of_cleanrl(
    parts: NetworkParts, *, algorithm: str, settings: object, stack_start: str = "first_frame"
) -> Found:
    """The network of a script; `settings` are its arguments if the file has them."""
    settings = settings if isinstance(settings, Mapping) else {}
    script = settings.get("exp_name")
    is_named = isinstance(script, str) and script.isidentifier() and len(script) < 100
    return Found(
        parts=parts,
        algorithm=algorithm,
        protocol="cleanrl",
        origin=f"CleanRL {script}" if is_named else "CleanRL",
        trained_steps=settings.get("total_timesteps"),
        preprocessing=replace(_PREPROCESSING, stack_start=stack_start),
        notes=None if parts.critic is None else POLICY_NOTE,
    )


def _weights_of(content: object) -> dict[str, Tensor] | None:
    if isinstance(content, dict) and "model_weights" in content:
        return tensors_of(content["model_weights"])
    return tensors_of(content)
