"""Turns a checkpoint of another library into GAME.safetensors and its card."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import nn

from games.registry import get_game
from teachers.card import TeacherCard
from teachers.expert import save_expert
from teachers.formats import read_checkpoint
from teachers.hub import fetch, is_hub_reference, pin


def import_teacher(
    file: str,
    *,
    game: str,
    format: str | None,
    folder: Path,
    overwrite: bool = False,
    unsafe_pickle: bool = False,
    origin: str = "",
) -> str:
    """Read a file, or an address on the Hub, and write the teacher; returns one line about it.

    Nothing is written if anything is wrong. Without `format` it is found out; `origin` is where a
    file is from if its name does not say it.
    """
    get_game(game)
    weights = folder / f"{game}.safetensors"
    card_file = weights.with_suffix(".json")
    # Not Path.exists: it raises for a name that is too long.
    taken = [path for path in (weights, card_file) if os.path.exists(path)]
    if taken and not overwrite:
        raise ValueError(f"{taken[0]} is there already; choose another --out, or give --overwrite")
    path = Path(file)
    if is_hub_reference(file):
        origin = pin(file, game=game)
        path = fetch(origin, game=game)
    teacher = read_checkpoint(path, game=game, format=format, unsafe_pickle=unsafe_pickle)
    fields = dict(teacher.card_fields)
    is_own = teacher.format == "own"
    if not is_own:
        # A name may hold what no card may: control characters, bytes that are no text.
        name = path.name if path.name.isprintable() else ascii(path.name)
        fields["origin"] = f"{fields.get('origin', 'unknown origin')}, {origin or name}"
    try:
        # What comes from another library keeps every digit; an expert of ours has none to lose.
        half = is_own and _is_half(teacher.network)
        card = save_expert(teacher.network, fields, weights, half=half)
    except OSError as error:
        raise ValueError(f"cannot write {weights}: {error.strerror}") from None
    return f"{weights}: {_describe(card, teacher.format)}"


def _is_half(network: nn.Module) -> bool:
    """Whether the weights are whole in float16."""
    return all(torch.equal(w, w.half().float()) for w in network.state_dict().values())


def _describe(card: TeacherCard, format: str) -> str:
    architecture = card.architecture
    head = "dueling" if architecture.dueling else architecture.head
    steps = "unknown steps" if card.trained_steps is None else f"{card.trained_steps:,} steps"
    return (
        f"{card.algorithm} for {card.game} from format {format}, {architecture.torso} with "
        f"{head} head, {steps}, protocol {card.protocol}"
    )
