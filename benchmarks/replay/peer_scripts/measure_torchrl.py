"""TorchRL's prioritized buffer, in the process that uses it.

Storage is one tensor for each field (LazyTensorStorage), `extend` takes a whole chunk, and the
priorities are in its C++ segment trees.
"""

from __future__ import annotations

import torch
from peer_rounds import PRIORITY_EXPONENT, measure_in_process
from tensordict import TensorDict
from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer
from torchrl.data.replay_buffers.samplers import PrioritizedSampler


class Buffer:
    """The calls that are measured."""

    def __init__(self, items, options):
        columns = {name: torch.from_numpy(array) for name, array in items.columns.items()}
        columns["td_error"] = torch.from_numpy(items.priorities) + 1e-6
        self._items = TensorDict(columns, batch_size=[len(items)])
        self._batch_size = options.batch_size
        self._sampler = PrioritizedSampler(options.capacity, alpha=PRIORITY_EXPONENT, beta=0.4)
        self._buffer = TensorDictReplayBuffer(
            storage=LazyTensorStorage(options.capacity),
            sampler=self._sampler,
            batch_size=options.batch_size,
            priority_key="td_error",
        )

    def insert(self, rows):
        """Store a chunk: a slice of the recorded transitions."""
        self._buffer.extend(self._items[rows])

    def finish_inserting(self):
        """Everything is stored when `insert` returns."""

    def sample(self):
        """One batch; returns (its keys, its bytes)."""
        batch = self._buffer.sample()
        tensors = batch.values(include_nested=True, leaves_only=True)
        return batch["index"], sum(tensor.nbytes for tensor in tensors)

    def update(self, keys, priorities):
        """Set priorities of the transitions that were drawn."""
        self._buffer.update_priority(keys, torch.from_numpy(priorities))


if __name__ == "__main__":
    torch.set_num_threads(1)
    measure_in_process("torchrl", Buffer, package="torchrl")
