"""CleanRL's JAX scripts: dqn_atari_jax, c51_atari_jax and ppo_atari_envpool_xla_jax_scan.

Their `*.cleanrl_model` are flax msgpack: the parameters alone (DQN), {"model_weights", "args"}
(C51), or [args, [network, actor, critic]] (PPO), where flax writes lists as {"0": ..., "1": ...}.
All three networks have VALID padding.

Networks: https://github.com/vwxyzjn/cleanrl/tree/master/cleanrl
"""

import numpy as np

from games.spec import GameSpec
from teachers.card import MAX_ATOMS
from teachers.formats.cleanrl import describe_cleanrl
from teachers.formats.flax_layers import dense_layer, nature_layers, to_tensor
from teachers.formats.imported import POLICY_NOTE, ImportedTeacher
from teachers.formats.parts import NetworkParts, build_teacher


def is_cleanrl_jax(content: object) -> bool:
    """Whether decoded msgpack is laid out like one of the three."""
    return isinstance(content, dict) and (
        set(content) in ({"params"}, {"model_weights", "args"}, {"0", "1"})
    )


def read_cleanrl_jax(content: object, spec: GameSpec, *, source: str) -> ImportedTeacher:
    """A DQN, C51 or PPO.

    Args:
        content: decoded msgpack.
        spec: the game.
        source: file name for messages.

    Raises:
        ValueError: another network, or one that does not fit the game.
    """
    if not is_cleanrl_jax(content) or not isinstance(content, dict):
        raise ValueError(
            f"{source} is msgpack, but holds neither 'params' (DQN), nor 'model_weights' and "
            "'args' (C51), nor arguments and three networks (PPO) at its top"
        )
    settings: object = {}
    stack_start = "first_frame"
    if "params" in content:
        algorithm, parts = "DQN", _value_parts(content, None, source=source)
    elif "model_weights" in content:
        settings = content["args"]
        algorithm, parts = "C51", _value_parts(content["model_weights"], settings, source=source)
    else:
        settings = content["0"]
        algorithm, parts = "PPO", _policy_parts(content["1"], source=source)
        stack_start = "zeros"
    return ImportedTeacher(
        network=build_teacher(parts, spec, source=source),
        card_fields=describe_cleanrl(
            spec,
            algorithm=algorithm,
            settings=settings,
            source_format="cleanrl_jax",
            stack_start=stack_start,
            notes=None if parts.critic is None else POLICY_NOTE,
        ),
        format="cleanrl_jax",
    )


def _value_parts(variables: object, settings: object, *, source: str) -> NetworkParts:
    layers = nature_layers(_params(variables, source=source), source=source)
    atoms = None
    if settings is not None:
        values = _atoms_of(settings, source=source)
        atoms = to_tensor(values)
    return NetworkParts(torso="nature_valid", hidden=layers[:-1], head=layers[-1], atoms=atoms)


def _atoms_of(
    settings: object, *, source: str
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
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
    return np.linspace(low, high, num)


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
