"""cpprb's prioritized buffer, in the process that uses it.

`add` takes a whole chunk at once, `sample` returns arrays of its own: the fastest way it documents.
Frames are kept four for each transition: `stack_compress` shares them only within one environment's
unbroken run of steps, which a buffer fed by many environments in turn has not.
"""

from __future__ import annotations

from cpprb import PrioritizedReplayBuffer
from peer_rounds import PRIORITY_EXPONENT, measure_in_process


class Buffer:
    """The calls that are measured."""

    def __init__(self, items, options):
        columns = {
            # A scalar's shape is given as 1: with NumPy 2 it cannot be ().
            name: {"shape": array.shape[1:] or 1, "dtype": array.dtype}
            for name, array in items.columns.items()
        }
        self._items = items
        self._batch_size = options.batch_size
        self._buffer = PrioritizedReplayBuffer(options.capacity, columns, alpha=PRIORITY_EXPONENT)

    def insert(self, rows):
        """Store a chunk: a slice of the recorded transitions."""
        columns = {name: array[rows] for name, array in self._items.columns.items()}
        self._buffer.add(priorities=self._items.priorities[rows], **columns)

    def finish_inserting(self):
        """Everything is stored when `insert` returns."""

    def sample(self):
        """One batch; returns (its keys, its bytes)."""
        batch = self._buffer.sample(self._batch_size, beta=0.4)
        return batch["indexes"], sum(array.nbytes for array in batch.values())

    def update(self, keys, priorities):
        """Set priorities of the transitions that were drawn."""
        self._buffer.update_priorities(keys, priorities)


if __name__ == "__main__":
    measure_in_process("cpprb", Buffer, package="cpprb")
