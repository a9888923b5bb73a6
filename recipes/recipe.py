"""What is trained, and from what: builds the parts that differ between kinds of training.

A recipe holds nothing but a config, so it travels to every process and each builds its own parts.
recipes/roles.py builds the roles from it, for both engines alike.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import nn

from actors.priorities import PriorityRule
from games.spec import GameSpec
from learner.objectives.base import Objective
from recipes.config import CommonConfig
from replay.config import ReplayConfig
from replay.pace.game_settings import GameSettings
from replay.samplers import sampler_bytes
from replay.storage.ring import TableSpec
from teachers.expert import Expert


class Recipe(Protocol):
    """The parts that differ between distillation and value learning."""

    @property
    def config(self) -> CommonConfig:
        """Everything that is the same for both."""
        ...

    @property
    def games(self) -> tuple[str, ...]:
        """Games that the network plays."""
        ...

    @property
    def game_settings(self) -> dict[str, GameSettings]:
        """Share, quota and cap of each game at the start."""
        ...

    @property
    def num_actors(self) -> dict[str, int]:
        """Actors of each game at the start."""
        ...

    def build_network(self) -> nn.Module:
        """The network that learns, with everything that only learning needs."""
        ...

    def build_acting_network(self, game: str) -> nn.Module:
        """The part of the network that acts in one game."""
        ...

    def build_objective(self, network: nn.Module, device: torch.device) -> Objective:
        """What `network`, from `build_network`, minimizes."""
        ...

    def load_teacher(self, game: str) -> Expert | None:
        """The game's frozen teacher, if there is one."""
        ...

    def build_priority_rule(self, game: str) -> PriorityRule:
        """How its actors judge their own transitions."""
        ...

    def table_spec(self, game: str, capacity: int) -> TableSpec:
        """Shape of the game's replay."""
        ...


def build_table_spec(
    spec: GameSpec,
    capacity: int,
    config: ReplayConfig,
    *,
    num_teacher_actions: int = 0,
    num_teacher_features: int = 0,
    num_successors: int = 0,
) -> TableSpec:
    """Shape of one game's replay, from what the game and what is learned need."""
    return TableSpec(
        game=spec.name,
        capacity=capacity,
        frame_shape=spec.frame_shape,
        num_stack=spec.num_stack,
        num_actions=spec.num_actions,
        num_teacher_actions=num_teacher_actions,
        num_teacher_features=num_teacher_features,
        num_successors=num_successors,
        compression=config.compression,
        sampler_bytes=sampler_bytes(config),
    )
