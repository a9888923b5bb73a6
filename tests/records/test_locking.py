"""Locks keep others out while anybody holds them, and are given where a file system has none."""

import errno
import fcntl
import os

import pytest

from records.locking import try_lock


def test_a_lock_is_held_until_its_file_is_closed(tmp_path):
    path = tmp_path / "unit.lock"
    held = try_lock(path)
    assert held is not None
    assert try_lock(path) is None
    held.close()
    again = try_lock(path)
    assert again is not None
    again.close()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_keeps_nobody_out_and_says_so(tmp_path, monkeypatch, number):
    def no_locks(file, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    told = []
    for _ in range(2):
        file = try_lock(tmp_path / "unit.lock", without_locks=told.append)
        assert file is not None
        file.close()
    assert [error.errno for error in told] == [number, number]
