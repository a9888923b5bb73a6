"""Models made and saved by the libraries themselves, or by their published flax definitions.

Needs the extra `formats`. Every function takes layers in PyTorch's layout, puts them into the
library's model, has the library save it, and returns what the library computes from observations.

flax definitions: vwxyzjn/cleanrl (dqn_atari_jax.py, c51_atari_jax.py,
ppo_atari_envpool_xla_jax_scan.py) and google/dopamine (dopamine/jax/networks.py).
"""

import pickle
from collections.abc import Callable
from pathlib import Path

import flax.linen as fnn
import flax.serialization
import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pfrl
import torch
from flax.core import FrozenDict, freeze
from foreign_layouts import ATOMS, NatureLayers, flax_layer, flax_params, write_zip
from sb3_contrib import QRDQN
from stable_baselines3 import A2C, DQN, PPO
from torch import Tensor, nn

Judge = Callable[[Tensor], Tensor]
"""From uint8 observations to Q-values or logits."""


class _Frames(gymnasium.Env):
    """Spaces of an Atari game; nobody plays it."""

    observation_space = gymnasium.spaces.Box(0, 255, (4, 84, 84), np.uint8)

    def __init__(self, num_actions: int) -> None:
        self.action_space = gymnasium.spaces.Discrete(num_actions)


_EXTRACTOR = ("cnn.0", "cnn.2", "cnn.4", "linear.0")
_ALGORITHMS = {"dqn": DQN, "qrdqn": QRDQN, "ppo": PPO, "a2c": A2C}


def save_sb3(
    path: Path, layers: NatureLayers, kind: str, num_actions: int, **policy_kwargs: object
) -> tuple[Judge, Judge]:
    """Save a Stable-Baselines3 model.

    Returns:
        Q-values or logits, and the action that `predict` chooses.
    """
    buffer = {"buffer_size": 1} if "dqn" in kind else {}
    model = _ALGORITHMS[kind](
        "CnnPolicy", _Frames(num_actions), device="cpu", policy_kwargs=dict(policy_kwargs), **buffer
    )
    model.num_timesteps = 4321
    if not policy_kwargs:
        _fill(model.policy.state_dict(), layers, kind)
    model.save(path)

    def judge(observations: Tensor) -> Tensor:
        if kind == "dqn":
            return model.q_net(observations)
        if kind == "qrdqn":
            return model.quantile_net(observations).mean(1)
        return model.policy.get_distribution(observations).distribution.logits

    def act(observations: Tensor) -> Tensor:
        return torch.from_numpy(model.predict(observations.numpy(), deterministic=True)[0])

    return judge, act


def sb3_values(path: Path, observations: Tensor) -> Tensor:
    with torch.no_grad():
        return PPO.load(path, device="cpu").policy.predict_values(observations).squeeze(1)


def _fill(state: dict[str, Tensor], layers: NatureLayers, kind: str) -> None:
    heads = {"q_net.0": layers.head, "quantile_net.0": layers.head, "action_net": layers.head}
    if layers.critic is not None:
        heads["value_net"] = layers.critic
    targets = dict(zip(_EXTRACTOR, layers.hidden, strict=True)) | heads
    for name, tensor in state.items():
        stem, _, part = name.rpartition(".")
        layer = next(layer for end, layer in targets.items() if stem.endswith(end))
        tensor.copy_(layer[part == "bias"])


def save_pfrl(path: Path, layers: NatureLayers, num_actions: int, folder: Path) -> Judge:
    """Save a DQN agent of PFRL in its folder, and the folder as a zip."""
    model = nn.Sequential(
        pfrl.nn.LargeAtariCNN(),
        nn.Linear(512, num_actions),
        pfrl.q_functions.DiscreteActionValueHead(),
    )
    targets = model.state_dict().values()
    flat = [tensor for layer in (*layers.hidden, layers.head) for tensor in layer]
    for target, tensor in zip(targets, flat, strict=True):
        target.copy_(tensor)
    agent = pfrl.agents.DQN(
        model,
        torch.optim.Adam(model.parameters()),
        pfrl.replay_buffers.ReplayBuffer(10),
        gamma=0.99,
        replay_start_size=1,
        minibatch_size=1,
        explorer=pfrl.explorers.Greedy(),
        phi=lambda frames: np.asarray(frames, dtype=np.float32) / 255,
    )
    agent.save(str(folder))
    write_zip(path, {f"best/{file.name}": file.read_bytes() for file in folder.iterdir()})
    return lambda observations: model(observations.float() / 255).q_values


class _CleanrlTorso(fnn.Module):
    @fnn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = jnp.transpose(x, (0, 2, 3, 1))
        x = x / (255.0)
        for features, size, stride in ((32, 8, 4), (64, 4, 2), (64, 3, 1)):
            x = fnn.Conv(
                features, kernel_size=(size, size), strides=(stride, stride), padding="VALID"
            )(x)
            x = fnn.relu(x)
        x = x.reshape((x.shape[0], -1))
        return fnn.relu(fnn.Dense(512)(x))


class _CleanrlQNetwork(fnn.Module):
    num_outputs: int

    @fnn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = jnp.transpose(x, (0, 2, 3, 1))
        x = x / (255.0)
        for features, size, stride in ((32, 8, 4), (64, 4, 2), (64, 3, 1)):
            x = fnn.Conv(
                features, kernel_size=(size, size), strides=(stride, stride), padding="VALID"
            )(x)
            x = fnn.relu(x)
        x = x.reshape((x.shape[0], -1))
        x = fnn.relu(fnn.Dense(512)(x))
        return fnn.Dense(self.num_outputs)(x)


class _Head(fnn.Module):
    num_outputs: int

    @fnn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return fnn.Dense(self.num_outputs)(x)


class _DopamineNetwork(fnn.Module):
    """One state [84, 84, 4] at a time, default padding, as Dopamine's agents call it."""

    num_outputs: int

    @fnn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = x.astype(jnp.float32) / 255.0
        for features, size, stride in ((32, 8, 4), (64, 4, 2), (64, 3, 1)):
            x = fnn.relu(fnn.Conv(features, kernel_size=(size, size), strides=(stride, stride))(x))
        x = x.reshape(-1)
        x = fnn.relu(fnn.Dense(features=512)(x))
        return fnn.Dense(features=self.num_outputs)(x)


def save_cleanrl_jax(path: Path, layers: NatureLayers, kind: str) -> Judge:
    """Save as the script of that kind ("dqn", "c51" or "ppo") does."""
    num_outputs = layers.head[1].numel()
    params = {"params": flax_params(layers)}
    args = {"exp_name": "test", "total_timesteps": 4321, "n_atoms": 51, "v_min": -10, "v_max": 10}
    if kind == "ppo":
        return _save_ppo(path, layers, args)
    content = params if kind == "dqn" else {"model_weights": params, "args": args}
    _check_names(_CleanrlQNetwork(num_outputs), jnp.zeros((1, 4, 84, 84)), params)
    path.write_bytes(flax.serialization.to_bytes(content))

    def judge(observations: Tensor) -> Tensor:
        outputs = _CleanrlQNetwork(num_outputs).apply(params, observations.numpy())
        if kind == "dqn":
            return _to_torch(outputs)
        pmfs = fnn.softmax(outputs.reshape((len(outputs), -1, 51)), axis=-1)
        return _to_torch((pmfs * jnp.asarray(np.linspace(-10, 10, num=51))).sum(axis=-1))

    return judge


def _save_ppo(path: Path, layers: NatureLayers, args: dict[str, object]) -> Judge:
    assert layers.critic is not None
    params = flax_params(layers)
    params.pop("Dense_1")
    network = {"params": params}
    actor = {"params": {"Dense_0": flax_layer(layers.head)}}
    critic = {"params": {"Dense_0": flax_layer(layers.critic)}}
    _check_names(_CleanrlTorso(), jnp.zeros((1, 4, 84, 84)), network)
    path.write_bytes(flax.serialization.to_bytes([args, [network, actor, critic]]))

    def judge(observations: Tensor) -> Tensor:
        hidden = _CleanrlTorso().apply(network, observations.numpy())
        return _to_torch(_Head(layers.head[1].numel()).apply(actor, hidden))

    return judge


def save_dopamine(path: Path, layers: NatureLayers, kind: str, *, protocol: int) -> Judge:
    """Pickle a bundle with frozen dictionaries, JAX arrays and an optimizer's state in it."""
    num_outputs = layers.head[1].numel()
    arrays = jax.tree_util.tree_map(jnp.asarray, flax_params(layers))
    params = freeze({"params": arrays})
    assert isinstance(params, FrozenDict)
    network = _DopamineNetwork(num_outputs)
    _check_names(network, jnp.zeros((84, 84, 4)), params)
    bundle = {
        "state": np.zeros((84, 84, 4), np.uint8),
        "training_steps": 4321,
        "online_params": params,
        "optimizer_state": optax.adam(1e-4).init(params),
        "target_params": params,
        "current_iteration": 199,
        "logs": {"iteration_0": {"train_average_return": [np.float64(-20.5)]}},
    }
    path.write_bytes(pickle.dumps(bundle, protocol=protocol))

    def judge(observations: Tensor) -> Tensor:
        states = observations.numpy().transpose(0, 2, 3, 1)
        outputs = jax.vmap(lambda state: network.apply(params, state))(states)
        if kind == "dqn":
            return _to_torch(outputs)
        logits = outputs.reshape((len(outputs), -1, {"c51": 51, "quantile": 200}[kind]))
        if kind == "quantile":
            return _to_torch(jnp.mean(logits, axis=2))
        return _to_torch(jnp.sum(jnp.asarray(ATOMS.numpy()) * fnn.softmax(logits), axis=2))

    return judge


def _check_names(network: fnn.Module, example: jax.Array, params: object) -> None:
    """The library's own initialisation has the names and shapes that are written."""
    theirs = jax.eval_shape(network.init, jax.random.PRNGKey(0), example)
    shapes = jax.tree_util.tree_map(jnp.shape, flax.serialization.to_state_dict(params))
    assert jax.tree_util.tree_map(lambda leaf: leaf.shape, dict(theirs)) == shapes


def _to_torch(array: jax.Array) -> Tensor:
    return torch.from_numpy(np.array(array))
