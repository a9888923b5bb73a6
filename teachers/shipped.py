"""Which experts come with the package. Imports no torch, so that lists are there at once."""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable

WEIGHTS_SUFFIX = ".safetensors"


def shipped_folder() -> Traversable:
    """Folder of the shipped experts: GAME.safetensors, with its card GAME.json beside it."""
    return files("teachers") / "weights"


def shipped_experts() -> tuple[str, ...]:
    """Games whose expert comes with the package, in alphabetical order."""
    names = (entry.name for entry in shipped_folder().iterdir())
    return tuple(
        sorted(name.removesuffix(WEIGHTS_SUFFIX) for name in names if name.endswith(WEIGHTS_SUFFIX))
    )
