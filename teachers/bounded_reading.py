"""Reads a teacher's two files within bounds: both come from strangers as often as not.

A card is parsed into objects many times its size, and the header of a safetensors file into one
tensor for each entry, so both have limits far below what a machine holds.
"""

import struct
from importlib.resources.abc import Traversable
from pathlib import Path

MAX_CARD_BYTES = 2**20
# Largest file that is read: an expert with optimizer state is below 60 MB.
MAX_FILE_BYTES = 512 * 2**20
# Largest list of tensors in a safetensors file: a network has dozens, of 100 bytes each.
MAX_HEADER_BYTES = 2**20

_BLOCK_BYTES = 2**20


def read_at_most(file: Path | Traversable, max_bytes: int) -> bytes:
    """The whole content; ValueError if it cannot be read, or is larger."""
    try:
        with file.open("rb") as stream:
            # In blocks: a reader makes room for as many bytes as it is asked for.
            data = bytearray()
            while len(data) <= max_bytes and (block := stream.read(_BLOCK_BYTES)):
                data += block
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror}") from error
    if len(data) > max_bytes:
        raise ValueError(f"{file} is larger than {max_bytes} bytes; at most that many are read")
    return bytes(data)


def check_header(data: bytes, *, source: str) -> None:
    """Raise ValueError if a safetensors file lists more tensors than any network has."""
    (length,) = struct.unpack("<Q", data[:8].ljust(8, b"\0"))
    # A length beyond the end is a damaged file, and the library says so.
    if MAX_HEADER_BYTES < length <= len(data):
        raise ValueError(
            f"{source} has a header of {length} bytes; at most {MAX_HEADER_BYTES} are read"
        )
