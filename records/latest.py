"""Names the newest run of a folder: `runs/latest` is a file that holds the name of its folder.

Not a link, through which TensorBoard would find that run a second time.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

LATEST = "latest"


def name_latest(folder: Path) -> None:
    """Make a run's folder the newest of the folder that it lies in."""
    file = folder.parent / LATEST
    if file.is_dir() and not file.is_symlink():
        return  # Somebody's own folder.
    temporary = folder.parent / f".{LATEST}-{folder.name}"
    # A convenience, which is not worth a run.
    with contextlib.suppress(OSError):
        temporary.write_text(f"{folder.name}\n", encoding="utf-8")
        os.replace(temporary, file)


def follow_latest(path: str | Path) -> str:
    """`runs/latest` as the folder that is meant; every other path as it is.

    ValueError for what is no path, which a program may have been given.
    """
    if not isinstance(path, str | Path):
        raise ValueError(f"a run, a student or an expert is named by its path, not by {path!r}")
    path, file = str(path), Path(path)
    if file.name != LATEST or not file.is_file():
        return path
    with contextlib.suppress(OSError, UnicodeDecodeError):
        name = file.read_text(encoding="utf-8").strip()
        if name and Path(name).name == name and (file.parent / name).is_dir():
            return str(file.parent / name)
    return path
