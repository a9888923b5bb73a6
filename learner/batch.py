"""A replay batch as tensors on the learner's device.

A batch may lie in memory that replay fills again once the next one is asked for, so nothing made
here looks into it: each array is copied once, to pinned memory on its way to a GPU, or into the
layout that the CPU computes with.

Replay balances the games of what it gives, and importance weights are divided by the largest: both
are of the part that one of several replicas has drawn. `pool_weights` makes them those of the whole
batch, so that the mean over the replicas is what a lone learner would have made of all rows.

Shape suffixes:
    B  transitions in the batch, all games mixed
    A  joint action set
    D  features of the widest teacher
    G  games
    R  replicas
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from learner.replicas import Replicas
from replay.n_step import n_step_returns
from replay.types import Columns, FrameArray, Int64Array, ItemKeys, SampleBatch


@dataclass(frozen=True, slots=True, kw_only=True)
class TemporalDifferenceBatch:
    """What value learning needs besides: n-step returns with clipped rewards."""

    returns_B: Tensor
    bootstrap_discounts_B: Tensor
    bootstrap_observations_BCHW: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceTensors:
    """What makes the rows of a batch Q sequences of T steps; see replay.types.Sequences."""

    # T; rows are ordered by sequence, then by time: reshape [B] to [Q, T].
    length: int
    # bool, False for rows that repeat the last step of a sequence that ended early.
    is_step_B: Tensor
    can_bootstrap_Q: Tensor
    # Zeros where there is nothing to bootstrap from.
    bootstrap_observations_QCHW: Tensor
    # What was stored of each first step alone, by the names in replay/columns.py.
    starts: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def num_steps_Q(self) -> Tensor:
        """int64, the steps of each sequence."""
        return self.is_step_B.view(-1, self.length).sum(1)

    def take(self, places: Tensor, rows: Tensor) -> SequenceTensors:
        """The sequences at some places, which have these rows."""
        return SequenceTensors(
            length=self.length,
            is_step_B=self.is_step_B[rows],
            can_bootstrap_Q=self.can_bootstrap_Q[places],
            bootstrap_observations_QCHW=self.bootstrap_observations_QCHW[places],
            starts={name: values[places] for name, values in self.starts.items()},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceBatch:
    """Tensors of one SampleBatch, and the keys to send its new priorities back with."""

    games: tuple[str, ...]
    keys: ItemKeys
    # [G] Rows of each game; the rows are ordered by game.
    game_counts: tuple[int, ...]
    observations_BCHW: Tensor
    actions_B: Tensor
    game_index_B: Tensor
    teacher_logits_BA: Tensor
    teacher_features_BD: Tensor
    inverse_probabilities_B: Tensor
    loss_weights_B: Tensor
    # [B] Encoded versions of the weights that acted; on the host.
    acting_versions: Int64Array
    temporal_difference: TemporalDifferenceBatch | None
    sequences: SequenceTensors | None = None
    # All columns of a batch of sequences, by the names in replay/columns.py; empty for single
    # steps, whose objectives need no others than the fields above.
    columns: Mapping[str, Tensor] = field(default_factory=dict)
    # Largest inverse probability of the whole batch, where this is one replica's part of it.
    largest_inverse: Tensor | None = None

    def take(self, places: Tensor) -> DeviceBatch:
        """Some of the transitions, or of the sequences where there are such, for looking at them.

        Args:
            places: int64, ascending; of sequences or transitions, counted from 0.

        Returns:
            A batch that no priorities can be sent back for: it has the keys of all rows.
        """
        length = self.sequences.length if self.sequences else 1
        steps = torch.arange(length, device=places.device)
        rows = (places[:, None] * length + steps).flatten()
        counts = torch.bincount(self.game_index_B[rows].long(), minlength=len(self.games))
        successors, sequences = self.temporal_difference, self.sequences
        return replace(
            self,
            **{name: getattr(self, name)[rows] for name in _OF_ROWS},
            game_counts=tuple(counts.tolist()),
            acting_versions=self.acting_versions[rows.cpu().numpy()],
            temporal_difference=successors and _take_fields(successors, rows),
            sequences=sequences and sequences.take(places, rows),
            columns={name: column[rows] for name, column in self.columns.items()},
        )


_OF_ROWS = (
    "observations_BCHW",
    "actions_B",
    "game_index_B",
    "teacher_logits_BA",
    "teacher_features_BD",
    "inverse_probabilities_B",
    "loss_weights_B",
)


def _take_fields(part: TemporalDifferenceBatch, rows: Tensor) -> TemporalDifferenceBatch:
    return TemporalDifferenceBatch(
        returns_B=part.returns_B[rows],
        bootstrap_discounts_B=part.bootstrap_discounts_B[rows],
        bootstrap_observations_BCHW=part.bootstrap_observations_BCHW[rows],
    )


class BatchLoader:
    """Copies batches to the device; to a GPU through pinned memory, without waiting for it.

    A batch is done with when its call returns, but for its keys, which are handed on as they are.
    """

    def __init__(self, device: torch.device, *, gamma: float, reward_clip: float) -> None:
        """Load to `device`; `gamma` and `reward_clip` make the n-step returns."""
        self._device = device
        self._gamma = gamma
        self._reward_clip = reward_clip

    def __call__(self, batch: SampleBatch) -> DeviceBatch:
        """Copy a batch to the device."""
        counts = np.bincount(batch.game_index, minlength=len(batch.games))
        return DeviceBatch(
            games=batch.games,
            keys=batch.keys,
            game_counts=tuple(counts.tolist()),
            observations_BCHW=self._observations(batch.observations),
            actions_B=self._tensor(batch["actions"]),
            game_index_B=self._tensor(batch.game_index),
            teacher_logits_BA=self._floats(batch["teacher_logits"]),
            teacher_features_BD=self._floats(batch["teacher_features"]),
            inverse_probabilities_B=self._tensor(batch.inverse_probabilities),
            loss_weights_B=self._tensor(batch.loss_weights),
            acting_versions=batch["weights_versions"].copy(),
            temporal_difference=self._temporal_difference(batch),
            sequences=self._sequences(batch),
            columns=self._columns(batch.columns) if batch.sequences is not None else {},
        )

    def _columns(self, columns: Columns) -> dict[str, Tensor]:
        return {
            name: self._floats(array) if array.dtype == np.float16 else self._tensor(array)
            for name, array in columns.items()
        }

    def _sequences(self, batch: SampleBatch) -> SequenceTensors | None:
        sequences = batch.sequences
        if sequences is None:
            return None
        return SequenceTensors(
            length=sequences.length,
            is_step_B=self._tensor(sequences.is_step.reshape(-1)),
            can_bootstrap_Q=self._tensor(sequences.can_bootstrap),
            bootstrap_observations_QCHW=self._observations(sequences.bootstrap_observations),
            starts=self._columns(sequences.starts),
        )

    def _temporal_difference(self, batch: SampleBatch) -> TemporalDifferenceBatch | None:
        successors = batch.successors
        if successors is None:
            return None
        returns, discounts = n_step_returns(
            np.clip(successors.rewards, -self._reward_clip, self._reward_clip),
            successors.discounts,
            successors.lengths,
            gamma=self._gamma,
        )
        return TemporalDifferenceBatch(
            returns_B=self._tensor(returns),
            bootstrap_discounts_B=self._tensor(discounts),
            bootstrap_observations_BCHW=self._observations(successors.bootstrap_observations),
        )

    def _observations(self, array: FrameArray) -> Tensor:
        if array.ndim != 4:
            return self._tensor(array)
        # Convolutions read channels last faster, and the bytes are a quarter of the floats.
        if self._device.type == "cuda":
            return self._tensor(array).contiguous(memory_format=torch.channels_last)
        return _copy_channels_last(array)

    def _floats(self, array: NDArray[np.float16]) -> Tensor:
        """The array in single precision; on a CPU the conversion is the copy."""
        if self._device.type != "cuda":
            return torch.from_numpy(array.astype(np.float32))
        return self._tensor(array).float()

    def _tensor(self, array: NDArray[np.generic]) -> Tensor:
        if self._device.type != "cuda":
            return torch.from_numpy(array.copy())
        dtype = torch.from_numpy(np.empty(0, array.dtype)).dtype
        # PyTorch gives pinned memory to a later batch only when the copy to the GPU is done.
        pinned = torch.empty(array.shape, dtype=dtype, pin_memory=True)
        np.copyto(pinned.numpy(), array)
        return pinned.to(self._device, non_blocking=True)


def _copy_channels_last(array: FrameArray) -> Tensor:
    """Images [B, C, H, W], with the channels of a pixel side by side."""
    array = np.ascontiguousarray(array)
    # torch.from_numpy warns of read-only arrays, which nothing but another copy would silence.
    memory = (ctypes.c_uint8 * array.nbytes).from_address(array.ctypes.data)
    source = torch.frombuffer(memory, dtype=torch.uint8).view(array.shape)
    return torch.empty_like(source, memory_format=torch.channels_last).copy_(source)


def pool_weights(batch: DeviceBatch, replicas: Replicas) -> DeviceBatch:
    """The same rows, with the weights that they have in the whole batch.

    What all parts together give to a game is spread evenly over all of its rows. Replay gives each
    game the same in every part, its share, however many rows it has there; so this is what it
    would have given to one batch of all rows. Only where a part lacks a game that another one has,
    its share stays with the games that it was given to.

    Waits for the other replicas; one exchange of 2G + 1 numbers.
    """
    if replicas.size == 1:
        return batch
    sums_R2G1 = replicas.gather(_sums(batch))
    weights_G, counts_G = sums_R2G1[:, :-1].sum(0).view(2, len(batch.games))
    # A game without rows has no weight to spread either.
    pooled_G = (weights_G / counts_G.clamp(min=1.0)).float()
    weights_B = pooled_G[batch.game_index_B]
    if batch.sequences is not None:
        weights_B = weights_B * batch.sequences.is_step_B
    return replace(
        batch,
        loss_weights_B=weights_B,
        largest_inverse=sums_R2G1[:, -1].max(),
    )


def _sums(batch: DeviceBatch) -> Tensor:
    """float64 [2G + 1]: loss weights and rows of each game, and the largest 1 / P(i)."""
    weights_B = batch.loss_weights_B.double()
    weights_G = weights_B.new_zeros(len(batch.games)).index_add_(0, batch.game_index_B, weights_B)
    counts_G = weights_B.new_tensor(batch.game_counts)
    if batch.sequences is not None:
        # Rows that only repeat a step have no weight, and get none.
        is_step_B = batch.sequences.is_step_B.double()
        counts_G = torch.zeros_like(counts_G).index_add_(0, batch.game_index_B, is_step_B)
    largest = batch.inverse_probabilities_B.double().max().unsqueeze(0)
    return torch.cat([weights_G, counts_G, largest])
