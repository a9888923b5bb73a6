"""A fixed set of states that students of different training are compared on.

    FOLDER/held_out/GAME.npz      states of one game and what its teacher says of them
    FOLDER/held_out/index.json    their checksums; written last

Both networks have played them: half of the environments are played by the teacher, the other half
by a student that has a third of the training behind it, and one action in ten is random. Every
tenth step counts, each state once: nothing here knows of priorities.

Shape suffixes:
    N  states
    A  joint action set
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from actors.policy import EpsilonGreedy
from games.env import VectorEnv
from games.registry import get_game
from networks.atomic_file import write_atomically
from networks.masking import masked_argmax
from teachers.expert import Expert
from teachers.targets import mimic_distance

_STRIDE = 10
"""Steps from one state of an environment to the next: neighbours are nearly the same picture."""
_EPSILON = 0.1
_AT_ONCE = 250
"""States that go through a network together."""


@dataclass(frozen=True, slots=True)
class HeldOutStates:
    """States of one game, and the teacher's answers."""

    game: str
    observations: NDArray[np.uint8]
    """[N, S*C, H, W]."""
    teacher_logits: NDArray[np.float32]
    """[N, A] Q minus its maximum over legal actions."""

    @property
    def checksum(self) -> str:
        """Of every byte and of the shapes."""
        digest = hashlib.blake2b(digest_size=16)
        for array in (self.observations, self.teacher_logits):
            digest.update(f"{array.dtype.str} {array.shape}\n".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Comparison:
    """Of a student with the teacher."""

    kl: float
    """Mean KL divergence in nats from the teacher's softened policy to the student's."""
    agreement: float
    """Share of states in which both prefer the same legal action."""


def play_states(
    env: VectorEnv, teacher: Expert, student: nn.Module, *, num_states: int, seed: int
) -> HeldOutStates:
    """Play until there are enough states.

    Args:
        env: at least two environments, of the teacher's game.
        teacher: plays the second half of them.
        student: observations to scores [N, A]; plays the first half.
        num_states: N.
        seed: of the random actions.
    """
    policy = EpsilonGreedy(env.spec.legal_mask(), np.random.default_rng(seed))
    epsilons = np.full(env.num_envs, _EPSILON, np.float32)
    half = env.num_envs // 2
    seen: list[NDArray[np.uint8]] = []
    labels: list[NDArray[np.float32]] = []
    observations, steps = env.reset(), 0
    while sum(map(len, seen)) < num_states:
        frames = torch.from_numpy(observations)
        logits = teacher.label(frames).logits_BA.numpy()
        scores = logits.copy()
        with torch.inference_mode():
            scores[:half] = student(frames[:half]).numpy()
        step = env.step(policy(scores, epsilons))
        # A state in which nobody plays, between two episodes, is none.
        if steps % _STRIDE == _STRIDE - 1:
            seen.append(observations[~step.restarted])
            labels.append(logits[~step.restarted])
        observations, steps = step.observations, steps + 1
    return HeldOutStates(
        env.spec.name,
        np.concatenate(seen)[:num_states],
        np.concatenate(labels)[:num_states],
    )


def compare(student: nn.Module, states: HeldOutStates, *, temperature: float) -> Comparison:
    """Ask a student for its policy in every state; `temperature` is the teacher's."""
    legal_A = torch.from_numpy(get_game(states.game).legal_mask())[None]
    kl, agreed = 0.0, 0
    for start in range(0, len(states.observations), _AT_ONCE):
        rows = slice(start, start + _AT_ONCE)
        logits_NA = torch.from_numpy(states.teacher_logits[rows])
        with torch.inference_mode():
            scores_NA = student(torch.from_numpy(states.observations[rows]))
            kl_N = mimic_distance(scores_NA, logits_NA, legal_A, temperature=temperature, kind="kl")
            same_N = masked_argmax(scores_NA, legal_A) == masked_argmax(logits_NA, legal_A)
        kl += float(kl_N.double().sum())
        agreed += int(same_N.sum())
    return Comparison(kl / len(states.observations), agreed / len(states.observations))


def open_states(
    folder: Path, make: Callable[[], Mapping[str, HeldOutStates]]
) -> dict[str, HeldOutStates]:
    """The states in a folder, by game; made and saved if there are none yet.

    Raises:
        ValueError: what lies there is not what was saved.
    """
    if not _index_path(folder).exists():
        _save(folder, make())
    # Read again even when just made, so that every session compares with the very same bytes.
    return load_states(folder)


def load_states(folder: Path) -> dict[str, HeldOutStates]:
    """The states in a folder, by game; ValueError if they are not what was saved."""
    index = json.loads(_index_path(folder).read_text())
    return {game: _load(folder, game, checksum) for game, checksum in index.items()}


def _save(folder: Path, states: Mapping[str, HeldOutStates]) -> None:
    _index_path(folder).parent.mkdir(parents=True, exist_ok=True)
    for game, held in states.items():
        file = io.BytesIO()
        np.savez_compressed(
            file, observations=held.observations, teacher_logits=held.teacher_logits
        )
        write_atomically(_path(folder, game), file.getvalue())
    index = {game: held.checksum for game, held in states.items()}
    write_atomically(_index_path(folder), json.dumps(index, indent=1).encode())


def _load(folder: Path, game: str, checksum: str) -> HeldOutStates:
    path = _path(folder, game)
    try:
        # From memory: NumPy leaves a damaged file open.
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            states = HeldOutStates(game, file["observations"], file["teacher_logits"])
    # zipfile and zlib have errors of their own for a damaged file.
    except Exception as error:
        raise ValueError(f"{path} cannot be read ({error}); begin in a new folder") from error
    if states.checksum != checksum:
        raise ValueError(
            f"{path} is not the set of states that this ablation began with (its checksum does "
            "not fit); begin in a new folder"
        )
    return states


def _path(folder: Path, game: str) -> Path:
    return folder / "held_out" / f"{game}.npz"


def _index_path(folder: Path) -> Path:
    return folder / "held_out" / "index.json"
