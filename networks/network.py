"""The network of everything that is trained here: one torso, and heads for one game or several.

Students, experts, baselines and actor-critics are this one class with other heads. No game identity
goes in by default: one head serves all games and the game must be recognised from its pixels, as in
Actor-Mimic (Parisotto et al. 2016, https://arxiv.org/abs/1511.06342). What a score means, a logit
or a Q-value, is up to the objective that trains it. Scores are unmasked; masking.py restricts them
to a game's legal actions.

Shape suffixes:
    B  observations in the batch, games mixed
    C, H, W  channels, height and width of one observation
    F  features: width of the last hidden layer
    D  features of one game's teacher
    G  games
    A  joint action set (18 for Atari)
    Z  quantiles of a return distribution; 1 where only its mean is known
    X  any further dimensions
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Self

import torch
from torch import Tensor, nn

from networks.config import HeadSharing
from networks.heads import combine_streams, in_full_precision
from networks.memory import Memory
from networks.torso import ObservationShape, build_torso

_NO_TEACHERS: Mapping[str, int] = MappingProxyType({})
_UNNAMED = ("the game",)


class MultitaskNetwork(nn.Module):
    """A torso, a score for every joint action, and whatever else its objective learns."""

    head: nn.Linear
    value: nn.Linear
    advantage: nn.Linear

    def __init__(
        self,
        *,
        torso: str,
        observation_shape: ObservationShape,
        num_actions: int,
        games: Sequence[str] = _UNNAMED,
        heads: HeadSharing = "joint",
        dueling: bool = False,
        lstm_width: int = 0,
        num_quantiles: int = 0,
        has_critic: bool = False,
        teacher_feature_sizes: Mapping[str, int] = _NO_TEACHERS,
    ) -> None:
        """Build the network with PyTorch's default initialisation.

        Args:
            torso: a name in `networks.torso.TORSOS`.
            observation_shape: (C, H, W), or (C,) of vectors, the same for all games.
            num_actions: size of the joint action set.
            games: in the order that `game_index_B` counts; a single game needs no name.
            heads: which layers belong to single games.
            dueling: scores are Q = V + A - mean(A), from one linear layer each.
            lstm_width: of an LSTM between torso and heads; 0 for a network that remembers nothing.
            num_quantiles: quantiles of every action's return (QR-DQN, Dabney et al. 2018,
                https://arxiv.org/abs/1710.10044), whose mean is the score; 0 for a network that
                knows the mean alone. A dueling network has them in both streams.
            has_critic: also gives the state's value, from a linear layer of its own.
            teacher_feature_sizes: D for every game whose teacher's features are to be regressed;
                empty outside the learner.

        Raises:
            ValueError: no games, a game twice, a feature size for a game that is not there, or
                numbers that no network can have.
        """
        super().__init__()
        _check_games(games, teacher_feature_sizes)
        if num_actions < 1:
            raise ValueError(f"num_actions is {num_actions}; a network needs at least one action")
        if num_quantiles < 0:
            raise ValueError(f"num_quantiles is {num_quantiles}; it must not be negative")
        self.torso = build_torso(torso, observation_shape)
        self.torso_name = torso
        self.observation_shape = self.torso.observation_shape
        self.num_actions = num_actions
        self.num_features = self.torso.num_features
        self.games = tuple(games)
        self.heads = heads
        self.dueling = dueling
        self.num_quantiles = num_quantiles
        self._num_heads = 1 if heads == "joint" else len(self.games)
        if heads == "per_game_dense":
            # Each is a fresh one, so that the games do not begin with the same weights.
            self.game_dense = nn.ModuleList(
                build_torso(torso, observation_shape).dense for _ in self.games
            )
            self.torso.dense = nn.Sequential()
        self.memory: Memory | None = None
        if lstm_width:
            self.memory = Memory(self.num_features, lstm_width)
            self.num_features = lstm_width
        # All heads in one matrix: even for dozens of games a small fraction of the torso's work.
        # The layers lie beside the torso because files of experts and students know these names.
        for name, rows in self._head_rows(num_quantiles).items():
            self.add_module(name, nn.Linear(self.num_features, rows))
        self.critic = nn.Linear(self.num_features, self._num_heads) if has_critic else None
        self.feature_regressors = nn.ModuleDict(
            {
                game: nn.Linear(self.num_features, size)
                for game, size in teacher_feature_sizes.items()
            }
        )
        self._acting_index: int | None = 0 if len(self.games) == 1 else None

    def act_as(self, game: str) -> Self:
        """Let calls without `game_index_B` mean this game, for who plays one game only."""
        if game not in self.games:
            raise ValueError(f"the network does not play {game!r}; it has {', '.join(self.games)}")
        self._acting_index = self.games.index(game)
        return self

    def forward(self, observations_BCHW: Tensor, game_index_B: Tensor | None = None) -> Tensor:
        """scores_BA, float32 and unmasked, from observations as the torso takes them."""
        return self.forward_with_features(observations_BCHW, game_index_B)[0]

    def forward_with_features(
        self, observations_BCHW: Tensor, game_index_B: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """(scores_BA, features_BF), both float32; the features are those after the last ReLU.

        Args:
            observations_BCHW: uint8, or float32 [B, C] of vectors.
            game_index_B: int64, position of each row's game in `games`; read only where games have
                layers of their own, and there needed unless `act_as` has named the game.

        Raises:
            ValueError: the game is needed, and none is given; or the network has an LSTM, and must
                be told what it remembers (`look`).
        """
        self._refuse_without_memory()
        features_BF = self.encode(observations_BCHW, game_index_B)
        return self.scores(features_BF, game_index_B), features_BF.float()

    def look(
        self,
        observations_BCHW: Tensor,
        memory_BM: Tensor | None = None,
        game_index_B: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """(scores_BA of one step, memory_BM after it), for who plays step by step.

        `memory_BM` is what the call for the step before gave, M = 0 numbers without an LSTM; None
        where all episodes begin.
        """
        if self.memory is None:
            scores_BA = self(observations_BCHW, game_index_B)
            return scores_BA, scores_BA.new_zeros(len(scores_BA), 0)
        features_BF = self.encode(observations_BCHW, game_index_B)
        if memory_BM is None:
            memory_BM = self.memory.begin(len(features_BF))
        outputs_B1F, memory_BM = self.memory(features_BF.unsqueeze(1), memory_BM)
        return self.scores(outputs_B1F[:, 0], game_index_B), memory_BM

    def _refuse_without_memory(self) -> None:
        if self.memory is not None:
            raise ValueError(
                "this network has an LSTM (network.lstm_width) and needs what it remembers: call "
                "look, or play it by networks.acting.Acting"
            )

    def forward_quantiles(
        self, observations_BCHW: Tensor, game_index_B: Tensor | None = None
    ) -> Tensor:
        """quantiles_BAZ, float32, in no particular order; ValueError for a network without them."""
        if not self.num_quantiles:
            raise ValueError("this network was built without quantiles")
        self._refuse_without_memory()
        return self._quantiles(self.encode(observations_BCHW, game_index_B), game_index_B)

    def values(self, features_BF: Tensor, game_index_B: Tensor | None = None) -> Tensor:
        """The critic's values_B, float32, from `forward_with_features`' features."""
        if self.critic is None:
            raise ValueError("this network was built without a critic")
        values_BG = in_full_precision(self.critic, features_BF).float()
        return self._pick_game(values_BG, game_index_B)

    def regress_features(self, features_BF: Tensor, game: str) -> Tensor:
        """Guess the teacher's features from this network's: one affine map per game."""
        if game not in self.feature_regressors:
            raise ValueError(
                f"the network has no feature regressor for {game!r}; "
                "give its teacher's feature size when building it"
            )
        return in_full_precision(self.feature_regressors[game], features_BF).float()

    def without_quantiles(self) -> MultitaskNetwork:
        """A network of its own that gives the same Q-values from one output per action.

        Every quantile is a linear function of the features, and so is the mean of them: the head's
        weights and biases are averaged, and nothing but rounding is lost. What is lost is the
        distribution, so the result cannot go on learning it.
        """
        return self._with_head(0, lambda rows_RZX: rows_RZX.double().mean(1, keepdim=True))

    def with_quantiles(self, num_quantiles: int) -> MultitaskNetwork:
        """A network of its own with `num_quantiles` that all begin at this one's Q-value.

        A start for learning distributions from a network that knows only their means; different
        levels pull the equal quantiles apart from the first update on.
        """
        if self.num_quantiles:
            raise ValueError(f"this network has {self.num_quantiles} quantiles already")
        return self._with_head(
            num_quantiles, lambda rows_RZX: rows_RZX.expand(-1, max(1, num_quantiles), -1)
        )

    def _with_head(
        self, num_quantiles: int, convert: Callable[[Tensor], Tensor]
    ) -> MultitaskNetwork:
        """A copy whose head is `convert`ed, from [R, old, X] to [R, new, X] outputs per row R."""
        other = copy.deepcopy(self)
        other.num_quantiles = num_quantiles
        old = max(1, self.num_quantiles)
        for name, num_rows in self._head_rows(num_quantiles).items():
            source: nn.Linear = getattr(self, name)
            layer = nn.Linear(self.num_features, num_rows, device=source.weight.device)
            with torch.no_grad():
                for kind in ("weight", "bias"):
                    tensor, target = getattr(source, kind), getattr(layer, kind)
                    rows_RZX = convert(tensor.reshape(len(tensor) // old, old, -1))
                    target.copy_(rows_RZX.reshape(target.shape))
            setattr(other, name, layer)
        return other

    def _head_rows(self, num_quantiles: int) -> dict[str, int]:
        """Outputs of each layer that makes the scores."""
        per_action = self._num_heads * max(1, num_quantiles)
        if self.dueling:
            return {"value": per_action, "advantage": per_action * self.num_actions}
        return {"head": per_action * self.num_actions}

    def encode(self, observations_BCHW: Tensor, game_index_B: Tensor | None = None) -> Tensor:
        """features_BF of single observations, of the layers below an LSTM and the heads.

        In the autocast type where autocast is on.
        """
        features_BF: Tensor = self.torso(observations_BCHW)
        if self.heads != "per_game_dense":
            return features_BF
        if game_index_B is None:
            own_BF: Tensor = self.game_dense[self._acting()](features_BF)
            return own_BF
        # Every row through every game's layers: dearer than it must be for many games, but its
        # shapes do not depend on the data, so that no GPU waits and programs can be exported.
        features_BGF = torch.stack([dense(features_BF) for dense in self.game_dense], 1)
        return self._pick_game(features_BGF, game_index_B)

    def scores(self, features_BF: Tensor, game_index_B: Tensor | None = None) -> Tensor:
        """scores_BA, float32 and unmasked, from the features below the heads."""
        return self._quantiles(features_BF, game_index_B).mean(2)

    def _quantiles(self, features_BF: Tensor, game_index_B: Tensor | None) -> Tensor:
        """[B, A, Z]."""
        outputs_BGAZ = in_full_precision(self._head_outputs, features_BF).float()
        return self._pick_game(outputs_BGAZ, game_index_B)

    def _head_outputs(self, features_BF: Tensor) -> Tensor:
        shape = (self._num_heads, self.num_actions, max(1, self.num_quantiles))
        if not self.dueling:
            outputs_BGAZ: Tensor = self.head(features_BF).unflatten(1, shape)
            return outputs_BGAZ
        return combine_streams(
            self.value(features_BF).unflatten(1, (shape[0], 1, shape[2])),
            self.advantage(features_BF).unflatten(1, shape),
        )

    def _pick_game(self, outputs_BGX: Tensor, game_index_B: Tensor | None) -> Tensor:
        """Each row's own game of [B, G, ...], or the only one there is."""
        if self.heads == "joint":
            return outputs_BGX[:, 0]
        if game_index_B is None:
            return outputs_BGX[:, self._acting()]
        # Not len(): it would be a constant in an exported program.
        rows_B = torch.arange(outputs_BGX.shape[0], device=outputs_BGX.device)
        return outputs_BGX[rows_B, game_index_B]

    def _acting(self) -> int:
        if self._acting_index is None:
            raise ValueError(
                "a network with layers of single games needs to know the game: pass "
                "game_index_B, or call act_as(game) once"
            )
        return self._acting_index


def _check_games(games: Sequence[str], teacher_feature_sizes: Mapping[str, int]) -> None:
    if isinstance(games, str) or not games:
        raise ValueError(f"games is {games!r}; it must be a sequence with at least one name")
    if len(set(games)) != len(games):
        raise ValueError(f"a game is named twice in {', '.join(games)}")
    strangers = [game for game in teacher_feature_sizes if game not in games]
    if strangers:
        raise ValueError(
            f"teacher features were announced for {', '.join(strangers)}, "
            f"but the network's games are {', '.join(games)}"
        )
