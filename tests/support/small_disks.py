"""Small file systems in memory, which can be filled up and made read-only; only root has them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PAGE = os.sysconf("SC_PAGE_SIZE")
DISK_BYTES = 1 << 20


class SmallDisk:
    """A folder with a file system of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fill(self, *, pages_left: int = 0) -> None:
        """Leave room for so many pages; even a short file takes one."""
        free = shutil.disk_usage(self.folder).free
        (self.folder / "ballast").write_bytes(bytes(free - pages_left * PAGE))

    def clear(self) -> None:
        (self.folder / "ballast").unlink()

    def remount(self, mode: str) -> None:
        """Make it `ro` or `rw`; no file may be open for writing."""
        subprocess.run(["mount", "-o", f"remount,{mode}", str(self.folder)], check=True)


@contextmanager
def small_disk(folder: Path) -> Iterator[SmallDisk]:
    """A file system of 1 MiB in `folder`, which is made; the test is skipped where none can be."""
    mount, umount = shutil.which("mount"), shutil.which("umount")
    if os.geteuid() != 0 or mount is None or umount is None:
        pytest.skip("only root can mount a small file system")
    folder.mkdir()
    command = [mount, "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "small", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run([umount, "--lazy", str(folder)], check=True)
