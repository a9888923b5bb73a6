"""Memory that was needed for a moment goes back to the system."""

import ctypes
import re
import sys
import threading
from pathlib import Path

import pytest
from replay_shards import make_shard

from networks.atomic_file import write_atomically
from replay.snapshots import keeper
from replay.snapshots.keeper import ShardKeeper, return_free_memory

MIB = 1 << 20


def resident_bytes():
    return 1024 * int(re.search(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())[1])


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="needs glibc"
)
def test_what_a_thread_has_freed_is_given_back():
    held = []

    def work():
        many = [b"x" * 65_536 for _ in range(1_000)]
        # The last piece stays, so that the rest does not lie at the end of the heap.
        held.append(many.pop())

    # What earlier tests have freed would be taken instead of new memory.
    return_free_memory()
    before = resident_bytes()
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    kept = resident_bytes() - before
    return_free_memory()
    assert kept > 40 * MIB
    assert resident_bytes() - before < 10 * MIB
    assert held


def test_a_snapshot_ends_with_it(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(keeper, "return_free_memory", lambda: calls.append(1))
    saved = ShardKeeper(make_shard(), tmp_path, write=write_atomically)
    saved.save()
    saved.close()
    assert calls == [1]
