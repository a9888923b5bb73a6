"""The multitask student: one network that plays many games.

No game identity goes in by default: one head serves all games and the game must be recognised
from its pixels, as in Actor-Mimic (Parisotto et al. 2016, https://arxiv.org/abs/1511.06342). The
logits are unmasked; masking.py restricts them to a game's legal actions.

Shape suffixes:
    B  observations in the batch, games mixed
    C, H, W  channels, height and width of one observation
    F  features of the student: width of its last hidden layer
    D  features of one game's teacher
    A  joint action set
    G  games
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Self

import torch
from torch import Tensor, nn

from networks.q_network import in_full_precision
from networks.torso import ObservationShape, build_torso

_NO_TEACHERS: Mapping[str, int] = MappingProxyType({})


class MultitaskStudent(nn.Module):
    """A torso, logits over the joint action set, and one linear feature regressor per game."""

    def __init__(
        self,
        *,
        torso: str,
        observation_shape: ObservationShape,
        num_actions: int,
        games: Sequence[str],
        per_game_heads: bool = False,
        teacher_feature_sizes: Mapping[str, int] = _NO_TEACHERS,
    ) -> None:
        """Build the student with PyTorch's default initialisation.

        Args:
            torso: a name in `networks.torso.TORSOS`.
            observation_shape: (C, H, W), the same for all games.
            num_actions: size of the joint action set.
            games: in the order that `game_index_B` counts.
            per_game_heads: one head per game instead of one for all.
            teacher_feature_sizes: D for every game whose teacher's features are to be regressed;
                empty outside the learner.

        Raises:
            ValueError: no games, a game twice, or a feature size for a game that is not there.
        """
        super().__init__()
        _check_games(games, teacher_feature_sizes)
        if num_actions < 1:
            raise ValueError(f"num_actions is {num_actions}; a student needs at least one action")
        self.torso = build_torso(torso, observation_shape)
        self.torso_name = torso
        self.observation_shape = self.torso.observation_shape
        self.num_actions = num_actions
        self.num_features = self.torso.num_features
        self.games = tuple(games)
        self.per_game_heads = per_game_heads
        num_heads = len(self.games) if per_game_heads else 1
        # All heads in one matrix: even for dozens of games a small fraction of the torso's work.
        self.head = nn.Linear(self.num_features, num_heads * num_actions)
        self.feature_regressors = nn.ModuleDict(
            {
                game: nn.Linear(self.num_features, size)
                for game, size in teacher_feature_sizes.items()
            }
        )
        self._acting_index: int | None = 0 if len(self.games) == 1 else None

    def act_as(self, game: str) -> Self:
        """From now on a call without `game_index_B` means this game; for who plays one game only.

        Raises:
            ValueError: the student does not have this game.
        """
        self._acting_index = self._index_of(game)
        return self

    def forward(self, observations_BCHW: Tensor, game_index_B: Tensor | None = None) -> Tensor:
        """logits_BA, float32 and unmasked, from uint8 observations."""
        return self.forward_with_features(observations_BCHW, game_index_B)[0]

    def forward_with_features(
        self, observations_BCHW: Tensor, game_index_B: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """(logits_BA, features_BF), both float32; the features are those after the last ReLU.

        Args:
            observations_BCHW: uint8.
            game_index_B: int64, position of each row's game in `games`; read only with per-game
                heads, and there needed unless `act_as` has named the game.

        Raises:
            ValueError: per-game heads, and no game is given.
        """
        features_BF = self.torso(observations_BCHW)
        logits_BX = in_full_precision(self.head, features_BF).float()
        if self.per_game_heads:
            logits_BX = self._pick_heads(logits_BX, game_index_B)
        return logits_BX, features_BF.float()

    def regress_features(self, features_BF: Tensor, game: str) -> Tensor:
        """Guess the teacher's features from the student's: one affine map per game.

        Args:
            features_BF: rows of this game only. Gradients go on into the torso.
            game: one of those in `teacher_feature_sizes`.

        Returns:
            float32 [B, D].

        Raises:
            ValueError: no feature size was given for this game.
        """
        if game not in self.feature_regressors:
            raise ValueError(
                f"the student has no feature regressor for {game!r}; "
                "give its teacher's feature size when building it"
            )
        return in_full_precision(self.feature_regressors[game], features_BF).float()

    def _pick_heads(self, logits_BX: Tensor, game_index_B: Tensor | None) -> Tensor:
        logits_BGA = logits_BX.reshape(-1, len(self.games), self.num_actions)
        if game_index_B is not None:
            # Not len(): it would be a constant in an exported program.
            rows_B = torch.arange(logits_BGA.shape[0], device=logits_BGA.device)
            return logits_BGA[rows_B, game_index_B]
        if self._acting_index is None:
            raise ValueError(
                "a student with per-game heads needs to know the game: pass game_index_B, "
                "or call act_as(game) once"
            )
        return logits_BGA[:, self._acting_index]

    def _index_of(self, game: str) -> int:
        if game not in self.games:
            raise ValueError(f"the student does not play {game!r}; it has {', '.join(self.games)}")
        return self.games.index(game)


def _check_games(games: Sequence[str], teacher_feature_sizes: Mapping[str, int]) -> None:
    if isinstance(games, str) or not games:
        raise ValueError(f"games is {games!r}; it must be a sequence with at least one name")
    if len(set(games)) != len(games):
        raise ValueError(f"a game is named twice in {', '.join(games)}")
    strangers = [game for game in teacher_feature_sizes if game not in games]
    if strangers:
        raise ValueError(
            f"teacher features were announced for {', '.join(strangers)}, "
            f"but the student's games are {', '.join(games)}"
        )
