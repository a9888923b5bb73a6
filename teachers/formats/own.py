"""Experts of this project: GAME.safetensors with its card GAME.json beside it."""

import os
import struct
from dataclasses import asdict
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor

from games.spec import GameSpec
from teachers.bounded_reading import check_header
from teachers.expert import load_expert
from teachers.formats.bounded_files import MAX_ELEMENTS
from teachers.formats.imported import ImportedTeacher

# Fields of a card that `save_expert` fills in from the network.
_FILLED_IN = ("architecture", "sha256", "weights_precision")


def is_safetensors(data: bytes) -> bool:
    """Whether these bytes begin with the length of a header and a header."""
    if len(data) < 9:
        return False
    (length,) = struct.unpack("<Q", data[:8])
    return bool(1 < length <= len(data) - 8) and data[8:9] == b"{"


def has_card(path: Path) -> bool:
    """Whether a file has a card beside it."""
    return path.suffix == ".safetensors" and os.path.isfile(path.with_suffix(".json"))


def read_own(path: Path, spec: GameSpec) -> ImportedTeacher:
    """An expert of this project, with everything its card says."""
    expert = load_expert(path, spec.name)
    fields = {name: value for name, value in asdict(expert.card).items() if name not in _FILLED_IN}
    return ImportedTeacher(network=expert.network, card_fields=fields, format="own")


def load_tensors(data: bytes, *, source: str) -> dict[str, Tensor]:
    """Every tensor of a safetensors file; ValueError if it is damaged or larger than an expert."""
    check_header(data, source=source)
    try:
        tensors: dict[str, Tensor] = load_safetensors(data)
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise ValueError(f"{source} is not a whole safetensors file: {error}") from error
    if sum(tensor.numel() for tensor in tensors.values()) > MAX_ELEMENTS:
        raise ValueError(f"{source} has more than {MAX_ELEMENTS} elements; no expert has")
    return tensors
