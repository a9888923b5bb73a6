"""Trains one expert for one game."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from actors.priorities import TdError
from games.registry import get_game
from learner.objectives.base import Objective
from learner.objectives.value import DqnObjective
from networks.build import build_network
from networks.masking import legal_matrix
from networks.network import MultitaskNetwork
from recipes.config import ExpertsConfig
from recipes.recipe import build_table_spec
from replay.pace.game_settings import GameSettings
from replay.storage.ring import TableSpec


@dataclass(frozen=True, slots=True)
class ExpertRecipe:
    """Learn to play one game from its rewards."""

    config: ExpertsConfig
    game: str

    @property
    def games(self) -> tuple[str, ...]:
        """The one game."""
        return (self.game,)

    @property
    def game_settings(self) -> dict[str, GameSettings]:
        """All of the batch."""
        replay = self.config.replay
        settings = GameSettings(
            quota=replay.capacity_per_game, samples_per_insert_cap=replay.samples_per_insert_cap
        )
        return {self.game: settings}

    @property
    def num_actors(self) -> dict[str, int]:
        """As configured."""
        return {self.game: self.config.actors_of[self.game]}

    def build_network(self) -> MultitaskNetwork:
        """A Q-network over the joint action set."""
        return build_network(self.config.network, [get_game(self.game)])

    def build_acting_network(self, game: str) -> MultitaskNetwork:
        """The same network."""
        return self.build_network()

    def build_objective(self, network: nn.Module, device: torch.device) -> Objective:
        """n-step double DQN."""
        assert isinstance(network, MultitaskNetwork)
        legal_GA = legal_matrix([get_game(self.game)]).to(device)
        return DqnObjective(self.config.dqn, network, legal_GA=legal_GA)

    def load_teacher(self, game: str) -> None:
        """There is none."""
        return None

    def build_priority_rule(self, game: str) -> TdError:
        """n-step TD error."""
        return TdError(
            get_game(game).legal_mask(),
            num_steps=self.config.dqn.num_steps,
            gamma=self.config.dqn.gamma,
            reward_clip=self.config.dqn.reward_clip,
        )

    def table_spec(self, game: str, capacity: int) -> TableSpec:
        """No teacher, but n successors."""
        return build_table_spec(
            get_game(game),
            capacity,
            self.config.replay,
            num_successors=self.config.dqn.num_steps,
        )
