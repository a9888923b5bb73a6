"""What is in a chunk, by the version of its layout: actors and replay may run different code."""

from __future__ import annotations

from dataclasses import fields

import numpy as np

from replay.types import _CHUNK_ARRAYS, CHUNK_LAYOUT_VERSION, Chunk

LAYOUTS = {
    1: (
        "game: str",
        "streams: int64, 1 axis",
        "first_steps: int64, 1 axis",
        "lengths: int64, 1 axis",
        "frames: uint8, 4 axes",
        "is_first: bool, 1 axis",
        "is_transition: bool, 1 axis",
        "actions: int64, 1 axis",
        "rewards: float32, 1 axis",
        "discounts: float32, 1 axis",
        "epsilons: float32, 1 axis",
        "student_logits: float16, 2 axes",
        "teacher_logits: float16, 2 axes",
        "teacher_features: float16, 2 axes",
        "teacher_values: float32, 1 axis",
        "priorities: float32, 1 axis",
        "weights_version: int",
        "layout_version: int",
    ),
}
"""Of every version there has ever been: one is added, none is changed."""


def layout_now() -> tuple[str, ...]:
    """Every field of a chunk, with its type and its number of axes."""
    described = {}
    for field in fields(Chunk):
        described[field.name] = f"{field.name}: {field.type}"
    for name, (dtype, num_axes) in _CHUNK_ARRAYS.items():
        unit = "axis" if num_axes == 1 else "axes"
        assert name in described, f"{name} is checked, but no field of a chunk"
        described[name] = f"{name}: {np.dtype(dtype)}, {num_axes} {unit}"
    return tuple(described.values())


def test_a_chunk_with_other_fields_has_another_version():
    assert max(LAYOUTS) == CHUNK_LAYOUT_VERSION
    assert layout_now() == LAYOUTS[CHUNK_LAYOUT_VERSION], (
        "Chunk has changed: raise CHUNK_LAYOUT_VERSION, and add its fields here under the new one"
    )
    assert len(set(LAYOUTS.values())) == len(LAYOUTS)
