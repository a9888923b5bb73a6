"""RLlib's prioritized buffer, in the process that uses it (as its DQN does).

`add` takes a SampleBatch of a chunk and, with storage unit timesteps, stores its rows one by one;
`sample` concatenates the rows that were drawn.
"""

from __future__ import annotations

import numpy as np
from peer_rounds import PRIORITY_EXPONENT, measure_in_process
from ray.rllib.policy.sample_batch import SampleBatch
from ray.rllib.utils.replay_buffers import PrioritizedReplayBuffer


class Buffer:
    """The calls that are measured."""

    def __init__(self, items, options):
        self._items = items
        self._batch_size = options.batch_size
        self._buffer = PrioritizedReplayBuffer(
            capacity=options.capacity, storage_unit="timesteps", alpha=PRIORITY_EXPONENT
        )

    def insert(self, rows):
        """Store a chunk: a slice of the recorded transitions."""
        # What is stored is a view of what was given; other libraries copy it themselves.
        columns = {name: array[rows].copy() for name, array in self._items.columns.items()}
        columns["weights"] = self._items.priorities[rows] + np.float32(1e-6)
        self._buffer.add(SampleBatch(columns))

    def finish_inserting(self):
        """Everything is stored when `insert` returns."""

    def sample(self):
        """One batch; returns (its keys, its bytes)."""
        batch = self._buffer.sample(self._batch_size, beta=0.4)
        arrays = [value for value in batch.values() if isinstance(value, np.ndarray)]
        return batch["batch_indexes"], sum(array.nbytes for array in arrays)

    def update(self, keys, priorities):
        """Set priorities of the transitions that were drawn."""
        self._buffer.update_priorities(keys, priorities)


if __name__ == "__main__":
    measure_in_process("rllib", Buffer, package="ray")
