"""How a checkpoint that cannot be read is refused, and what to make one from."""

import io
from pathlib import Path

import pytest
import torch
from foreign_layouts import random_layers

from teachers.formats import read_checkpoint

NUM_ACTIONS = 6
"""Of Pong."""


def refused(path: Path) -> str:
    """The one line with which a file is refused, whatever the user allows."""
    with pytest.raises(ValueError, match=r"\S") as first:
        read_checkpoint(path, game="pong", unsafe_pickle=True)
    with pytest.raises(ValueError, match=r"\S"):
        read_checkpoint(path, game="pong")
    said = str(first.value)
    assert path.name in said
    assert said.isprintable()
    assert len(said) < 1000
    return said


def torch_bytes(content: object, *, is_legacy: bool = False) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=not is_legacy)
    return buffer.getvalue()


def named() -> dict[str, torch.Tensor]:
    return random_layers(NUM_ACTIONS).named(*(f"network.{i}" for i in (0, 2, 4, 7, 9)))
