"""Writes checkpoints in the layouts of other libraries, without the libraries.

What each one writes was taken from its source (see the readers in teachers/formats) and is checked
against the libraries themselves, where they install, by the tests with the marker `formats`.
"""

import base64
import gzip
import io
import json
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgpack
import numpy as np
import torch
from torch import Tensor

HIDDEN_SHAPES = ((32, 4, 8, 8), (64, 32, 4, 4), (64, 64, 3, 3), (512, 3136))
SAME_HIDDEN_SHAPES = (*HIDDEN_SHAPES[:3], (512, 7744))
ATOMS = torch.from_numpy(np.linspace(-10, 10, 51).astype(np.float32))

CANARY = base64.b64encode(b"cposix\nsystem\n(S'false'\ntR.").decode()
"""A base64 pickle that would run a command, where SB3 keeps its pickles."""

Layer = tuple[Tensor, Tensor]
"""Weight and bias as PyTorch has them."""


@dataclass(frozen=True, kw_only=True, eq=False)
class NatureLayers:
    """A Nature network's layers; VALID padding unless the dense layer has 7744 inputs."""

    hidden: tuple[Layer, ...]
    head: Layer
    critic: Layer | None = None

    def named(self, *names: str) -> dict[str, Tensor]:
        """A state_dict with these names for the hidden layers and the head."""
        return {
            f"{name}.{part}": tensor
            for name, layer in zip(names, (*self.hidden, self.head), strict=True)
            for part, tensor in zip(("weight", "bias"), layer, strict=True)
        }


def random_layers(num_outputs: int, *, seed: int = 0, same: bool = False) -> NatureLayers:
    """Weights large enough that outputs differ from state to state by more than rounding."""
    generator = torch.Generator().manual_seed(seed)

    def layer(*shape: int) -> Layer:
        fan_in = int(np.prod(shape[1:]))
        weight = torch.randn(shape, generator=generator) * (2 / fan_in) ** 0.5
        return weight, torch.randn(shape[0], generator=generator) * 0.1

    shapes = SAME_HIDDEN_SHAPES if same else HIDDEN_SHAPES
    return NatureLayers(
        hidden=tuple(layer(*shape) for shape in shapes),
        head=layer(num_outputs, 512),
        critic=layer(1, 512),
    )


# PyTorch


def write_cleanrl_dqn(path: Path, layers: NatureLayers) -> None:
    torch.save(layers.named(*(f"network.{index}" for index in (0, 2, 4, 7, 9))), path)


def write_cleanrl_c51(path: Path, layers: NatureLayers, atoms: Tensor = ATOMS) -> None:
    """c51_atari.py: weights, the atoms among them, and the arguments."""
    weights = {"atoms": atoms, **layers.named(*(f"network.{i}" for i in (0, 2, 4, 7, 9)))}
    args = {"exp_name": "c51_atari", "total_timesteps": 10_000_000, "n_atoms": len(atoms)}
    torch.save({"model_weights": OrderedDict(weights), "args": args}, path)


def write_atari_agents(path: Path, layers: NatureLayers, support: Tensor | None = None) -> None:
    """A gzip file of torch.save with the mangled names of AtariNet's private attributes."""
    names = ("features.0", "features.2", "features.4", "head.0", "head.2")
    state = layers.named(*(f"_AtariNet__{name}" for name in names))
    if support is not None:
        state = {"_AtariNet__support": support, **state}
    buffer = io.BytesIO()
    torch.save({"estimator_state": OrderedDict(state), "step": 50_000_000}, buffer)
    path.write_bytes(gzip.compress(buffer.getvalue(), compresslevel=1))


def pfrl_state(layers: NatureLayers) -> dict[str, Tensor]:
    """Sequential(LargeAtariCNN, Linear, DiscreteActionValueHead)."""
    return layers.named("0.layers.0", "0.layers.1", "0.layers.2", "0.output", "1")


def write_pfrl(path: Path, layers: NatureLayers, *, is_legacy: bool = True) -> None:
    """The published zip files: a folder with model.pt, most of them in torch's format of 2020."""
    members = {}
    for name in ("model", "target_model"):
        buffer = io.BytesIO()
        torch.save(pfrl_state(layers), buffer, _use_new_zipfile_serialization=not is_legacy)
        members[f"best/{name}.pt"] = buffer.getvalue()
    write_zip(path, members)


def write_sb3_of_2021(path: Path, layers: NatureLayers, *, kind: str) -> None:
    """A zip of Stable-Baselines3 1.0: one features extractor, old names and types in `data`.

    Args:
        path: what to write.
        layers: quantile heads have 200 outputs for each action, by quantile first.
        kind: "dqn", "qrdqn" or "ppo".
    """
    cnn = tuple(f"features_extractor.{n}" for n in ("cnn.0", "cnn.2", "cnn.4", "linear.0"))
    settings: dict[str, object] = {"num_timesteps": 10_000_000, "n_envs": 1}
    if kind == "ppo":
        assert layers.critic is not None
        state = layers.named(*cnn, "action_net")
        state |= dict(zip(("value_net.weight", "value_net.bias"), layers.critic, strict=True))
        settings["clip_range"] = {":type:": "<class 'function'>", ":serialized:": CANARY}
    else:
        net = {"dqn": "q_net", "qrdqn": "quantile_net"}[kind]
        state = {}
        for prefix in (net, f"{net}_target"):
            state |= layers.named(*(f"{prefix}.{name}" for name in (*cnn, f"{net}.0")))
    if kind == "qrdqn":
        settings["n_quantiles"] = 200
    spaces = {
        "observation_space": {
            ":type:": "<class 'gym.spaces.box.Box'>",
            ":serialized:": CANARY,
            "shape": [4, 84, 84],
        },
        "action_space": {
            ":type:": "<class 'gym.spaces.discrete.Discrete'>",
            ":serialized:": CANARY,
            "n": 6,
        },
    }
    buffer = io.BytesIO()
    torch.save(OrderedDict(state), buffer)
    write_zip(
        path,
        {
            "data": json.dumps({**settings, **spaces, "policy_kwargs": {}}).encode(),
            "pytorch_variables.pth": b"",
            "policy.pth": buffer.getvalue(),
            "policy.optimizer.pth": b"not read",
            "_stable_baselines3_version": b"1.0",
        },
    )


def write_zip(path: Path, members: Mapping[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


# JAX


def flax_params(layers: NatureLayers) -> dict[str, dict[str, np.ndarray]]:
    """Kernels as flax has them: [height, width, in, out], the dense one after flattening NHWC."""
    names = ("Conv_0", "Conv_1", "Conv_2", "Dense_0", "Dense_1")
    return {
        name: flax_layer(layer, channels=64 if name == "Dense_0" else None)
        for name, layer in zip(names, (*layers.hidden, layers.head), strict=True)
    }


def flax_layer(layer: Layer, *, channels: int | None = None) -> dict[str, np.ndarray]:
    """One layer; `channels` if its inputs are maps of that many."""
    weight = layer[0].numpy()
    if channels is not None:
        side = round((weight.shape[1] / channels) ** 0.5)
        maps = weight.reshape(-1, channels, side, side)
        weight = maps.transpose(0, 2, 3, 1).reshape(weight.shape)
    kernel = weight.transpose(2, 3, 1, 0) if weight.ndim == 4 else weight.T
    return {"kernel": np.ascontiguousarray(kernel), "bias": layer[1].numpy()}


def write_cleanrl_jax_dqn(path: Path, layers: NatureLayers) -> None:
    path.write_bytes(to_msgpack({"params": flax_params(layers)}))


def write_cleanrl_jax_c51(path: Path, layers: NatureLayers) -> None:
    """c51_atari_jax.py: the variables and the arguments, which the atoms follow from."""
    args = {"exp_name": "c51_atari_jax", "total_timesteps": 10_000_000}
    args |= {"n_atoms": 51, "v_min": -10.0, "v_max": 10.0, "capture_video": False}
    content = {"model_weights": {"params": flax_params(layers)}, "args": args}
    path.write_bytes(to_msgpack(content))


def write_cleanrl_jax_ppo(path: Path, layers: NatureLayers) -> None:
    """ppo_atari_envpool_xla_jax_scan.py: [args, [network, actor, critic]]."""
    assert layers.critic is not None
    network = flax_params(layers)
    del network["Dense_1"]
    heads = ({"Dense_0": flax_layer(layer)} for layer in (layers.head, layers.critic))
    parts = [{"params": part} for part in (network, *heads)]
    args = {"exp_name": "ppo_atari_envpool_xla_jax_scan", "total_timesteps": 10_000_000}
    # flax.serialization turns lists into dictionaries of their positions.
    content = {"0": args, "1": {str(index): part for index, part in enumerate(parts)}}
    path.write_bytes(to_msgpack(content))


def to_msgpack(tree: object) -> bytes:
    def encode(value: object) -> object:
        if isinstance(value, np.ndarray):
            content = (value.shape, value.dtype.name, value.tobytes("C"))
            return msgpack.ExtType(1, msgpack.packb(content, use_bin_type=True))
        raise TypeError(type(value))

    return msgpack.packb(tree, default=encode, strict_types=True)


def write_dopamine(path: Path, layers: NatureLayers, *, protocol: int = 4) -> None:
    """A bundle of a JAX agent, with plain dictionaries for flax's frozen ones."""
    params = {"params": flax_params(layers)}
    bundle = {
        "state": np.zeros((84, 84, 4), np.uint8),
        "training_steps": 50_000_000,
        "online_params": params,
        "target_params": params,
        "optimizer_state": (),
        "logs": OrderedDict(iteration_0=[np.float64(1.5), np.float32(2)]),
        "current_iteration": 199,
    }
    path.write_bytes(pickle.dumps(bundle, protocol=protocol))
