"""How transitions of one game are drawn: five samplers behind one interface."""

from replay.samplers.base import Sampler
from replay.samplers.choice import build_sampler, sampler_bytes
from replay.samplers.hierarchical import HierarchicalSampler
from replay.samplers.proportional import ProportionalSampler
from replay.samplers.rank_based import RankBasedSampler
from replay.samplers.recent import RecentSampler
from replay.samplers.uniform import UniformSampler

__all__ = [
    "HierarchicalSampler",
    "ProportionalSampler",
    "RankBasedSampler",
    "RecentSampler",
    "Sampler",
    "UniformSampler",
    "build_sampler",
    "sampler_bytes",
]
