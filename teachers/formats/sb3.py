"""Stable-Baselines3 and sb3-contrib: the zip files of `model.save`, of 2021 and of today.

Read are the tensors (policy.pth) and the plain JSON numbers of `data`; never the pickles that
`data` carries as base64 texts. Sizes come from the weights, because the JSON's fields have changed
their names and types over the versions.

Layout: https://github.com/DLR-RM/stable-baselines3/blob/master/stable_baselines3/common/save_util.py
Networks: NatureCNN in common/torch_layers.py; sb3_contrib/qrdqn/policies.py (quantiles first).
"""

import json
from collections.abc import Mapping

import torch
from torch import Tensor

from games.spec import GameSpec
from teachers.card import Preprocessing
from teachers.formats.bounded_files import ZipMembers
from teachers.formats.imported import POLICY_NOTE, Found
from teachers.formats.parts import (
    Layer,
    NetworkParts,
    choose_num_actions,
    mean_over_quantiles,
    take_layer,
    take_only,
)
from teachers.formats.torch_files import load_torch, tensors_of

_MAX_JSON_BYTES = 16 * 2**20
# sb3-contrib's default, for zips that do not say.
_QUANTILES = 200
_EXTRACTOR = ("cnn.0", "cnn.2", "cnn.4", "linear.0")
_PREPROCESSING = Preprocessing(
    frames="maximum of the last two, gray, resize (area)",
    stack_start="zeros",
    fire_on_reset=True,
    life_loss_ends_episode=True,
    max_noops=30,
    repeat_action_probability=0.0,
)


def is_sb3(members: ZipMembers) -> bool:
    """Whether a zip archive is what `model.save` writes."""
    return {"data", "policy.pth"} <= set(members.names)


def read_sb3(members: ZipMembers, spec: GameSpec, *, source: str) -> Found:
    """A DQN, QR-DQN, PPO or A2C with the CnnPolicy."""
    settings = _read_settings(members, source=source)
    tensors = tensors_of(load_torch(members.read("policy.pth"), source=f"{source}: policy.pth"))
    if tensors is None:
        raise ValueError(f"{source}: policy.pth is not a state_dict")
    if any(name.startswith("quantile_net.") for name in tensors):
        algorithm, parts = "QR-DQN", _quantile_parts(tensors, settings, spec, source=source)
    elif any(name.startswith("q_net.") for name in tensors):
        algorithm, parts = "DQN", _q_parts(tensors, source=source)
    elif any(name.startswith("action_net.") for name in tensors):
        algorithm = "PPO" if "clip_range" in settings else "A2C"
        parts = _actor_critic_parts(tensors, source=source)
    else:
        raise ValueError(
            f"{source} is a Stable-Baselines3 zip of another algorithm; read are DQN, QR-DQN, PPO "
            "and A2C with discrete actions"
        )
    return Found(
        parts=parts,
        algorithm=algorithm,
        protocol="sb3",
        origin=f"Stable-Baselines3 {_version(members)}",
        trained_steps=settings.get("num_timesteps"),
        preprocessing=_PREPROCESSING,
        notes=None if parts.critic is None else POLICY_NOTE,
    )


def _read_settings(members: ZipMembers, *, source: str) -> dict[str, object]:
    """The plain part of `data`."""
    try:
        settings = json.loads(members.read("data", max_bytes=_MAX_JSON_BYTES))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{source}: 'data' is not valid JSON: {error}") from error
    if not isinstance(settings, dict):
        raise ValueError(f"{source}: 'data' is not a JSON object")
    policy = settings.get("policy_kwargs")
    # As a JSON value where the settings are plain, as a text where they are not.
    if isinstance(policy, dict) and str(policy.get("normalize_images", True)) == "False":
        raise ValueError(
            f"{source} was trained with normalize_images=False; networks here divide by 255"
        )
    return settings


def _version(members: ZipMembers) -> str:
    if "_stable_baselines3_version" not in members.names:
        return "of unknown version"
    text = members.read("_stable_baselines3_version", max_bytes=100).decode("ascii", "replace")
    return "".join(c for c in text.strip() if c.isalnum() or c in ".-+") or "of unknown version"


def _q_parts(tensors: Mapping[str, Tensor], *, source: str) -> NetworkParts:
    net = take_only(tensors, "q_net.")
    return NetworkParts(
        torso="nature_valid",
        hidden=_extractor(net, "features_extractor.", source=source),
        head=_only_layer(net, "q_net", source=source),
    )


def _quantile_parts(
    tensors: Mapping[str, Tensor], settings: Mapping[str, object], spec: GameSpec, *, source: str
) -> NetworkParts:
    net = take_only(tensors, "quantile_net.")
    head = _only_layer(net, "quantile_net", source=source)
    num_quantiles = settings.get("n_quantiles", _QUANTILES)
    if not isinstance(num_quantiles, int) or not 1 <= num_quantiles <= 10_000:
        raise ValueError(f"{source}: n_quantiles is {num_quantiles!r}, not a number of quantiles")
    num_actions = choose_num_actions(
        head.bias.numel(), spec, source=source, per_action=num_quantiles
    )
    return NetworkParts(
        torso="nature_valid",
        hidden=_extractor(net, "features_extractor.", source=source),
        head=mean_over_quantiles(head, num_actions, order="ZN", source=source),
    )


def _actor_critic_parts(tensors: Mapping[str, Tensor], *, source: str) -> NetworkParts:
    # Zips of before version 1.8 have one extractor; later ones also its two uses, usually the same.
    prefix = "pi_features_extractor."
    if any(name.startswith(prefix) for name in tensors):
        for name, tensor in take_only(tensors, prefix).items():
            other = tensors.get(f"vf_features_extractor.{name}")
            if other is None or not torch.equal(tensor, other):
                raise ValueError(
                    f"{source}: actor and critic have a features extractor each; read are those "
                    "that share one (share_features_extractor=True)"
                )
    else:
        prefix = "features_extractor."
    if hidden := [name for name in tensors if name.startswith("mlp_extractor.")]:
        raise ValueError(
            f"{source} has hidden layers behind the extractor ({hidden[0]!r}); not read"
        )
    return NetworkParts(
        torso="nature_valid",
        hidden=_extractor(tensors, prefix, source=source),
        head=take_layer(tensors, "action_net", source=source),
        critic=take_layer(tensors, "value_net", source=source),
    )


def _extractor(tensors: Mapping[str, Tensor], prefix: str, *, source: str) -> list[Layer]:
    """The four layers of NatureCNN."""
    return [take_layer(tensors, prefix + name, source=source) for name in _EXTRACTOR]


def _only_layer(tensors: Mapping[str, Tensor], name: str, *, source: str) -> Layer:
    """A head without hidden layers, as CnnPolicy has it by default."""
    layers = {key.rpartition(".")[0] for key in take_only(tensors, f"{name}.")}
    if layers != {"0"}:
        raise ValueError(
            f"{source} has {len(layers)} layers behind the extractor; read are networks with one "
            "(net_arch=[], the default of CnnPolicy)"
        )
    return take_layer(tensors, f"{name}.0", source=source)
