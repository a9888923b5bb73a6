"""What a run asks for, in the figures that its pace depends on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from recipes.config import RunConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What a run asks for."""

    actors: Mapping[str, int]
    shards: int
    spread: bool
    learners: int
    samples_per_insert: float
    batch_size: int
    publish_period: int
    # Played before the learner begins.
    fill_steps: int
    target_steps: int
    needs_gpu: bool
    # Inference servers; they take a CPU each, and their work is not planned.
    servers: int = 0

    @classmethod
    def of(cls, config: RunConfig, *, target_steps: int, needs_gpu: bool) -> Workload:
        """Read the workload of a run from its configuration."""
        return cls(
            actors=config.actors_of,
            shards=config.replay.num_shards,
            spread=config.replay.spread,
            learners=config.learner.num_replicas,
            samples_per_insert=config.replay.samples_per_insert,
            batch_size=config.replay.batch_size,
            publish_period=config.learner.publish_period,
            fill_steps=config.replay.min_size_per_game * len(config.games),
            target_steps=target_steps,
            needs_gpu=needs_gpu,
            servers=int(config.actor.inference == "server"),
        )

    @property
    def roles(self) -> int:
        """Processes that take a CPU each."""
        return sum(self.actors.values()) + self.shards + self.learners + self.servers
