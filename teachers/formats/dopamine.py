"""Dopamine's JAX checkpoints (ckpt.199): DQN, C51, Rainbow and quantile.

They are pickles, so they are read only if the user asks for it, and then with stand-ins for
everything (restricted_pickle.py). The convolutions have SAME padding, which makes 7744 inputs of
the dense layer. Rainbow here is Dopamine's: prioritized, n-step C51, without noise or dueling.

Networks: https://github.com/google/dopamine/blob/master/dopamine/jax/networks.py
Bundle: bundle_and_checkpoint in dopamine/jax/agents/dqn/dqn_agent.py
"""

from dataclasses import replace

import numpy as np

from games.spec import GameSpec
from teachers.card import Preprocessing
from teachers.formats.flax_layers import nature_layers, to_tensor
from teachers.formats.imported import Found
from teachers.formats.parts import Layer, NetworkParts, mean_over_quantiles
from teachers.formats.pickle_scan import PickleContents
from teachers.formats.restricted_pickle import load_restricted

_NUM_ATOMS = 51
# Value that Dopamine's C51 and Rainbow configurations have; the checkpoint does not say.
_V_MAX = 10.0
_NUM_QUANTILES = 200
_PREPROCESSING = Preprocessing(
    frames="gray, maximum of the last two, resize (area)",
    stack_start="zeros",
    fire_on_reset=False,
    life_loss_ends_episode=False,
    max_noops=0,
    repeat_action_probability=0.25,
)


def is_dopamine(contents: PickleContents) -> bool:
    """Whether a scanned pickle is a bundle of a JAX agent."""
    return {"online_params", "training_steps"} <= contents.strings


def read_dopamine(data: bytes, spec: GameSpec, *, source: str) -> Found:
    """A DQN, C51, Rainbow or quantile agent, of the whole file."""
    bundle = load_restricted(data, source=source)
    params = bundle.get("online_params") if isinstance(bundle, dict) else None
    # Before 2021 the variables were the parameters themselves.
    if isinstance(params, dict) and set(params) == {"params"}:
        params = params["params"]
    if isinstance(params, dict) and "Dense_2" in params:
        raise ValueError(
            f"{source} is an implicit quantile network: its Q-values are means over random draws, "
            "so it has no labels of its own; take the quantile agent or another one"
        )
    layers = nature_layers(params, source=source)
    if len(layers) != 5:
        raise ValueError(f"{source} has {len(layers) - 3} dense layers; 2 are read")
    algorithm, parts = _parts_of(layers, spec, source=source)
    assert isinstance(bundle, dict)
    support = f"Support assumed: Dopamine's {_NUM_ATOMS} atoms from {-_V_MAX} to {_V_MAX}."
    return Found(
        parts=parts,
        algorithm=algorithm,
        protocol="dopamine",
        origin="Dopamine (JAX)",
        trained_steps=bundle.get("training_steps"),
        preprocessing=_PREPROCESSING,
        notes=None if parts.atoms is None else support,
    )


def _parts_of(layers: list[Layer], spec: GameSpec, *, source: str) -> tuple[str, NetworkParts]:
    """Tell the agents apart by the outputs for each action: 1, 51 or 200."""
    *hidden, head = layers
    parts = NetworkParts(torso="nature_same", hidden=hidden, head=head)
    for num_actions in (spec.num_actions, len(spec.legal_actions)):
        if head.bias.numel() == num_actions * _NUM_ATOMS:
            atoms = to_tensor(np.linspace(-_V_MAX, _V_MAX, _NUM_ATOMS))
            return "C51 or Rainbow", replace(parts, atoms=atoms)
        if head.bias.numel() == num_actions * _NUM_QUANTILES:
            means = mean_over_quantiles(head, num_actions, order="NZ", source=source)
            return "quantile regression", replace(parts, head=means)
    return "DQN", parts
