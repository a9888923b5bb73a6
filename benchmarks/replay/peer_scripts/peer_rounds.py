"""What the measurements of other replay libraries have in common.

The scripts of this folder run in environments of their own, under whatever Python 3.10 or newer a
library needs, so they know nothing of this project but the file of recorded play that they are
given (benchmarks/replay/peers.py). Each prints one line of JSON at its end.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import platform
import statistics
import time
from pathlib import Path

import numpy as np

MIN_ROUNDS = 3
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


def parse_options(forms=()):
    """The options that benchmarks/replay/peers.py gives; `forms`: those a script has."""
    parser = argparse.ArgumentParser()
    if forms:
        parser.add_argument("form", choices=forms)
    parser.add_argument("--items", type=Path, required=True)
    parser.add_argument("--capacity", type=int, required=True)
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--memcpy-source-bytes", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--window-s", type=float, required=True)
    return parser.parse_args()


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


def measure(library, build, items, options, *, package, where, stores, read_memory):
    """Build a buffer, fill it, measure it and print what was found.

    Args:
        library: name, for the report.
        build: makes the buffer, which has insert(rows) -> None, finish_inserting(), sample() ->
            (keys, bytes) and update(keys, priorities).
        items: the transitions.
        options: of the command line.
        package: what was installed, for its version.
        where: in words, where the buffer lives and how it was called.
        stores: in words, what is kept of a transition.
        read_memory: bytes of memory of the process that holds the buffer.
    """
    rng = np.random.default_rng(0)
    before = read_memory()
    buffer = build()
    _fill(buffer, items, options.capacity)
    stored_bytes = (read_memory() - before) / options.capacity
    # Until it overwrites.
    _fill(buffer, items, options.capacity // 10)
    keys, batch_bytes = buffer.sample()
    copy = _Copy(batch_bytes, options.memcpy_source_bytes, rng)
    state = {"keys": keys}

    def insert():
        rows, count = items.take()
        buffer.insert(rows)
        return count

    def sample():
        state["keys"], _ = buffer.sample()
        return options.batch_size

    def update():
        buffer.update(state["keys"], rng.random(options.batch_size, np.float32) + 1e-6)
        return options.batch_size

    parts = {
        "copy": lambda: _window(copy, options.window_s),
        "sample": lambda: _window(sample, options.window_s),
        "update": lambda: _window(update, options.window_s),
        "insert": lambda: _window(insert, options.window_s, buffer.finish_inserting),
    }
    rounds = _measure_rounds(parts, options.seconds)
    rates = {name: statistics.median(values) for name, values in rounds.items()}
    bytes_per_sample = batch_bytes / options.batch_size
    memcpy_ratio = median_ratio(rounds["sample"], rounds["copy"]) * bytes_per_sample
    print(
        json.dumps(
            {
                "library": library,
                "version": importlib.metadata.version(package),
                "python": platform.python_version(),
                "where": where,
                "stores": stores,
                "inserts_per_second": round(rates["insert"]),
                "samples_per_second": round(rates["sample"]),
                "updates_per_second": round(rates["update"]),
                "bytes_per_transition": round(stored_bytes),
                "bytes_per_sample": round(bytes_per_sample),
                "memcpy_ratio": round(memcpy_ratio, 4),
                "memcpy_bytes_per_second": round(rates["copy"]),
            }
        ),
        flush=True,
    )


def measure_in_process(library, build, *, package):
    """Measure a buffer that lives in this process, by the options of the command line.

    Args:
        library: name, for the report.
        build: makes the buffer of (items, options); see `measure`.
        package: what was installed, for its version.
    """
    options = parse_options()
    items = Items(options.items)
    measure(
        library,
        lambda: build(items, options),
        items,
        options,
        package=package,
        where="in process",
        stores="4 frames and labels of each transition",
        read_memory=read_resident_bytes,
    )


class _Copy:
    """memcpy of one batch's bytes, as in benchmarks/memcpy.py."""

    def __init__(self, piece_bytes, source_bytes, rng):
        self._rng = rng
        self._source = np.ones(source_bytes, np.uint8)
        self._target = np.ones(piece_bytes, np.uint8)

    def __call__(self):
        size = len(self._target)
        start = int(self._rng.integers(0, len(self._source) - size + 1))
        np.copyto(self._target, self._source[start : start + size])
        return size


def read_resident_bytes(pid="self"):
    """Memory of a process, shared or not."""
    status = (Path("/proc") / str(pid) / "status").read_text()
    lines = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return 1024 * int(lines["VmRSS"].split()[0])


def _fill(buffer, items, count):
    stored = 0
    while stored < count:
        rows, size = items.take()
        buffer.insert(rows)
        stored += size
    buffer.finish_inserting()


def median_ratio(numerators, denominators):
    """Median of the ratios formed within each round, whose windows lie next to each other."""
    return statistics.median(a / b for a, b in zip(numerators, denominators, strict=True))


def _window(work, window_s, finish=None):
    """Units of work per second, over a fraction of a second."""
    start = time.perf_counter()
    units = calls = 0
    while calls < 3 or time.perf_counter() - start < window_s:
        units += work()
        calls += 1
    if finish is not None:
        finish()
    return units / (time.perf_counter() - start)


def _measure_rounds(parts, seconds):
    """Rates of each part in rounds of one window of each in turn; the first round warms up."""
    for part in parts.values():
        part()
    rates = {name: [] for name in parts}
    deadline = time.perf_counter() + seconds
    count = 0
    while count < MIN_ROUNDS or time.perf_counter() < deadline:
        for name, part in parts.items():
            rates[name].append(part())
        count += 1
    return rates
