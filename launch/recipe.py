"""What is trained, and from what: builds the parts that differ between kinds of training.

A recipe holds nothing but a config, so it travels to every process and each builds its own parts.
Both engines build everything through it and differ in nothing but the wiring.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from actors.actor import Actor
from actors.policy import epsilon_ladder
from actors.priorities import PolicyDistance, PriorityRule, TdError
from actors.rows import RowWindow
from games.env import VectorEnv, get_protocol
from games.registry import get_game, make_vector_env
from games.spec import GameSpec
from launch.config import CommonConfig, ExpertsConfig, MultitaskConfig
from learner.batch import BatchLoader
from learner.learner import Learner
from learner.objectives import ActorMimicObjective, DqnObjective, Objective
from learner.optim import build_optimizer
from networks.build import build_q_network, build_student, use_channels_last
from networks.masking import legal_matrix
from networks.q_network import QNetwork
from networks.student import MultitaskStudent
from networks.weights import WeightSink, WeightSource
from replay.client import ReplayReader, ReplayWriter
from replay.ring import TableSpec
from replay.shard import ReplayConfig, ReplayShard
from replay.types import Chunk
from teachers.card import ScoreRecord
from teachers.expert import Expert, load_expert


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
    def shares(self) -> dict[str, float]:
        """Relative part of each game in the batch."""
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
    def shares(self) -> dict[str, float]:
        """As configured."""
        return self.config.share_of

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
        return load_expert(self.config.teacher_of[game], game)

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
            spec, capacity, num_teacher_actions=spec.num_actions, num_teacher_features=features
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
    def shares(self) -> dict[str, float]:
        """All of the batch."""
        return {self.game: 1.0}

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
        return _table_spec(get_game(game), capacity, num_successors=self.config.dqn.num_steps)


def build_env(config: CommonConfig, game: str, *, num_envs: int, seed: int) -> VectorEnv:
    """Environments by the run's protocol, stepped in the calling process's one thread."""
    return make_vector_env(
        get_game(game), num_envs=num_envs, protocol=get_protocol(config.protocol), seed=seed
    )


def build_shard(recipe: Recipe, *, shard: int = 0) -> ReplayShard:
    """Shard number `shard` of the run's replay."""
    config = recipe.config.replay.per_shard()
    return ReplayShard(
        config,
        [recipe.table_spec(game, config.capacity_per_game) for game in recipe.games],
        shares=recipe.shares,
        shard=shard,
        seed=recipe.config.seed,
    )


def largest_chunk(recipe: Recipe, game: str) -> Chunk:
    """A blank chunk of the greatest size that an actor may send."""
    config, spec = recipe.config.actor, recipe.table_spec(game, 1)
    rows = RowWindow(
        num_envs=config.num_envs,
        chunk_steps=config.chunk_steps,
        num_lookahead=0,
        frame_shape=spec.frame_shape,
        num_actions=spec.num_actions,
        num_teacher_actions=spec.num_teacher_actions,
        num_teacher_features=spec.num_teacher_features,
    )
    rows.is_entry[:] = rows.is_transition[:] = True
    priorities = np.zeros(rows.rewards.shape, np.float32)
    return rows.take_chunk(game=game, actor_serial=0, priorities=priorities, weights_version=0)


def build_actor(
    recipe: Recipe,
    game: str,
    *,
    rank: int,
    num_ranks: int,
    serial: int,
    replay: ReplayWriter,
    weights: WeightSource,
    start_step: int = 0,
) -> Actor:
    """Actor number `rank` of the game's `num_ranks`; `serial` is never used twice in a run."""
    config = recipe.config
    return Actor(
        config.actor,
        env=build_env(
            config,
            game,
            num_envs=config.actor.num_envs,
            seed=_seed_of(config.seed, _ACTING, serial),
        ),
        network=recipe.build_acting_network(game),
        teacher=recipe.load_teacher(game),
        store_features=bool(recipe.table_spec(game, 1).num_teacher_features),
        priority_rule=recipe.build_priority_rule(game),
        epsilons=_epsilons(config, rank, num_ranks),
        life_loss_ends_return=get_protocol(config.protocol).life_loss_ends_return,
        replay=replay,
        weights=weights,
        serial=serial,
        seed=config.seed,
        start_step=start_step,
    )


def build_learner(
    recipe: Recipe,
    *,
    replay: ReplayReader,
    weights: WeightSink,
    device: torch.device,
    incarnation: int = 0,
) -> Learner:
    """The learner on `device`, with freshly initialised weights.

    `incarnation` must be above that of any learner whose weights somebody may still have.
    """
    config = recipe.config
    torch.manual_seed(config.seed)
    network = recipe.build_network().to(device)
    use_channels_last(network)
    gamma, reward_clip = _return_settings(config)
    return Learner(
        config.learner,
        network=network,
        objective=recipe.build_objective(network, device),
        optimizer=build_optimizer(
            config.learner.optimizer,
            network.parameters(),
            config.learner.learning_rate,
            mean_over=config.replay.batch_size,
            epsilon=config.learner.adam_epsilon if config.learner.optimizer == "adam" else None,
        ),
        load_batch=BatchLoader(device, gamma=gamma, reward_clip=reward_clip),
        replay=replay,
        weights=weights,
        device=device,
        incarnation=incarnation,
    )


def choose_device(config: CommonConfig) -> torch.device:
    """The learner's device; ValueError if a GPU is asked for and there is none."""
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device is cuda, but no GPU is visible; use --device auto or cpu")
    if config.device == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda")


def check_replay_fits(recipe: Recipe, *, available_bytes: int) -> None:
    """Raises ValueError if the tables would not fit into the machine's memory."""
    config: ReplayConfig = recipe.config.replay
    needed = sum(recipe.table_spec(g, config.capacity_per_game).nbytes for g in recipe.games)
    if needed > 0.8 * available_bytes:
        fitting = int(config.capacity_per_game * 0.8 * available_bytes / needed)
        raise ValueError(
            f"replay of {config.capacity_per_game} transitions for each of {len(recipe.games)} "
            f"games needs {needed / 2**30:.1f} GiB, but {available_bytes / 2**30:.1f} GiB are "
            f"available; use --replay.capacity-per-game {fitting} or less"
        )


_ACTING = 1
_EVALUATING = 2


def evaluation_seed(config: CommonConfig, test: int) -> int:
    """Seed of test number `test`; never one that an actor has."""
    return _seed_of(config.seed, _EVALUATING, test)


def _seed_of(*path: int) -> int:
    return int(np.random.SeedSequence(path).generate_state(1)[0])


def _epsilons(config: CommonConfig, rank: int, num_ranks: int) -> NDArray[np.float32]:
    """Exploration rates of one actor's environments."""
    num_envs = config.actor.num_envs
    if config.actor.exploration == "constant":
        return np.full(num_envs, config.actor.epsilon, np.float32)
    # Interleaved, so that every actor has some of each end of the ladder.
    return epsilon_ladder(num_envs * num_ranks)[rank::num_ranks]


def _return_settings(config: CommonConfig) -> tuple[float, float]:
    """Discount and reward clip of n-step returns; without meaning where nothing bootstraps."""
    if isinstance(config, ExpertsConfig):
        return config.dqn.gamma, config.dqn.reward_clip
    return 0.99, 1.0


def _table_spec(
    spec: GameSpec,
    capacity: int,
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
    )


def _teacher_of(expert: Expert | None) -> Expert:
    assert expert is not None
    return expert
