"""Measures another replay library: the rounds, the recorded play and the line that it prints.

    PYTHON measure_peer.py LIBRARY --items FILE ...

runs in an environment of its own, under whatever Python 3.10 or newer the library needs, so it
knows nothing of this project but the file of recorded play that it is given
(benchmarks/replay/peers.py), how windows are timed, and the report's own arithmetic, all of which
need NumPy alone. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import platform
import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[3]))

from benchmarks.memory import Memcpy
from benchmarks.replay.figures import figures_of, measure_operations
from benchmarks.timing import repeat_for

PRIORITY_EXPONENT = 0.6

# What a transition is, besides its observation; all in the file under the same names.
LABELS = (
    "actions",
    "rewards",
    "discounts",
    "epsilons",
    "student_logits",
    "teacher_logits",
    "teacher_features",
    "teacher_values",
    "weights_versions",
)


class Items:
    """Recorded transitions, over and over, in the chunks that an actor would send."""

    def __init__(self, path):
        """Read the file and stack every observation's frames."""
        with np.load(path, allow_pickle=False) as file:
            self.columns = {name: file[name] for name in LABELS}
            self.priorities = file["priorities"]
            self.chunk_size = int(file["chunk_size"])
            self.streams = file["streams"]
            self.stacks = file["stacks"]
            self.frames = file["frames"]
        # Frame 0 of the file is blank: what comes before an episode's first.
        self.columns["observations"] = self.frames[self.stacks]
        self._next = 0

    def __len__(self):
        return len(self.priorities)

    def take(self):
        """(slice, number) of the next chunk's transitions."""
        start = self._next
        stop = min(start + self.chunk_size, len(self))
        self._next = stop % len(self)
        return slice(start, stop), stop - start


@dataclass
class Measured:
    """A library in use: its buffer, and the four operations on it that are timed."""

    # Has insert(rows) -> None, finish_inserting(), sample() -> (keys, bytes), update(keys,
    # priorities).
    buffer: Any
    items: Items
    batch_size: int
    copy: Memcpy | None = None
    keys: Any = None
    rng: Any = field(default_factory=partial(np.random.default_rng, 0))

    def fill(self, count):
        """Store at least so many transitions."""
        stored = 0
        while stored < count:
            stored += self._insert()
        self.buffer.finish_inserting()

    def window(self, operation, seconds):
        """Insert, sample, update or copy for about so long."""
        if operation == "insert":
            return repeat_for(self._insert, seconds, finish=self.buffer.finish_inserting)
        work = {"sample": self._sample, "update": self._update, "copy": self.copy.run}
        return repeat_for(work[operation], seconds)

    def _insert(self):
        rows, count = self.items.take()
        self.buffer.insert(rows)
        return count

    def _sample(self):
        self.keys, _ = self.buffer.sample()
        return self.batch_size

    def _update(self):
        self.buffer.update(self.keys, self.rng.random(self.batch_size, np.float32) + 1e-6)
        return self.batch_size


def measure(library, build, options, *, read_memory, package, **words):
    """Build a buffer, fill it, measure it and print what was found.

    Args:
        library: its name, for the report.
        build: makes the buffer of (items, options).
        options: those of the command line.
        read_memory: bytes of memory of the process that holds the buffer.
        package: what was installed, for its version.
        words: `where` the buffer lives and what it `stores` of a transition.
    """
    items = Items(options.items)
    before = read_memory()
    measured = Measured(build(items, options), items, options.batch_size)
    measured.fill(options.capacity)
    stored_bytes = (read_memory() - before) / options.capacity
    # Until it overwrites.
    measured.fill(options.capacity // 10)
    _, batch_bytes = measured.buffer.sample()
    measured.copy = Memcpy(
        source_bytes=options.memcpy_source_bytes, piece_bytes=batch_bytes, rng=measured.rng
    )
    figures = figures_of(
        measure_operations(measured.window, seconds=options.seconds),
        bytes_per_sample=batch_bytes / options.batch_size,
        resident_bytes=stored_bytes,
    )
    about = {"library": library, "version": importlib.metadata.version(package), **words}
    print(json.dumps({**about, "python": platform.python_version(), **figures}), flush=True)


def resident_bytes(pid="self"):
    """Memory of a process, shared or not."""
    status = (Path("/proc") / str(pid) / "status").read_text()
    lines = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return 1024 * int(lines["VmRSS"].split()[0])


def measure_in_process(library, build, options, *, package):
    """Measure a buffer that lives in this process and keeps whole transitions."""
    stores = "4 frames and labels of each transition"
    words = {"where": "in process", "stores": stores}
    measure(library, build, options, package=package, read_memory=resident_bytes, **words)


def main(argv=None):
    """Measure one library, by the options that benchmarks/replay/peers.py gives."""
    parser = argparse.ArgumentParser()
    parser.add_argument("library")
    parser.add_argument("--items", type=Path, required=True)
    for name in ("--capacity", "--batch-size", "--memcpy-source-bytes"):
        parser.add_argument(name, type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    options = parser.parse_args(argv)
    if options.library.startswith("reverb"):
        from reverb_server import measure_server

        measure_server(options)
        return
    from in_process import BUFFERS

    build, package = BUFFERS[options.library]
    measure_in_process(options.library, build, options, package=package)


if __name__ == "__main__":
    # The libraries' modules import this one by its name.
    sys.modules["measure_peer"] = sys.modules["__main__"]
    main()
