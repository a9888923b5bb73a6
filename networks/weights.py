"""Weights on their way from the learner to whoever acts: versioned, checked, often in half.

Nothing here knows how a snapshot travels. A learner hands it to a `WeightSink`, actors ask a
`WeightSource`; the in-process pair is `LocalWeights`. Nothing needs torch either, so that who only
looks at a run does without it: networks/snapshots.py takes snapshots and applies them.
"""

import hashlib
import threading
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, Self

import msgpack
import numpy as np
from numpy.typing import NDArray

_MAGIC = b"AMNWTS01"
_DIGEST_BYTES = 32
_UPDATES_BITS = 40
# Keeps an encoded version inside a signed 64-bit integer, which is what Redis compares.
_MAX_INCARNATION = 2**23 - 1

_DTYPES = ("float16", "float32", "float64", "int64", "int32", "uint8", "bool")


class WeightsVersion(NamedTuple):
    """How far the weights have been trained, ordered; a restarted learner is always newer."""

    # Starts of the learner in this run; a start from a checkpoint counts.
    incarnation: int
    # Optimiser updates behind these weights.
    updates: int

    def encode(self) -> int:
        """One integer in the same order: incarnation << 40 | updates.

        Raises:
            ValueError: a field is negative or does not fit.
        """
        if not 0 <= self.incarnation <= _MAX_INCARNATION:
            raise ValueError(f"incarnation {self.incarnation} is not in 0..{_MAX_INCARNATION}")
        if not 0 <= self.updates < 2**_UPDATES_BITS:
            raise ValueError(f"updates {self.updates} is not in 0..2**{_UPDATES_BITS} - 1")
        return self.incarnation << _UPDATES_BITS | self.updates

    @classmethod
    def decode(cls, encoded: int) -> Self:
        """Inverse of `encode`; ValueError if the integer is no encoded version."""
        if not 0 <= encoded < 2**63:
            raise ValueError(f"{encoded} is not an encoded weights version")
        return cls(encoded >> _UPDATES_BITS, encoded & (2**_UPDATES_BITS - 1))


def updates_of(encoded: NDArray[np.int64]) -> NDArray[np.int64]:
    """Updates behind each of many encoded versions, as `WeightsVersion.decode` gives for one."""
    updates: NDArray[np.int64] = encoded & (2**_UPDATES_BITS - 1)
    return updates


@dataclass(frozen=True, slots=True, eq=False)
class WeightSnapshot:
    """The named arrays of a module at one version, independent of the module's own memory."""

    version: WeightsVersion
    # Arrays by the names of the module's state_dict. Treat them as read-only: they are shared.
    arrays: dict[str, NDArray[Any]]

    @property
    def num_bytes(self) -> int:
        """Size of all arrays together."""
        return sum(array.nbytes for array in self.arrays.values())

    def to_bytes(self) -> bytes:
        """Magic, blake2b of the payload, payload: msgpack of version, names, dtypes, shapes, data.

        Numbers are little-endian, arrays in C order.
        """
        payload: bytes = msgpack.packb(
            {
                "incarnation": self.version.incarnation,
                "updates": self.version.updates,
                "arrays": {name: _pack_array(name, array) for name, array in self.arrays.items()},
            }
        )
        return b"".join((_MAGIC, _digest(payload), payload))

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Inverse of `to_bytes`; the arrays are read-only.

        Raises:
            ValueError: not a snapshot, cut short, or changed on the way.
        """
        view = memoryview(data)
        header_bytes = len(_MAGIC) + _DIGEST_BYTES
        if len(view) < header_bytes or view[: len(_MAGIC)] != _MAGIC:
            raise ValueError("these bytes are not a weight snapshot of this program's version")
        payload = view[header_bytes:]
        if view[len(_MAGIC) : header_bytes] != _digest(payload):
            raise ValueError("the weight snapshot is damaged: its checksum does not match")
        try:
            content = msgpack.unpackb(payload)
            version = WeightsVersion(int(content["incarnation"]), int(content["updates"]))
            arrays = {str(name): _unpack_array(*item) for name, item in content["arrays"].items()}
        except (KeyError, TypeError, AttributeError, ValueError, msgpack.UnpackException) as error:
            raise ValueError(f"the weight snapshot is malformed: {error}") from error
        return cls(version, arrays)


def _digest(payload: bytes | memoryview) -> bytes:
    return hashlib.blake2b(payload, digest_size=_DIGEST_BYTES).digest()


def _pack_array(name: str, array: NDArray[Any]) -> tuple[str, list[int], bytes]:
    if array.dtype.name not in _DTYPES:
        raise ValueError(f"weights {name!r} have dtype {array.dtype}; known: {', '.join(_DTYPES)}")
    little_endian = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return array.dtype.name, list(array.shape), little_endian.tobytes()


def _unpack_array(dtype: str, shape: list[int], data: bytes) -> NDArray[Any]:
    if dtype not in _DTYPES:
        raise ValueError(f"unknown dtype {dtype!r}")
    return np.frombuffer(data, np.dtype(dtype).newbyteorder("<")).reshape(shape)


class WeightSource(Protocol):
    """Where actors get weights from."""

    def poll(self, newer_than: WeightsVersion | None) -> WeightSnapshot | None:
        """The newest snapshot if it is newer (any, for None), else None; never blocks for long."""


class WeightSink(Protocol):
    """Where the learner puts weights."""

    def publish(self, snapshot: WeightSnapshot) -> None:
        """Make this snapshot the newest; one that is not newer than the newest is dropped."""


class LocalWeights:
    """Source and sink within one process; keeps only the newest snapshot. Thread-safe."""

    def __init__(self) -> None:
        """Start empty: `poll` gives None until the first `publish`."""
        self._lock = threading.Lock()
        self._newest: WeightSnapshot | None = None

    def publish(self, snapshot: WeightSnapshot) -> None:
        """Keep the snapshot, unless the one at hand is as new."""
        with self._lock:
            if self._newest is None or snapshot.version > self._newest.version:
                self._newest = snapshot

    def poll(self, newer_than: WeightsVersion | None) -> WeightSnapshot | None:
        """The snapshot at hand, if it is newer than what the caller has."""
        with self._lock:
            newest = self._newest
        if newest is None or (newer_than is not None and newest.version <= newer_than):
            return None
        return newest
