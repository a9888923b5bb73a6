"""Other replay libraries beside ours: the same transitions, batch size and machine, in one run.

A script in peer_scripts/ measures each library in an environment of its own and is never imported:
one library needs an old Python, another an old NumPy. It stores the transitions that our shards
stored, as whole rows where a library cannot share frames, by the fastest way of inserting and
sampling many at once that the library documents.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.replay.play import RecordedPlay
from replay.types import Chunk, Int64Array

# Libraries, and what an environment must be able to import to have them.
PEERS = {
    "reverb": "reverb",
    "reverb_stacks": "reverb",
    "rllib": "ray.rllib",
    "torchrl": "torchrl",
    "cpprb": "cpprb",
}

_SCRIPT = Path(__file__).parent / "peer_scripts" / "measure_peer.py"
_TIMEOUT_S = 300.0
_HAS_MODULE = """
import importlib.util, sys
try:
    found = importlib.util.find_spec(sys.argv[1])
except ImportError:
    found = None
sys.exit(0 if found else 3)
"""


@dataclass(frozen=True, slots=True)
class PeerResults:
    """What the other libraries came to."""

    # What each library's script printed, or None.
    figures: dict[str, dict[str, Any] | None]
    # Reason why a library has no figures.
    reasons: dict[str, str]


def measure_peers(
    recorded: RecordedPlay,
    pythons: Sequence[str],
    *,
    capacity: int,
    batch_size: int,
    memcpy_source_bytes: int,
    seconds: float,
) -> PeerResults:
    """Run the script of every library in the first environment that has it."""
    results = PeerResults({}, {})
    with tempfile.TemporaryDirectory(prefix="bench-peers-") as folder:
        items = Path(folder) / "items.npz"
        if pythons:
            write_items(recorded, items)
        for name, module in PEERS.items():
            results.figures[name] = None
            python = next((path for path in pythons if _has_module(path, module)), None)
            if python is None:
                results.reasons[name] = _not_installed(module, pythons)
                continue
            command = [
                *(python, str(_SCRIPT), name),
                *("--items", str(items)),
                *("--capacity", str(capacity)),
                *("--batch-size", str(batch_size)),
                *("--memcpy-source-bytes", str(memcpy_source_bytes)),
                *("--seconds", str(seconds)),
            ]
            try:
                results.figures[name] = _run(command)
            except PeerFailed as failure:
                results.reasons[name] = str(failure)
    return results


class PeerFailed(Exception):
    """A script ended without a result."""


def _not_installed(module: str, pythons: Sequence[str]) -> str:
    where = f"none of {', '.join(pythons)} has" if pythons else "no --peers-python was given with"
    return f"{where} {module}"


def _has_module(python: str, module: str) -> bool:
    found = subprocess.run([python, "-c", _HAS_MODULE, module], capture_output=True, timeout=60.0)
    return found.returncode == 0


def _run(command: Sequence[str]) -> dict[str, Any]:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise PeerFailed(f"not done after {_TIMEOUT_S:g} s") from None
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:] or ["nothing"]
        raise PeerFailed(f"ended with status {done.returncode} and said: {said[0]}")
    figures: dict[str, Any] = json.loads(lines[-1])
    return figures


def write_items(recorded: RecordedPlay, path: Path) -> None:
    """Write recorded play as rows of transitions, with the frames of each by number.

    The file (npz) holds `frames` [F, H, W], of which number 0 is blank; `stacks` [T, S], the frames
    of each transition's observation, oldest first; a column [T, ...] for every label; `priorities`
    [T]; `streams` [T], a number for each environment of each game; and `chunk_size`, the
    transitions that an actor sends at once. Transitions come chunk by chunk, the games in turn.
    """
    chunks = list(_in_turn(recorded))
    frame_shape = chunks[0]["frames"].shape[2:]
    histories = _Histories()
    games = list(recorded.chunks)
    columns: dict[str, NDArray[Any]] = {
        "frames": np.concatenate(
            [np.zeros((1, *frame_shape), np.uint8), *(chunk["frames"][:, 0] for chunk in chunks)]
        ),
        "stacks": np.concatenate([histories.of(chunk)[chunk["is_transition"]] for chunk in chunks]),
        "streams": np.concatenate([_stream_of_rows(chunk, games) for chunk in chunks]),
        "weights_versions": np.concatenate(
            [np.full(chunk.num_transitions, chunk.weights_version, np.int64) for chunk in chunks]
        ),
        "chunk_size": np.array(recorded.entries_per_chunk()),
    }
    apart = ("frames", "is_first", "is_transition")
    for name in chunks[0].columns.keys() - set(apart):
        parts = [chunk[name][chunk["is_transition"]] for chunk in chunks]
        columns[name] = np.concatenate(parts)
    np.savez(path, allow_pickle=False, **columns)


_NUM_STACK = 4


class _Histories:
    """Numbers every frame, from 1, and knows which came before it in its stream."""

    def __init__(self) -> None:
        self._num_frames = 0
        self._newest: dict[tuple[str, int], list[int]] = {}

    def of(self, chunk: Chunk) -> Int64Array:
        """[E, S] Numbers of each entry's frames, oldest first; 0 before an episode's first."""
        stacks = np.zeros((chunk.num_entries, _NUM_STACK), np.int64)
        row = 0
        for stream, length in zip(chunk.streams.tolist(), chunk.lengths.tolist(), strict=True):
            key = (chunk.game, stream)
            stack = self._newest.get(key, [0] * _NUM_STACK)
            for _ in range(length):
                self._num_frames += 1
                before = [0] * (_NUM_STACK - 1) if chunk["is_first"][row] else stack[1:]
                stack = [*before, self._num_frames]
                stacks[row] = stack
                row += 1
            self._newest[key] = stack
        return stacks


def _stream_of_rows(chunk: Chunk, games: Sequence[str]) -> Int64Array:
    """[T] For each transition, a number that no stream of another game has."""
    numbers: Int64Array = chunk.streams * len(games) + games.index(chunk.game)
    rows: Int64Array = np.repeat(numbers, chunk.lengths)[chunk["is_transition"]]
    return rows


def _in_turn(recorded: RecordedPlay) -> Iterator[Chunk]:
    """The first chunk of every game, then the second, and so on."""
    for chunks in zip(*recorded.chunks.values(), strict=True):
        yield from chunks
