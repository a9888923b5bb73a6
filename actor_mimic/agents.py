"""Networks that play: students and teachers, asked for actions by programs that know no tensors.

Shape letters: B observations, S stacked frames, C channels, H, W, A joint action set.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from games.registry import get_game
from games.spec import GameSpec, Observations
from networks.masking import masked_argmax, masked_softmax
from networks.network import MultitaskNetwork
from recipes.student import find_student
from records.latest import follow_latest
from teachers.expert import Expert
from teachers.references import load_teacher as load_expert


class Agent(ABC):
    """A frozen network that plays one game or several, on the CPU.

    Observations are those of `GameEnv`: uint8 [S*C, H, W], or float32 [S*C] of vectors; with an
    axis B before for several at once.
    The actions that it gives are joint action ids, legal in the game.
    """

    def __init__(self, specs: Mapping[str, GameSpec], temperatures: Mapping[str, float]) -> None:
        """Play the games in `specs`; a game's temperature makes a policy of the scores."""
        self._specs = specs
        self._temperatures = temperatures
        self._game = next(iter(specs)) if len(specs) == 1 else None
        self._random = np.random.default_rng()

    @property
    def games(self) -> tuple[str, ...]:
        """Names of the games that it plays."""
        return tuple(self._specs)

    def playing(self, game: str) -> Self:
        """The same agent, for calls that do not name the game; ValueError if it has no such one."""
        bound = copy.copy(self)
        bound._game = self._name(game)
        return bound

    def act(self, observation: Observations, game: str | None = None) -> Any:
        """The best legal action: int for one observation, int64 [B] for a batch.

        Args:
            observation: as GameEnv gives it.
            game: needed unless the agent plays one game only, or `playing` has named it.

        Raises:
            ValueError: a game that it does not play, or an observation of another shape or type.
        """
        spec = self._specs[self._name(game)]
        batch_BCHW, is_single = _as_batch(observation, spec)
        legal_A = torch.from_numpy(spec.legal_mask())
        actions: NDArray[np.int64] = masked_argmax(self._scores(batch_BCHW, spec), legal_A).numpy()
        return int(actions[0]) if is_single else actions

    def policy(self, observation: Observations, game: str | None = None) -> NDArray[np.float32]:
        """Probabilities, float32 [A] or [B, A], exactly 0 for illegal actions.

        They are softmax(scores / temperature), with the temperature by which a student's scores
        mean a policy, and 1 for teachers.

        Raises:
            ValueError: as `act`.
        """
        spec = self._specs[self._name(game)]
        batch_BCHW, is_single = _as_batch(observation, spec)
        scores_BA = self._scores(batch_BCHW, spec) / self._temperatures[spec.name]
        legal_A = torch.from_numpy(spec.legal_mask())
        probabilities: NDArray[np.float32] = masked_softmax(scores_BA, legal_A).numpy()
        return probabilities[0] if is_single else probabilities

    def predict(
        self,
        observation: Observations,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = True,
    ) -> tuple[NDArray[np.int64], None]:
        """The signature of Stable-Baselines3, so that its `evaluate_policy` can play an agent.

        Args:
            observation: as for `act`.
            state: ignored: the network has no memory.
            episode_start: ignored as well.
            deterministic: False draws the action from `policy`.

        Returns:
            int64 [] or [B], and no state.
        """
        del state, episode_start
        if deterministic:
            return np.asarray(self.act(observation), np.int64), None
        probabilities = self.policy(observation)
        # The first action whose cumulated probability passes a uniform number.
        thresholds = self._random.random((*probabilities.shape[:-1], 1))
        cumulated = probabilities.cumsum(-1, dtype=np.float64)
        passed = thresholds * cumulated[..., -1:] < cumulated
        return passed.argmax(-1).astype(np.int64), None

    @abstractmethod
    def _scores(self, observations_BCHW: Tensor, spec: GameSpec) -> Tensor:
        """scores_BA, float32, in one game; those of illegal actions have no meaning."""

    def _name(self, game: str | None) -> str:
        name = self._game if game is None else game
        if name is None:
            raise ValueError(f"which game? Name one of {', '.join(self._specs)}")
        if name not in self.games:
            raise ValueError(f"it does not play {name!r}; it has {', '.join(self._specs)}")
        return name


class Student(Agent):
    """A trained student."""

    def __init__(self, network: MultitaskNetwork, temperatures: Mapping[str, float]) -> None:
        """Take over a network; it must not be trained meanwhile."""
        super().__init__({game: get_game(game) for game in network.games}, temperatures)
        self.network = network.eval()

    @classmethod
    def load(cls, source: str | Path) -> Student:
        """The student of a run's folder, a student's own, an export, or hf://OWNER/REPO.

        `runs/latest` stands for the newest run there, as on the command line.

        Raises:
            ValueError: there is none, or it is damaged.
        """
        found = find_student(follow_latest(str(source)))
        network = found.load()
        return cls(network, {game: found.student_temperature(game) for game in network.games})

    def _scores(self, observations_BCHW: Tensor, spec: GameSpec) -> Tensor:
        index_B = torch.full((len(observations_BCHW),), self.network.games.index(spec.name))
        with torch.inference_mode():
            scores_BA: Tensor = self.network(observations_BCHW, index_B)
        return scores_BA


class Teacher(Agent):
    """An expert of one game, with its card."""

    def __init__(self, expert: Expert) -> None:
        """Take over an expert."""
        super().__init__({expert.spec.name: expert.spec}, MappingProxyType({expert.spec.name: 1.0}))
        self.expert = expert

    @classmethod
    def load(cls, reference: str | Path) -> Teacher:
        """A shipped expert by its game, a GAME.safetensors with its card, or one on the Hub.

        Raises:
            ValueError: there is none, it is damaged, or it is another library's checkpoint, with
                the command that imports it.
        """
        return cls(load_expert(reference))

    def _scores(self, observations_BCHW: Tensor, spec: GameSpec) -> Tensor:
        return self.expert.q_values(observations_BCHW)


def load_teacher(reference: str | Path) -> Teacher:
    """The same as `Teacher.load`."""
    return Teacher.load(reference)


def _as_batch(observation: Observations, spec: GameSpec) -> tuple[Tensor, bool]:
    """(observations [B, ...], whether it was a single one)."""
    array = np.asarray(observation)
    if spec.is_vector and array.dtype.kind in "fiu":
        array = array.astype(np.float32)  # Environments give theirs in other types, too.
    is_single = array.ndim == len(spec.observation_shape)
    batch = array[None] if is_single else array
    dtype, shape = spec.frame_dtype, spec.observation_shape
    if batch.dtype != dtype or batch.shape[1:] != shape or not len(batch):
        raise ValueError(
            f"an observation of {spec.name!r} is {dtype.__name__} {list(shape)}, or several "
            f"of them, not {array.dtype} {list(array.shape)}"
        )
    # PyTorch warns of arrays that cannot be written to, as views and other libraries' may be.
    return torch.from_numpy(np.require(batch, requirements=["C", "W"])), is_single
