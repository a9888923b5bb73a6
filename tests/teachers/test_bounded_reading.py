"""Files of strangers are read within bounds, and no more is set aside than they hold."""

import tracemalloc

import pytest

from teachers.bounded_reading import MAX_FILE_BYTES, read_at_most


def test_a_file_is_read_whole_up_to_the_bound_and_refused_above(tmp_path):
    file = tmp_path / "weights"
    content = bytes(range(256)) * 8192 + b"end"  # Longer than a block.
    file.write_bytes(content)
    assert read_at_most(file, len(content)) == content
    with pytest.raises(ValueError, match="is larger than"):
        read_at_most(file, len(content) - 1)


def test_memory_follows_the_file_and_not_the_bound(tmp_path):
    file = tmp_path / "weights"
    file.write_bytes(bytes(1 << 20))
    tracemalloc.start()
    try:
        read_at_most(file, MAX_FILE_BYTES)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20
