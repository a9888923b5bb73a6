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

    Observations are those of `GameEnv`: uint8 `[S*C, H, W]`, or float32 `[S*C]` of vectors; with
    an axis B before for several at once.
    The actions that it gives are joint action ids, legal in the game.
    """

    def __init__(self, specs: Mapping[str, GameSpec], temperatures: Mapping[str, float]) -> None:
        """Play the games in `specs`; a game's temperature makes a policy of the scores."""
        self._specs = specs
        self._temperatures = temperatures
        self._game = next(iter(specs)) if len(specs) == 1 else None
        # What a network with an LSTM remembers of the episodes under way, by game.
        self._memories: dict[str, Tensor] = {}
        self._random = np.random.default_rng()

    @property
    def games(self) -> tuple[str, ...]:
        """Names of the games that it plays."""
        return tuple(self._specs)

    def playing(self, game: str) -> Self:
        """The same agent, for calls that do not name the game; ValueError if it has no such one."""
        bound = copy.copy(self)
        bound._game = self._name(game)
        bound._memories = {}
        return bound

    def forget(self) -> None:
        """Tell a network with an LSTM that episodes begin, before their first observation."""
        self._memories.clear()

    def act(self, observation: Observations, game: str | None = None) -> Any:
        """The best legal action: int for one observation, int64 [B] for a batch.

        A student with an LSTM takes each call for the next step of the same episodes, until
        `forget`.

        Args:
            observation: as GameEnv gives it.
            game: needed unless the agent plays one game only, or `playing` has named it.

        Raises:
            ValueError: a game that it does not play, or an observation of another shape or type.
        """
        spec = self._specs[self._name(game)]
        batch_BCHW, is_single = _as_batch(observation, spec)
        memory_BM = self._memories.get(spec.name)
        scores_BA, self._memories[spec.name] = self._look(batch_BCHW, spec, memory_BM)
        actions: NDArray[np.int64] = masked_argmax(scores_BA, _legal(spec)).numpy()
        return int(actions[0]) if is_single else actions

    def policy(self, observation: Observations, game: str | None = None) -> NDArray[np.float32]:
        """Probabilities, float32 [A] or [B, A], exactly 0 for illegal actions.

        They are softmax(scores / temperature), with the temperature by which a student's scores
        mean a policy, and 1 for teachers. Nothing is remembered of the call: `act` may follow for
        the same observation.

        Raises:
            ValueError: as `act`.
        """
        spec = self._specs[self._name(game)]
        batch_BCHW, is_single = _as_batch(observation, spec)
        scores_BA, _ = self._look(batch_BCHW, spec, self._memories.get(spec.name))
        probabilities = self._policy(scores_BA, spec)
        return probabilities[0] if is_single else probabilities

    def _policy(self, scores_BA: Tensor, spec: GameSpec) -> NDArray[np.float32]:
        policy_BA = masked_softmax(scores_BA / self._temperatures[spec.name], _legal(spec))
        probabilities: NDArray[np.float32] = policy_BA.numpy()
        return probabilities

    def predict(
        self,
        observation: Observations,
        state: tuple[NDArray[np.float32], ...] | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = True,
    ) -> tuple[NDArray[np.int64], tuple[NDArray[np.float32], ...] | None]:
        """The signature of Stable-Baselines3, so that its `evaluate_policy` can play an agent.

        Args:
            observation: as for `act`.
            state: what the call before has returned, for networks that remember: a tuple of one
                float32 [B, M]; None at first. `act`'s memory is another one.
            episode_start: bool [B], where an episode begins and the state is not to be read.
            deterministic: False draws the action from `policy`.

        Returns:
            int64 [] or [B], and the state; None without an LSTM.

        Raises:
            ValueError: as `act`, and for a state or an `episode_start` of another form.
        """
        spec = self._specs[self._name(None)]
        batch_BCHW, is_single = _as_batch(observation, spec)
        memory_BM = self._as_memory(state, episode_start, len(batch_BCHW))
        scores_BA, memory_BM = self._look(batch_BCHW, spec, memory_BM)
        if deterministic:
            actions: NDArray[np.int64] = masked_argmax(scores_BA, _legal(spec)).numpy()
        else:
            cumulated = self._policy(scores_BA, spec).cumsum(-1, dtype=np.float64)
            # The first action whose cumulated probability passes a uniform number.
            thresholds = self._random.random((len(cumulated), 1)) * cumulated[:, -1:]
            actions = (thresholds < cumulated).argmax(-1).astype(np.int64)
        after = (memory_BM.numpy(),) if memory_BM.shape[1] else None
        return np.asarray(actions[0]) if is_single else actions, after

    # Numbers that the network remembers; 0 without an LSTM.
    _memory_size = 0

    def _as_memory(
        self,
        state: tuple[NDArray[np.float32], ...] | None,
        episode_start: NDArray[np.bool_] | None,
        num: int,
    ) -> Tensor | None:
        """memory_BM that a state stands for, empty where episodes begin."""
        if state is None or not self._memory_size:
            return None
        parts = [np.asarray(part) for part in state] if isinstance(state, tuple) else []
        if [(part.dtype, part.shape) for part in parts] != [
            (np.dtype(np.float32), (num, self._memory_size))
        ]:
            raise ValueError(
                f"a state is what the call before has returned, a tuple of one float32 "
                f"{[num, self._memory_size]}; None begins episodes"
            )
        memory_BM = torch.from_numpy(parts[0])
        if episode_start is None:
            return memory_BM
        starts = np.asarray(episode_start, np.bool_).reshape(-1)
        if len(starts) != num:
            raise ValueError(f"episode_start says {len(starts)} times where {num} episodes begin")
        return memory_BM.masked_fill(torch.from_numpy(starts)[:, None], 0.0)

    def _look(
        self, observations_BCHW: Tensor, spec: GameSpec, memory_BM: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        if memory_BM is None or not memory_BM.shape[1]:
            return self._scores(observations_BCHW, spec, None)
        if len(memory_BM) != len(observations_BCHW):
            raise ValueError(
                f"{len(observations_BCHW)} observations follow {len(memory_BM)} in the same "
                "episodes; call forget() where episodes begin"
            )
        return self._scores(observations_BCHW, spec, memory_BM)

    @abstractmethod
    def _scores(
        self, observations_BCHW: Tensor, spec: GameSpec, memory_BM: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """(scores_BA, float32, in one game, and memory_BM after them).

        Scores of illegal actions have no meaning.
        """

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
        if network.memory is not None:
            self._memory_size = network.memory.begin(0).shape[1]

    @classmethod
    def load(cls, source: str | Path) -> Student:
        """The student of a run's folder, a student's own, an export, or hf://OWNER/REPO.

        `runs/latest` stands for the newest run there, as on the command line.

        Raises:
            ValueError: there is none, or it is damaged.
        """
        found = find_student(follow_latest(source))
        network = found.load()
        return cls(network, {game: found.student_temperature(game) for game in network.games})

    def _scores(
        self, observations_BCHW: Tensor, spec: GameSpec, memory_BM: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        index_B = torch.full((len(observations_BCHW),), self.network.games.index(spec.name))
        with torch.inference_mode():
            return self.network.look(observations_BCHW, memory_BM, index_B)


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
        return cls(load_expert(follow_latest(reference)))

    def _scores(
        self, observations_BCHW: Tensor, spec: GameSpec, memory_BM: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        return self.expert.q_values(observations_BCHW), torch.zeros(len(observations_BCHW), 0)


def load_teacher(reference: str | Path) -> Teacher:
    """The same as `Teacher.load`."""
    return Teacher.load(reference)


def _legal(spec: GameSpec) -> Tensor:
    return torch.from_numpy(spec.legal_mask())


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
    if spec.is_vector and not np.isfinite(batch).all():
        raise ValueError(f"an observation of {spec.name!r} has numbers that are not finite")
    # PyTorch warns of arrays that cannot be written to, as views and other libraries' may be.
    return torch.from_numpy(np.require(batch, requirements=["C", "W"])), is_single
