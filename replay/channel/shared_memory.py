"""Memory that two processes share, in large pages where the system gives them.

A copy into pages of 4 KiB that lie anywhere takes 1.2 to 1.5 times as long as one into pages of
2 MiB. The kernel maps a large page only where address and place in the file agree modulo its size.
It chooses the address; so the file has room to choose the place.

    file    |<- to spare ->|<- the memory, in whole large pages ->|<- to spare ->|
    mapped           |<---------------- offset .. ---------------------->|
"""

from __future__ import annotations

import fcntl
import mmap
import os
from contextlib import suppress

import numpy as np

from replay.types import UInt8Array

# Bytes; larger ones than x86 and most ARM systems have would do no harm but waste.
_LARGE_PAGE = 1 << 21
# Linux 6.1 and later; not in the module mmap yet.
_MADV_COLLAPSE = 25


def make_shared(num_bytes: int, *, name: str) -> tuple[int, UInt8Array]:
    """(descriptor, zeros [num_bytes]) of memory that is in no folder and goes with its last user.

    OSError where the system has no such memory, or no room for it.
    """
    if not hasattr(os, "memfd_create"):
        raise OSError("this system has no memfd_create")
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(descriptor, _rounded_up(num_bytes) + 2 * _LARGE_PAGE)
        # Its size is final: a reader can never be killed by reading past a shortened end.
        seals = fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
        memory, start = _map(descriptor, num_bytes, mmap.PROT_READ | mmap.PROT_WRITE)
        array = np.frombuffer(memory, np.uint8)[start : start + num_bytes]
        # Only pages that are there can be joined to large ones.
        array.fill(0)
        with suppress(OSError):  # An older system; pages stay small.
            memory.madvise(_MADV_COLLAPSE, start, _rounded_up(num_bytes))
        return descriptor, array
    except BaseException:
        os.close(descriptor)
        raise


def map_shared(descriptor: int, num_bytes: int) -> UInt8Array:
    """The memory [num_bytes] behind a descriptor that `make_shared` gave; read-only.

    OSError or ValueError if it is something else.
    """
    memory, start = _map(descriptor, num_bytes, mmap.PROT_READ)
    return np.frombuffer(memory, np.uint8)[start : start + num_bytes]


def _map(descriptor: int, num_bytes: int, prot: int) -> tuple[mmap.mmap, int]:
    """(mapping of the file, where in it the memory begins)."""
    length = _rounded_up(num_bytes) + _LARGE_PAGE
    with mmap.mmap(descriptor, length, prot=prot) as probe:
        offset = np.frombuffer(probe, np.uint8).ctypes.data % _LARGE_PAGE
    # A mapping of the same length gets the same address, unless another thread was faster: then
    # its pages are small.
    return mmap.mmap(descriptor, length, prot=prot, offset=offset), _LARGE_PAGE - offset


def _rounded_up(num_bytes: int) -> int:
    return -(-num_bytes // _LARGE_PAGE) * _LARGE_PAGE
