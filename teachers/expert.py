"""Experts: a frozen network with its game and its card; loading and saving them.

Weights are safetensors, so reading them runs no code: in half precision, or in full if they come
from another library (teachers/formats). Loading checks the file
against its card and the card against the game, because a teacher that is subtly wrong spoils a
training run without any error.

Shape suffixes:
    B  observations in the batch
    C, H, W  channels, height and width of one observation
    F  features of the expert
    A  joint action set
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, is_dataclass, replace
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors
from torch import Tensor, nn

from games.registry import get_game
from games.spec import GameSpec
from networks.atomic_file import write_atomically
from networks.network import MultitaskNetwork
from networks.snapshots import copy_arrays, take_snapshot
from networks.teacher_network import (
    CategoricalNetwork,
    TeacherNetwork,
    build_teacher_network,
)
from networks.weights import WeightsVersion
from teachers import shipped
from teachers.bounded_reading import MAX_FILE_BYTES, check_header, read_at_most
from teachers.card import (
    CARD_FORMAT,
    Architecture,
    HeadKind,
    TeacherCard,
    dump_card,
    load_card,
    parse_card,
)
from teachers.shipped import WEIGHTS_SUFFIX


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """What an expert says about a batch of states; float32, without gradient."""

    # Q minus its maximum over legal actions: 0 for the greedy action, below it for other legal
    # ones, exactly 0 for illegal ones (mask them). softmax(logits / tau) is the softened policy.
    # Of a policy teacher: log-probabilities minus their maximum, so that tau 1 gives its policy.
    logits_BA: Tensor
    # The expert's last hidden layer after its ReLU.
    features_BF: Tensor
    # What the expert expects to collect from here: the largest legal Q-value, or what a policy
    # teacher's critic says.
    values_B: Tensor


class Expert(nn.Module):
    """A frozen network that plays and labels one game; acts like any network."""

    legal_A: Tensor

    def __init__(self, spec: GameSpec, card: TeacherCard, network: TeacherNetwork) -> None:
        """Freeze `network` and take it over."""
        super().__init__()
        _check_fits(card, spec, source=f"the card of {card.game!r}")
        # What the outputs mean, values or logits, no network tells by itself.
        if replace(architecture_of(network), head=card.architecture.head) != card.architecture:
            raise ValueError(
                f"the network of {card.game!r} is {architecture_of(network)}, "
                f"its card says {card.architecture}"
            )
        self.spec = spec
        self.card = card
        self.network = network.eval().requires_grad_(False)
        self.num_features = network.num_features
        # A buffer follows .to(device); not persistent, because it is the game's, not a weight.
        self.register_buffer("legal_A", torch.from_numpy(spec.legal_mask()), persistent=False)

    def forward(self, observations_BCHW: Tensor) -> Tensor:
        """What `q_values` gives, so that an expert can be called like any network."""
        return self.q_values(observations_BCHW)

    def q_values(self, observations_BCHW: Tensor) -> Tensor:
        """q_BA, float32, from uint8 observations; illegal actions have meaningless values.

        A policy teacher has no Q-values and gives its logits instead.
        """
        with torch.inference_mode():
            q_BA: Tensor = self.network(observations_BCHW)
        return q_BA.clone()

    def label(self, observations_BCHW: Tensor) -> Labels:
        """Judge every action of every state."""
        with torch.inference_mode():
            q_BA, features_BF = self.network.forward_with_features(observations_BCHW)
            best_B = q_BA.masked_fill(~self.legal_A, -torch.inf).amax(1)
            # For logits too: they differ from log-probabilities by a constant, which goes here.
            logits_BA = (q_BA - best_B.unsqueeze(1)).masked_fill(~self.legal_A, 0.0)
            values_B = best_B
            if isinstance(self.network, MultitaskNetwork) and self.network.critic is not None:
                values_B = self.network.values(features_BF)
        # Clones made outside are ordinary tensors; autograd refuses to save those made inside,
        # and a loss on labels would fail in its backward pass.
        return Labels(logits_BA.clone(), features_BF.clone(), values_B.clone())


def architecture_of(network: TeacherNetwork) -> Architecture:
    """What a card has to say about this network."""
    return Architecture(
        torso=network.torso_name,
        dueling=isinstance(network, MultitaskNetwork) and network.dueling,
        num_actions=network.num_actions,
        observation_shape=network.observation_shape,
        num_features=network.num_features,
        head=_head_kind(network),
        num_atoms=network.num_atoms if isinstance(network, CategoricalNetwork) else None,
    )


def _head_kind(network: TeacherNetwork) -> HeadKind:
    if isinstance(network, CategoricalNetwork):
        return "categorical"
    return "q" if network.critic is None else "policy"


def load_expert(reference: str | Path, game: str | None = None) -> Expert:
    """Load an expert in float32 on the CPU.

    Args:
        reference: path to GAME.safetensors with its card GAME.json beside it, or the name of a
            game whose expert is shipped. A string is a path if it ends in .safetensors or has a
            path separator in it.
        game: the game it is needed for, if that is known already.

    Raises:
        ValueError: weights or card are missing; the weights are damaged, of another architecture
            or not finite; the card is wrong, or for another game or action set.
    """
    weights = _find_weights(reference)
    card_file = _card_beside(weights)
    card = load_card(card_file)
    wanted = game if game is not None or _is_path(reference) else str(reference)
    if wanted is not None and card.game != wanted:
        raise ValueError(f"{card_file}: the expert is for {card.game!r}, not for {wanted!r}")
    spec = get_game(card.game)
    _check_fits(card, spec, source=str(card_file))
    network = _build_network(card.architecture, source=str(card_file))
    arrays = _read_weights(weights, card.sha256)
    try:
        copy_arrays(network, arrays)
    except ValueError as error:
        raise ValueError(f"{weights}: {error}") from error
    return Expert(spec, card, network)


def save_expert(
    network: TeacherNetwork,
    card_fields: Mapping[str, object],
    path: str | Path,
    *,
    half: bool = True,
) -> TeacherCard:
    """Write GAME.safetensors and its card GAME.json beside it.

    A network with quantiles is written as the ordinary network that gives their means: a teacher is
    asked for no more. Each file is replaced in one step, the weights first. Should the program die
    in between, the old card does not match the new weights and loading says so.

    Args:
        network: on any device; it is not changed.
        card_fields: the card's JSON fields without "format", "architecture", "weights_precision"
            and "sha256", which are filled in here. Scores and preprocessing may be dataclasses.
        path: ends in .safetensors; its folder is made if needed.
        half: write float16; float32 keeps the outputs of a teacher from another library.

    Raises:
        ValueError: a wrong suffix or card field, a network that does not fit the game, or weights
            that are not finite in the precision they are written in.
    """
    path = Path(path)
    if path.suffix != WEIGHTS_SUFFIX:
        raise ValueError(f"experts are saved as GAME{WEIGHTS_SUFFIX}, not as {path.name!r}")
    if isinstance(network, MultitaskNetwork) and network.num_quantiles:
        network = network.without_quantiles()
    snapshot = take_snapshot(network, WeightsVersion(0, 0), half=half)
    data: bytes = save_safetensors(snapshot.arrays)
    filled = {
        "format": CARD_FORMAT,
        "architecture": asdict(architecture_of(network)),
        "weights_precision": "half" if half else "full",
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    if doubled := sorted(filled.keys() & card_fields.keys()):
        raise ValueError(f"card_fields holds {doubled[0]!r}, which is filled in from the network")
    card = parse_card({**_plain(card_fields), **filled}, source=f"card fields for {path.name}")
    _check_fits(card, get_game(card.game), source=f"card fields for {path.name}")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, data)
    dump_card(card, path.with_suffix(".json"))
    return card


def _plain(card_fields: Mapping[str, object]) -> dict[str, object]:
    """Card fields with dataclasses turned into JSON objects."""
    plain = {name: _as_json(value) for name, value in card_fields.items()}
    scores = plain.get("scores")
    if isinstance(scores, list | tuple):
        plain["scores"] = [_as_json(item) for item in scores]
    return plain


def _as_json(value: object) -> object:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


def _check_fits(card: TeacherCard, spec: GameSpec, *, source: str) -> None:
    """Raise ValueError unless the card describes a network for this very game."""
    if card.game != spec.name:
        raise ValueError(f"{source}: the expert is for {card.game!r}, not for {spec.name!r}")
    architecture = card.architecture
    if architecture.num_actions != spec.num_actions:
        raise ValueError(
            f"{source}: field 'architecture.num_actions' is {architecture.num_actions}, but "
            f"{spec.name!r} has {spec.num_actions} joint actions"
        )
    if architecture.observation_shape != spec.observation_shape:
        raise ValueError(
            f"{source}: field 'architecture.observation_shape' is "
            f"{list(architecture.observation_shape)}, but {spec.name!r} has "
            f"{list(spec.observation_shape)}"
        )


def _build_network(architecture: Architecture, *, source: str) -> TeacherNetwork:
    try:
        network = build_teacher_network(
            torso=architecture.torso,
            observation_shape=architecture.observation_shape,
            num_actions=architecture.num_actions,
            num_atoms=architecture.num_atoms,
            dueling=architecture.dueling,
            has_critic=architecture.head == "policy",
        )
    except ValueError as error:
        raise ValueError(f"{source}: field 'architecture': {error}") from error
    if network.num_features != architecture.num_features:
        raise ValueError(
            f"{source}: field 'architecture.num_features' is {architecture.num_features}, but "
            f"torso {architecture.torso!r} has {network.num_features}"
        )
    return network


def _read_weights(weights: Traversable, sha256: str) -> dict[str, NDArray[Any]]:
    data = read_at_most(weights, MAX_FILE_BYTES)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ValueError(
            f"{weights} is damaged or is not the file its card describes: its SHA-256 is not the "
            "card's; fetch both files again"
        )
    check_header(data, source=str(weights))
    try:
        arrays: dict[str, NDArray[Any]] = load_safetensors(data)
    except (SafetensorError, KeyError) as error:
        raise ValueError(f"{weights} is not a whole safetensors file: {error}") from error
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ValueError(f"{weights}: weights {name!r} are not finite; train this expert again")
    return arrays


def _find_weights(reference: str | Path) -> Traversable:
    if _is_path(reference):
        path = Path(reference)
        if path.suffix != WEIGHTS_SUFFIX:
            raise ValueError(f"{path} is not an expert; name its GAME{WEIGHTS_SUFFIX} file")
        # Not Path.is_file: it raises for a name that is too long.
        if not os.path.isfile(path):
            raise ValueError(f"expert {path} is missing")
        return path
    if reference not in shipped.shipped_experts():
        raise ValueError(
            f"no expert for {reference!r} is shipped (shipped: "
            f"{', '.join(shipped.shipped_experts()) or 'none'}); give the path of a "
            f"GAME{WEIGHTS_SUFFIX} file"
        )
    return shipped.shipped_folder().joinpath(f"{reference}{WEIGHTS_SUFFIX}")


def _is_path(reference: str | Path) -> bool:
    if isinstance(reference, Path):
        return True
    separators = {os.sep, os.altsep or os.sep}
    return reference.endswith(WEIGHTS_SUFFIX) or not separators.isdisjoint(reference)


def _card_beside(weights: Traversable) -> Traversable:
    name = weights.name.removesuffix(WEIGHTS_SUFFIX) + ".json"
    if isinstance(weights, Path):
        return weights.with_name(name)
    return shipped.shipped_folder().joinpath(name)
