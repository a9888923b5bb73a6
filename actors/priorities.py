"""What an actor thinks of its own transitions: the priorities they enter replay with.

Priorities computed where the data are made let a transition be drawn according to its worth from
the start; entering everything at the maximum would crowd out old data when there are many actors
(Horgan et al. 2018, https://arxiv.org/abs/1803.00933, section 3).
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from actors.rows import RowWindow
from replay.n_step import n_step_returns
from teachers.targets import DistanceKind, mimic_distance


class PriorityRule(Protocol):
    """Gives each row that leaves the window its priority."""

    # Rows that must follow before a row's priority is known.
    num_lookahead: int

    def __call__(self, rows: RowWindow) -> NDArray[np.float32]:
        """Non-negative float32 [T, N] for the window's oldest T rows."""
        ...


class PolicyDistance:
    """Distance between the student's and the teacher's policy in the state: L1 or KL.

    Never the cross-entropy: its floor is the teacher's own entropy, which at temperature 1 is
    nearly the same for all states, so that prioritized replay would be uniform.
    """

    num_lookahead = 0

    def __init__(self, legal: NDArray[np.bool_], *, temperature: float, kind: DistanceKind) -> None:
        """Compare over `legal`, bool [A], with the teacher at `temperature`."""
        self._legal = torch.from_numpy(legal)[None]
        self._temperature = temperature
        self._kind: DistanceKind = kind

    def __call__(self, rows: RowWindow) -> NDArray[np.float32]:
        """[T, N]."""
        student = rows["student_logits"][: rows.chunk_steps]
        teacher = rows["teacher_logits"][: rows.chunk_steps]
        distance_B = mimic_distance(
            torch.from_numpy(student.reshape(-1, student.shape[-1])),
            torch.from_numpy(teacher.reshape(-1, teacher.shape[-1])),
            self._legal,
            temperature=self._temperature,
            kind=self._kind,
        )
        return distance_B.numpy().reshape(student.shape[:2]).astype(np.float32)


class Alike:
    """The same priority for every transition: where only the learner can tell them apart."""

    num_lookahead = 0

    def __call__(self, rows: RowWindow) -> NDArray[np.float32]:
        """[T, N]."""
        return np.ones((rows.chunk_steps, rows.num_envs), np.float32)


class TdError:
    """Size of the n-step TD error, from Q-values that the actor has anyway."""

    def __init__(
        self, legal: NDArray[np.bool_], *, num_steps: int, gamma: float, reward_clip: float
    ) -> None:
        """Bootstrap over `legal`, bool [A], after `num_steps`; rewards clipped to +-reward_clip."""
        self.num_lookahead = num_steps
        self._legal = legal
        self._gamma = gamma
        self._reward_clip = reward_clip

    def __call__(self, rows: RowWindow) -> NDArray[np.float32]:
        """[T, N]."""
        count, num_envs = rows.chunk_steps, rows["actions"].shape[1]
        ahead = np.arange(self.num_lookahead)[:, None] + np.arange(count)  # [n, T]
        # [n, T, N] -> [T * N, n]
        rewards = np.clip(rows["rewards"][ahead], -self._reward_clip, self._reward_clip)
        discounts = rows["discounts"][ahead]
        # The sum ends where nothing was played: at a truncated episode's last observation, which
        # it bootstraps from, or behind a real end, where its discount is 0 already.
        goes_on = np.cumprod(rows["is_transition"][ahead], axis=0)
        lengths = goes_on.sum(axis=0).reshape(-1).astype(np.int64)
        returns, bootstrap = n_step_returns(
            np.moveaxis(rewards, 0, -1).reshape(count * num_envs, -1),
            np.moveaxis(discounts, 0, -1).reshape(count * num_envs, -1),
            lengths,
            gamma=self._gamma,
        )
        row, env = np.divmod(np.arange(count * num_envs), num_envs)
        best = rows["student_logits"][..., self._legal].max(axis=-1)
        targets = returns + bootstrap * best[row + lengths, env]
        taken = rows["student_logits"][row, env, rows["actions"][row, env]]
        error: NDArray[np.float32] = np.abs(targets - taken).reshape(count, num_envs)
        return error.astype(np.float32)
