"""What is trained, and from what: builds the parts that differ between kinds of training.

A recipe holds nothing but a config, so it travels to every process and each builds its own parts.
launch/roles.py builds the roles from it, for both engines alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn

from actors.priorities import PolicyDistance, PriorityRule, TdError
from games.registry import get_game
from games.spec import GameSpec
from launch.config import CommonConfig, ExpertsConfig, MultitaskConfig
from learner.objectives import ActorMimicObjective, DqnObjective, Objective
from networks.build import build_q_network, build_student
from networks.masking import legal_matrix
from networks.q_network import QNetwork
from networks.student import MultitaskStudent
from replay.config import ReplayConfig
from replay.game_settings import GameSettings
from replay.ring import TableSpec
from replay.samplers import sampler_bytes
from teachers.card import ScoreRecord
from teachers.expert import Expert
from teachers.references import load_teacher


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

    def build_network(self) -> MultitaskStudent:
        """The student with its feature regressors."""
        sizes = {}
        if self._regresses_features:
            sizes = {game: _teacher_of(self.load_teacher(game)).num_features for game in self.games}
        return self._build_student(sizes)

    def build_acting_network(self, game: str) -> MultitaskStudent:
        """The student without its feature regressors."""
        return self._build_student({}).act_as(game)

    def _build_student(self, teacher_feature_sizes: dict[str, int]) -> MultitaskStudent:
        specs = [get_game(game) for game in self.games]
        return build_student(self.config.network, specs, teacher_feature_sizes)

    def build_objective(self, network: nn.Module, device: torch.device) -> Objective:
        """Actor-Mimic."""
        assert isinstance(network, MultitaskStudent)
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
        return _table_spec(
            spec,
            capacity,
            self.config.replay,
            num_teacher_actions=spec.num_actions,
            num_teacher_features=features,
        )

    @property
    def _regresses_features(self) -> bool:
        return self.config.mimic.feature_weight > 0


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

    def build_network(self) -> QNetwork:
        """A Q-network over the joint action set."""
        return build_q_network(self.config.network, get_game(self.game))

    def build_acting_network(self, game: str) -> QNetwork:
        """The same network."""
        return self.build_network()

    def build_objective(self, network: nn.Module, device: torch.device) -> Objective:
        """n-step double DQN."""
        assert isinstance(network, QNetwork)
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
        return _table_spec(
            get_game(game),
            capacity,
            self.config.replay,
            num_successors=self.config.dqn.num_steps,
        )


def _table_spec(
    spec: GameSpec,
    capacity: int,
    config: ReplayConfig,
    *,
    num_teacher_actions: int = 0,
    num_teacher_features: int = 0,
    num_successors: int = 0,
) -> TableSpec:
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


def _teacher_of(expert: Expert | None) -> Expert:
    assert expert is not None
    return expert
