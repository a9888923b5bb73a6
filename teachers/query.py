"""What a teacher says about given observations, as arrays that any program can read.

Whoever doubts an import asks the library it came from about the same observations, and compares.
"""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from games.spec import GameSpec, Observations
from networks.atomic_file import write_atomically
from teachers.expert import Expert
from teachers.references import load_teacher
from teachers.targets import teacher_policy

_BATCH = 256


def answer(
    reference: str, observations: Path, out: Path, *, tau: float | None, default_tau: float
) -> str:
    """Write what the teacher says; returns one line about it."""
    if tau is not None and not 0 < tau < float("inf"):
        raise ValueError(f"temperature must be a positive number, got {tau}")
    if out.suffix != ".npz":
        raise ValueError(f"{out} must end in .npz")
    teacher = load_teacher(reference)
    if tau is None:
        is_policy = teacher.card.architecture.head == "policy"
        tau = 1.0 if is_policy else default_tau
    asked = read_observations(observations, teacher.spec)
    answers = ask(teacher, asked, tau=tau)
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **answers)
    try:
        write_atomically(out, buffer.getvalue())
    except OSError as error:
        raise ValueError(f"cannot write {out}: {error.strerror}") from None
    arrays = ", ".join(f"{name} {list(array.shape)}" for name, array in answers.items())
    return f"{out}: {teacher.spec.name}, temperature {tau:g}: {arrays}"


def read_observations(path: Path, spec: GameSpec) -> Observations:
    """Observations [N, ...] of the game from a .npy file, which cannot run code."""
    # Not Path.is_file: it raises for a name that is too long.
    if not os.path.isfile(path):
        raise ValueError(f"{path} does not exist or is not a file")
    dtype, shape = spec.frame_dtype, spec.observation_shape
    wanted = f"{dtype.__name__} [N, {', '.join(map(str, shape))}] in a .npy file"
    try:
        loaded = np.load(path, allow_pickle=False)
    # A header may claim more than any memory holds, or than any size can be.
    except (ValueError, OSError, EOFError, MemoryError, OverflowError) as error:
        raise ValueError(f"{path} is not {wanted}: {' '.join(str(error).split())}") from None
    if not isinstance(loaded, np.ndarray):
        raise ValueError(f"{path} is not {wanted}, but an archive of several arrays")
    if loaded.dtype != dtype or loaded.shape[1:] != shape or not len(loaded):
        raise ValueError(f"{path} holds {loaded.dtype} {list(loaded.shape)}, not {wanted}")
    observations: Observations = loaded
    return observations


def ask(
    teacher: Expert, observations: Observations, *, tau: float
) -> dict[str, NDArray[np.generic]]:
    """The teacher's answers.

    Returns:
        `q_values` [N, A] as the network gives them (a policy's logits), of illegal actions without
        meaning; `probabilities` [N, A], exactly 0 for illegal actions; `actions` [N], the best
        legal ones; `values` [N]; `features` [N, F]; `legal` [A].
    """
    parts: dict[str, list[NDArray[np.generic]]] = {}
    for start in range(0, len(observations), _BATCH):
        batch = torch.from_numpy(np.ascontiguousarray(observations[start : start + _BATCH]))
        labels = teacher.label(batch)
        probabilities = teacher_policy(labels.logits_BA, teacher.legal_A, tau)
        for name, tensor in {
            "q_values": teacher.q_values(batch),
            "probabilities": probabilities,
            "actions": labels.logits_BA.masked_fill(~teacher.legal_A, -torch.inf).argmax(1),
            "values": labels.values_B,
            "features": labels.features_BF,
        }.items():
            parts.setdefault(name, []).append(tensor.numpy())
    answers = {name: np.concatenate(arrays) for name, arrays in parts.items()}
    return {**answers, "legal": teacher.legal_A.numpy()}
