"""Decodes what flax.serialization.to_bytes wrote, with msgpack alone.

Arrays are extension type 1 (numpy scalars 3) around a msgpack tuple of shape, dtype name and
bytes: https://github.com/google/flax/blob/main/flax/serialization.py. Arrays above 1 GiB, which
flax cuts into chunks, are larger than anything read here.
"""

import math
from typing import Any

import msgpack
import numpy as np
from numpy.typing import NDArray

from teachers.formats.bounded_files import MAX_ELEMENTS

_MAX_BYTES = 128 * 2**20
# Most entries of one map; a network has a dozen layers, a script a hundred settings.
_MAX_ENTRIES = 512
# Most maps in one file; small maps are far larger in memory than in it.
_MAX_MAPS = 1024
_MAX_TEXT_BYTES = 2**16
_DTYPES = ("float32", "float16", "float64", "int32", "int64", "uint32", "uint8", "bool")


def looks_like_msgpack(data: bytes) -> bool:
    """Whether these bytes begin with a msgpack map, as to_bytes writes them; lists become maps."""
    return 0x81 <= data[0] <= 0x8F or data[0] in (0xDE, 0xDF)


def decode(data: bytes, *, source: str) -> object:
    """Nested dictionaries of arrays, numbers and texts."""
    if len(data) > _MAX_BYTES:
        raise ValueError(
            f"{source} has {len(data)} bytes; at most {_MAX_BYTES} of msgpack are read"
        )
    decoder = _Decoder()
    try:
        return msgpack.unpackb(
            data,
            ext_hook=decoder.decode_extension,
            object_hook=decoder.count_map,
            raw=False,
            strict_map_key=True,
            max_array_len=0,
            max_map_len=_MAX_ENTRIES,
            max_str_len=_MAX_TEXT_BYTES,
            max_bin_len=_MAX_TEXT_BYTES,
            max_ext_len=_MAX_BYTES,
        )
    except (ValueError, TypeError, msgpack.UnpackException, RecursionError) as error:
        raise ValueError(
            f"{source} is damaged or is not flax's msgpack: {error or type(error).__name__}"
        ) from error


class _Decoder:
    """Decodes arrays, and keeps count of elements and maps over the whole file."""

    def __init__(self) -> None:
        self._num_elements = 0
        self._num_maps = 0

    def count_map(self, content: dict[str, object]) -> dict[str, object]:
        """The map as it is."""
        self._num_maps += 1
        if self._num_maps > _MAX_MAPS:
            raise ValueError(f"more than {_MAX_MAPS} maps")
        return content

    def decode_extension(self, code: int, data: bytes) -> object:
        """An array or a number."""
        if code not in (1, 3):
            raise ValueError(f"extension type {code}, which flax does not use for weights")
        array = self._array(data)
        return array if code == 1 else array[()].item()

    def _array(self, data: bytes) -> NDArray[Any]:
        lists = iter(range(2))

        def count_list(content: list[object]) -> list[object]:
            # The shape and the whole; a tree of lists of 8 lists would fill the memory.
            if next(lists, None) is None:
                raise ValueError("lists in the shape of an array")
            return content

        shape, dtype, content = msgpack.unpackb(
            data,
            raw=False,
            list_hook=count_list,
            max_array_len=8,
            max_map_len=0,
            max_ext_len=0,
            max_str_len=32,
            max_bin_len=_MAX_BYTES,
        )
        if dtype not in _DTYPES or not isinstance(content, bytes):
            raise ValueError(f"an array of type {dtype!r}")
        if not all(isinstance(size, int) and size >= 0 for size in shape):
            raise ValueError(f"an array of shape {shape}")
        num_elements = math.prod(shape)
        self._num_elements += num_elements
        if self._num_elements > MAX_ELEMENTS:
            raise ValueError(f"more than {MAX_ELEMENTS} elements")
        if num_elements * np.dtype(dtype).itemsize != len(content):
            raise ValueError(f"{len(content)} bytes for an array of shape {shape}")
        return np.frombuffer(content, np.dtype(dtype).newbyteorder("<")).reshape(shape)
