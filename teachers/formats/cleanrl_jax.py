"""CleanRL's JAX scripts: dqn_atari_jax, c51_atari_jax and ppo_atari_envpool_xla_jax_scan.

Their `*.cleanrl_model` are flax msgpack: the parameters alone (DQN), {"model_weights", "args"}
(C51), or [args, [network, actor, critic]] (PPO), where flax writes lists as {"0": ..., "1": ...}.
All three networks have VALID padding.

Networks: https://github.com/vwxyzjn/cleanrl/tree/master/cleanrl
"""

import numpy as np
from torch import Tensor

from games.spec import GameSpec
from teachers.card import MAX_ATOMS
from teachers.formats.cleanrl import of_cleanrl
from teachers.formats.flax_layers import dense_layer, nature_layers, to_tensor
from teachers.formats.imported import Found
from teachers.formats.parts import NetworkParts


def is_cleanrl_jax(content: object) -> bool:
    """Whether decoded msgpack is laid out like one of the three."""
    return isinstance(content, dict) and (
        set(content) in ({"params"}, {"model_weights", "args"}, {"0", "1"})
    )


def read_cleanrl_jax(content: object, spec: GameSpec, *, source: str) -> Found:
    """A DQN, C51 or PPO, of decoded msgpack."""
    if not is_cleanrl_jax(content) or not isinstance(content, dict):
        raise ValueError(
            f"{source} is msgpack, but holds neither 'params' (DQN), nor 'model_weights' and "
            "'args' (C51), nor arguments and three networks (PPO) at its top"
        )
    if "params" in content:
        parts = _value_parts(content, source=source)
        return of_cleanrl(parts, algorithm="DQN", settings={})
    if "model_weights" in content:
        settings = content["args"]
        atoms = _atoms_of(settings, source=source)
        parts = _value_parts(content["model_weights"], atoms, source=source)
        return of_cleanrl(parts, algorithm="C51", settings=settings)
    parts = _policy_parts(content["1"], source=source)
    return of_cleanrl(parts, algorithm="PPO", settings=content["0"], stack_start="zeros")


def _value_parts(variables: object, atoms: Tensor | None = None, *, source: str) -> NetworkParts:
    layers = nature_layers(_params(variables, source=source), source=source)
    return NetworkParts(torso="nature_valid", hidden=layers[:-1], head=layers[-1], atoms=atoms)


def _atoms_of(settings: object, *, source: str) -> Tensor:
    """Returns that the atoms stand for, as the script makes them from its arguments."""
    known = settings if isinstance(settings, dict) else {}
    num, low, high = (known.get(name) for name in ("n_atoms", "v_min", "v_max"))
    if (
        not isinstance(num, int)
        or not 2 <= num <= MAX_ATOMS
        or not isinstance(low, int | float)
        or not isinstance(high, int | float)
    ):
        raise ValueError(f"{source}: its 'args' do not say n_atoms, v_min and v_max")
    return to_tensor(np.linspace(low, high, num))


def _policy_parts(networks: object, *, source: str) -> NetworkParts:
    if not isinstance(networks, dict) or set(networks) != {"0", "1", "2"}:
        raise ValueError(f"{source} does not hold a network, an actor and a critic")
    network, actor, critic = (_params(networks[key], source=source) for key in "012")
    return NetworkParts(
        torso="nature_valid",
        hidden=nature_layers(network, source=source),
        head=dense_layer(actor, source=source),
        critic=dense_layer(critic, source=source),
    )


def _params(variables: object, *, source: str) -> object:
    if not isinstance(variables, dict) or set(variables) != {"params"}:
        raise ValueError(f"{source}: a network without its 'params'")
    return variables["params"]
