"""Keeps the next batch ready: a thread samples and loads while the learner updates.

Sampling waits for other processes and loading copies memory, both of which leave the interpreter
free for the update at hand.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable

from learner.batch import DeviceBatch
from replay.types import SampleBatch

# The longest wait for the thread at its end; it is a daemon and holds up nothing after that.
_CLOSING_S = 10.0

# How long the thread waits in one go before it looks whether it is to stop.
_PATIENCE_S = 0.25


class Prefetcher:
    """Holds up to `depth` batches that are on the device already."""

    def __init__(
        self,
        sample: Callable[..., SampleBatch | None],
        load: Callable[[SampleBatch], DeviceBatch],
        *,
        depth: int = 1,
    ) -> None:
        """Start the thread; each batch held makes the priorities that drew it a little older."""
        self._sample = sample
        self._load = load
        self._ready: queue.Queue[DeviceBatch | Exception] = queue.Queue(depth)
        self._stopped = threading.Event()
        # Time that `load` has taken.
        self.load_s = 0.0
        self._thread = threading.Thread(target=self._run, name="prefetch", daemon=True)
        self._thread.start()

    def next(self, timeout_s: float) -> DeviceBatch | None:
        """The next batch; None if none came within `timeout_s`; raises what ended the thread."""
        try:
            batch = self._ready.get(timeout=timeout_s)
        except queue.Empty:
            return None
        if isinstance(batch, Exception):
            raise batch
        return batch

    def close(self) -> None:
        """Stop the thread; ends within the time of one `sample` and one `load`."""
        self._stopped.set()
        self._thread.join(_CLOSING_S)

    def _run(self) -> None:
        try:
            while not self._stopped.is_set():
                batch = self._sample(timeout_s=_PATIENCE_S)
                if batch is not None:
                    start = time.perf_counter()
                    loaded = self._load(batch)
                    self.load_s += time.perf_counter() - start
                    self._put(loaded)
        except Exception as error:
            # The loop that asks for batches is the one that must fail.
            self._put(error)

    def _put(self, item: DeviceBatch | Exception) -> None:
        while not self._stopped.is_set():
            try:
                self._ready.put(item, timeout=_PATIENCE_S)
            except queue.Full:
                continue
            return
