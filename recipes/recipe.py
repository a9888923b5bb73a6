"""What is trained, and from what: everything that a run's roles are made of.

A recipe holds nothing but a configuration, so it travels to every process and each builds its own
parts. What the objective needs decides their shapes; recipes/roles.py builds the roles from them,
for both engines alike.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import nn

from actors.priorities import PriorityRule
from games.registry import get_game
from learner.objectives.base import Objective
from networks.build import build_network
from networks.masking import legal_matrix
from networks.network import MultitaskNetwork
from recipes.config import RunConfig
from recipes.objectives import OBJECTIVES, Needs
from replay.columns import EntryShape
from replay.pace.game_settings import GameSettings
from replay.samplers import sampler_bytes
from replay.storage.ring import TableSpec
from teachers.card import ScoreRecord
from teachers.expert import Expert
from teachers.references import load_teacher
from teachers.shipped import shipped_experts


@dataclass(frozen=True, slots=True)
class Recipe:
    """One network, its games, and what it learns from."""

    config: RunConfig

    @property
    def games(self) -> tuple[str, ...]:
        """Games that the network plays, in the order in which batches and masks have them."""
        return self.config.games

    @property
    def game_settings(self) -> dict[str, GameSettings]:
        """Share, quota and cap of each game at the start."""
        return self.config.game_settings

    @property
    def num_actors(self) -> dict[str, int]:
        """Number of actors of each game at the start."""
        return self.config.actors_of

    @property
    def needs(self) -> Needs:
        """What the objective asks for; ValueError for settings that it cannot learn with."""
        return OBJECTIVES[self.config.objective].needs(self.config)

    def build_network(self) -> MultitaskNetwork:
        """The network that learns, with the feature regressors that only learning needs."""
        sizes = {}
        if self.needs.features:
            sizes = {game: self.load_teacher(game).num_features for game in self.games}
        return self._build_network(sizes)

    def build_acting_network(self, game: str) -> MultitaskNetwork:
        """The part of the network that acts, ready for one game."""
        return self._build_network({}).act_as(game)

    def _build_network(self, teacher_feature_sizes: dict[str, int]) -> MultitaskNetwork:
        specs = [get_game(game) for game in self.games]
        return build_network(
            self.config.network,
            specs,
            num_quantiles=self.needs.num_quantiles,
            has_critic=self.needs.head == "policy_and_value",
            teacher_feature_sizes=teacher_feature_sizes,
        )

    def build_objective(self, network: nn.Module, device: torch.device) -> Objective:
        """What `network`, made by `build_network`, minimizes on `device`."""
        assert isinstance(network, MultitaskNetwork)
        legal_GA = legal_matrix([get_game(game) for game in self.games]).to(device)
        taught = [self.num_teachers(game) for game in self.games]
        return OBJECTIVES[self.config.objective].build(self.config, network, legal_GA, taught)

    def student_temperature(self, game: str) -> float:
        """Tau of softmax(output / tau), the network's policy in a game.

        The only place that knows it: a head of logits is a policy as it is; Q-values become one at
        the temperature of the teacher's, with which they are compared.
        """
        return self.config.temperature_of[game] if self.needs.head == "q_values" else 1.0

    def build_priority_rule(self, game: str) -> PriorityRule:
        """How the game's actors judge their own transitions."""
        legal_A = get_game(game).legal_mask()
        return OBJECTIVES[self.config.objective].priority_rule(self.config, game, legal_A)

    def find_teacher(self, game: str) -> Expert | None:
        """The first of the game's teachers, with which its student is compared; None without any.

        Raises:
            ValueError: there is none where the objective needs one, or it is damaged.
        """
        return self.load_teacher(game) if self.is_taught(game) else None

    def find_teachers(self, game: str) -> tuple[Expert, ...]:
        """All teachers that label the game's states; none for a game that is learned without."""
        if not self.is_taught(game):
            return ()
        return tuple(load_teacher(name, game) for name in self.config.teachers_of[game])

    def num_teachers(self, game: str) -> int:
        """Teachers that the game has in this run, or must have."""
        return len(self.config.teachers_of[game]) if self.is_taught(game) else 0

    @property
    def max_teachers(self) -> int:
        """Teachers of the game that has most; labels of all games have room for as many."""
        references = self.config.teachers_of
        return max(len(references[game]) if self.is_taught(game) else 0 for game in self.games)

    def is_taught(self, game: str) -> bool:
        """Whether the game has a teacher in this run, or lacks one that it must have."""
        needs = self.needs
        if not needs.labels or needs.every_game_taught:
            return needs.labels
        return not self._lacks_expert(game)

    def _lacks_expert(self, game: str) -> bool:
        """Whether no teacher is named for the game and none is shipped."""
        return self.config.teachers_of[game] == (game,) and game not in shipped_experts()

    def check_teachers(self) -> None:
        """Load every teacher once; ValueError that names all games whose expert is missing."""
        taught = [game for game in self.games if self.is_taught(game)]
        missing = [game for game in taught if self._lacks_expert(game)]
        if self.needs.labels and not taught:
            raise ValueError(
                f"objective {self.config.objective} has no teacher for any of its games; name "
                "some with --teachers, or set distillation.weight to 0 to learn from rewards alone"
            )
        if missing:
            entries = " ".join(f"{game}=runs/experts/{game}/{game}.safetensors" for game in missing)
            raise ValueError(
                f"no expert is shipped for {', '.join(missing)}; train them with: python "
                f"launch/experts.py --games {' '.join(missing)} --run-dir runs/experts, and name "
                f"them: --teachers {entries}"
            )
        for game in taught:
            if self.num_teachers(game) > 1 and not self.needs.several_teachers:
                raise ValueError(
                    f"objective {self.config.objective} learns from one teacher a game, and "
                    f"{game} has {self.num_teachers(game)}; use --objective actor_critic"
                )
            self.find_teachers(game)

    def load_teacher(self, game: str) -> Expert:
        """The first teacher that the configuration names for the game, else the shipped one.

        Raises:
            ValueError: there is none, or it is damaged.
        """
        return load_teacher(self.config.teachers_of[game][0], game)

    def teacher_score(self, game: str) -> ScoreRecord | None:
        """What the card of the game's first teacher says, under this run's protocol if it can."""
        expert = self.find_teacher(game)
        return None if expert is None else self._score_of(expert)

    def teacher_scores(self, game: str) -> list[ScoreRecord | None]:
        """The same of all teachers of the game."""
        return [self._score_of(expert) for expert in self.find_teachers(game)]

    def _score_of(self, expert: Expert) -> ScoreRecord | None:
        return expert.card.find_score(protocol=self.config.protocol) or expert.card.score

    def table_spec(self, game: str, capacity: int) -> TableSpec:
        """Shape of the game's replay, with room for `capacity` entries."""
        spec, needs = get_game(game), self.needs
        return TableSpec(
            game=spec.name,
            capacity=capacity,
            entry=EntryShape(
                frame_shape=spec.frame_shape,
                num_actions=spec.num_actions,
                num_teacher_actions=spec.num_actions * self.max_teachers,
                num_teacher_features=self.load_teacher(game).num_features if needs.features else 0,
                memory_size=needs.memory_size,
                extra_columns=needs.extra_columns,
            ),
            num_stack=spec.num_stack,
            num_successors=needs.num_successors,
            sequence_length=needs.sequence_length,
            compression=self.config.replay.compression,
            sampler_bytes=sampler_bytes(self.config.replay),
        )

    def with_policy_temperatures(self) -> Recipe:
        """The same recipe with tau 1 for teachers that are policies and have no tau of their own.

        Labels of a policy are log-probabilities, so tau 1 is the policy itself; a tau meant for
        Q-values would make it nearly greedy.
        """
        if not self.needs.labels:
            return self
        named = {entry.rpartition("=")[0] for entry in self.config.temperatures}
        policies = [
            f"{game}=1" for game in self.games if game not in named and self._has_policies(game)
        ]
        temperatures = (*self.config.temperatures, *policies)
        return Recipe(replace(self.config, temperatures=temperatures))

    def _has_policies(self, game: str) -> bool:
        """Whether the game's teachers are policies; ValueError where only some of them are."""
        heads = {expert.card.architecture.head == "policy" for expert in self.find_teachers(game)}
        if len(heads) > 1:
            raise ValueError(
                f"teachers: some of {game} are policies and some have Q-values, and no temperature "
                f"suits both; choose one by --temperatures {game}=TAU"
            )
        return heads == {True}
