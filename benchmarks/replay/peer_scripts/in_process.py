"""Prioritized buffers of other libraries, in the process that uses them; each imports its own.

A buffer has insert(rows), finish_inserting(), sample() -> (keys, bytes), update(keys, priorities).
Its rows are whole transitions with four frames each: none of
them shares frames between transitions of many environments in turn (cpprb's `stack_compress` does
within one environment's unbroken run of steps).
"""

from __future__ import annotations

import numpy as np
from measure_peer import PRIORITY_EXPONENT


class _Buffer:
    """What they have in common: everything is stored when `insert` returns."""

    def __init__(self, items, options):
        self._items = items
        self._batch_size = options.batch_size

    def finish_inserting(self):
        pass


class _Cpprb(_Buffer):
    """`add` takes a whole chunk, `sample` returns new arrays: the fastest way it documents."""

    def __init__(self, items, options):
        from cpprb import PrioritizedReplayBuffer

        super().__init__(items, options)
        columns = {
            # A scalar's shape is given as 1: with NumPy 2 it cannot be ().
            name: {"shape": array.shape[1:] or 1, "dtype": array.dtype}
            for name, array in items.columns.items()
        }
        self._buffer = PrioritizedReplayBuffer(options.capacity, columns, alpha=PRIORITY_EXPONENT)

    def insert(self, rows):
        columns = {name: array[rows] for name, array in self._items.columns.items()}
        self._buffer.add(priorities=self._items.priorities[rows], **columns)

    def sample(self):
        batch = self._buffer.sample(self._batch_size, beta=0.4)
        return batch["indexes"], sum(array.nbytes for array in batch.values())

    def update(self, keys, priorities):
        self._buffer.update_priorities(keys, priorities)


class _Rllib(_Buffer):
    """`add` stores the rows of a chunk one by one (storage unit timesteps), `sample` joins rows."""

    def __init__(self, items, options):
        from ray.rllib.utils.replay_buffers import PrioritizedReplayBuffer

        super().__init__(items, options)
        self._buffer = PrioritizedReplayBuffer(
            capacity=options.capacity, storage_unit="timesteps", alpha=PRIORITY_EXPONENT
        )

    def insert(self, rows):
        from ray.rllib.policy.sample_batch import SampleBatch

        # What is stored is a view of what was given; other libraries copy it themselves.
        columns = {name: array[rows].copy() for name, array in self._items.columns.items()}
        columns["weights"] = self._items.priorities[rows] + np.float32(1e-6)
        self._buffer.add(SampleBatch(columns))

    def sample(self):
        batch = self._buffer.sample(self._batch_size, beta=0.4)
        arrays = [value for value in batch.values() if isinstance(value, np.ndarray)]
        return batch["batch_indexes"], sum(array.nbytes for array in arrays)

    def update(self, keys, priorities):
        self._buffer.update_priorities(keys, priorities)


class _Torchrl(_Buffer):
    """One tensor for each field, `extend` takes a chunk, priorities in C++ segment trees."""

    def __init__(self, items, options):
        import torch
        from tensordict import TensorDict
        from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer
        from torchrl.data.replay_buffers.samplers import PrioritizedSampler

        super().__init__(items, options)
        torch.set_num_threads(1)
        self._tensor = torch.from_numpy
        columns = {name: torch.from_numpy(array) for name, array in items.columns.items()}
        columns["td_error"] = torch.from_numpy(items.priorities) + 1e-6
        self._rows = TensorDict(columns, batch_size=[len(items)])
        self._buffer = TensorDictReplayBuffer(
            storage=LazyTensorStorage(options.capacity),
            sampler=PrioritizedSampler(options.capacity, alpha=PRIORITY_EXPONENT, beta=0.4),
            batch_size=options.batch_size,
            priority_key="td_error",
        )

    def insert(self, rows):
        self._buffer.extend(self._rows[rows])

    def sample(self):
        batch = self._buffer.sample()
        tensors = batch.values(include_nested=True, leaves_only=True)
        return batch["index"], sum(tensor.nbytes for tensor in tensors)

    def update(self, keys, priorities):
        self._buffer.update_priority(keys, self._tensor(priorities))


# By library: what makes its buffer of (items, options), and the package that was installed.
BUFFERS = {
    "cpprb": (_Cpprb, "cpprb"),
    "rllib": (_Rllib, "ray"),
    "torchrl": (_Torchrl, "torchrl"),
}
