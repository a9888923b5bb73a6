"""Which teachers see a game's states as its own teacher does, nearest first."""

from __future__ import annotations

import copy
import json
import math
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from teachers.expert import Expert
from teachers.references import load_teacher
from teachers.shipped import shipped_experts
from teachers.similarity import features_of, linear_cka, play_states
from views.columns import table_lines
from views.teachers.options import NearestOptions
from views.words import for_reader, number


@dataclass(frozen=True, slots=True, kw_only=True)
class Similarity:
    """How alike a source and the game's own teacher see its states."""

    # As it was named.
    source: str
    # None where either says the same of all states.
    cka: float | None


def nearest(options: NearestOptions) -> int:
    """Print all sources by their similarity, and the nearest ones; returns the exit status."""
    teacher = load_teacher(options.teacher)
    own = teacher.spec.name
    sources = options.sources or [game for game in shipped_experts() if game != own]
    found, floor = compare_sources(teacher, {name: load_teacher(name) for name in sources}, options)
    if options.json:
        print(json.dumps({"game": own, "sources": [asdict(row) for row in found], "floor": floor}))
        return 0
    rows = [(row.source, number(row.cka, 3)) for row in found]
    print("\n".join(table_lines(("source", "CKA"), [*rows, ("(untrained)", number(floor, 3))])))
    alike = [row.source for row in found if row.cka is not None and row.cka > (floor or 0.0)]
    names = " ".join(alike[: options.num]) or "none is more alike than a network without training"
    print(for_reader(f"nearest to {own}: {names}", sys.stdout))
    return 0


def compare_sources(
    teacher: Expert, sources: Mapping[str, Expert], options: NearestOptions
) -> tuple[list[Similarity], float | None]:
    """The sources, most alike first, and how alike a network is that has learned nothing.

    ValueError for a source that cannot see the game's observations.
    """
    for source in sources.values():
        if source.spec.observation_shape != teacher.spec.observation_shape:
            raise ValueError(
                f"the teacher of {source.spec.name} sees {list(source.spec.observation_shape)}, "
                f"{teacher.spec.name} shows {list(teacher.spec.observation_shape)}: they cannot be "
                "compared"
            )
    states = play_states(teacher, options.states, seed=options.seed)
    own = features_of(teacher, states)
    found = [
        Similarity(source=name, cka=_alike(own, source, states)) for name, source in sources.items()
    ]
    floor = _alike(own, untrained(teacher, seed=options.seed), states)
    return sorted(found, key=lambda row: math.inf if row.cka is None else -row.cka), floor


def _alike(own: Tensor, other: Expert, states: Tensor) -> float | None:
    cka = linear_cka(own, features_of(other, states))
    return cka if math.isfinite(cka) else None


def untrained(teacher: Expert, *, seed: int) -> Expert:
    """A copy whose network has learned nothing."""
    fresh = copy.deepcopy(teacher)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for module in fresh.network.modules():
            if reset := getattr(module, "reset_parameters", None):
                reset()
    return fresh
