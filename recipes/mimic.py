"""Teaches one student several games from one expert each."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from actors.priorities import PolicyDistance
from games.registry import get_game
from learner.objectives.base import Objective
from learner.objectives.mimic import ActorMimicObjective
from networks.build import build_network
from networks.masking import legal_matrix
from networks.network import MultitaskNetwork
from recipes.config import MultitaskConfig
from recipes.recipe import build_table_spec
from replay.pace.game_settings import GameSettings
from replay.storage.ring import TableSpec
from teachers.card import ScoreRecord
from teachers.expert import Expert
from teachers.references import load_teacher


@dataclass(frozen=True, slots=True)
class MultitaskRecipe:
    """Distil one teacher per game into one student."""

    config: MultitaskConfig

    @property
    def games(self) -> tuple[str, ...]:
        """All games of the run."""
        return self.config.games

    @property
    def game_settings(self) -> dict[str, GameSettings]:
        """As configured."""
        return self.config.game_settings

    @property
    def num_actors(self) -> dict[str, int]:
        """As configured."""
        return self.config.actors_of

    def build_network(self) -> MultitaskNetwork:
        """The student with its feature regressors."""
        sizes = {}
        if self._regresses_features:
            sizes = {game: _teacher_of(self.load_teacher(game)).num_features for game in self.games}
        return self._build_student(sizes)

    def build_acting_network(self, game: str) -> MultitaskNetwork:
        """The student without its feature regressors."""
        return self._build_student({}).act_as(game)

    def _build_student(self, teacher_feature_sizes: dict[str, int]) -> MultitaskNetwork:
        specs = [get_game(game) for game in self.games]
        return build_network(
            self.config.network, specs, teacher_feature_sizes=teacher_feature_sizes
        )

    def build_objective(self, network: nn.Module, device: torch.device) -> Objective:
        """Actor-Mimic."""
        assert isinstance(network, MultitaskNetwork)
        return ActorMimicObjective(
            self.config.mimic,
            network,
            legal_GA=legal_matrix([get_game(game) for game in self.games]).to(device),
            temperatures=[self.config.temperature_of[game] for game in self.games],
        )

    def load_teacher(self, game: str) -> Expert:
        """The teacher named for the game, else the one that comes with the package."""
        return load_teacher(self.config.teacher_of[game], game)

    def teacher_score(self, game: str) -> ScoreRecord | None:
        """What the teacher's card says of its score, under this run's protocol if it does."""
        card = self.load_teacher(game).card
        return card.find_score(protocol=self.config.protocol) or card.score

    def build_priority_rule(self, game: str) -> PolicyDistance:
        """Distance between the two policies."""
        return PolicyDistance(
            get_game(game).legal_mask(),
            temperature=self.config.temperature_of[game],
            kind=self.config.mimic.priority,
        )

    def table_spec(self, game: str, capacity: int) -> TableSpec:
        """Labels of a teacher, and its features where they are regressed."""
        spec = get_game(game)
        features = 0
        if self._regresses_features:
            features = _teacher_of(self.load_teacher(game)).num_features
        return build_table_spec(
            spec,
            capacity,
            self.config.replay,
            num_teacher_actions=spec.num_actions,
            num_teacher_features=features,
        )

    @property
    def _regresses_features(self) -> bool:
        return self.config.mimic.feature_weight > 0


def _teacher_of(expert: Expert | None) -> Expert:
    assert expert is not None
    return expert
