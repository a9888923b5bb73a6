"""Memory that two processes share: the same bytes on both sides, whatever the pages."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import pytest

from replay.channel import shared_memory
from replay.channel.shared_memory import make_shared, map_shared

LARGE_PAGE = 1 << 21
SIZES = [1, 5_000, LARGE_PAGE, LARGE_PAGE + 1, 3 * LARGE_PAGE - 4_096]


@pytest.fixture(params=SIZES)
def shared(request) -> Iterator[tuple[int, np.ndarray]]:
    descriptor, array = make_shared(request.param, name="test")
    yield descriptor, array
    os.close(descriptor)


def test_what_one_side_writes_the_other_reads_and_cannot_change(shared):
    descriptor, array = shared
    assert not array.any()
    other = map_shared(descriptor, len(array))
    array[:] = np.arange(len(array)) % 251
    np.testing.assert_array_equal(other, array)
    assert not other.flags.writeable
    np.testing.assert_array_equal(map_shared(descriptor, len(array)), array)


def test_pages_that_stay_small_do_as_well(monkeypatch):
    # A piece of advice that no kernel knows.
    monkeypatch.setattr(shared_memory, "_MADV_COLLAPSE", 9_999)
    descriptor, array = make_shared(10_000, name="test")
    array[-1] = 7
    assert map_shared(descriptor, 10_000)[-1] == 7
    os.close(descriptor)


def test_another_file_is_refused(tmp_path):
    path = tmp_path / "short"
    path.write_bytes(b"x" * 4_096)
    with path.open("rb") as file, pytest.raises((OSError, ValueError)):
        map_shared(file.fileno(), 10_000)
