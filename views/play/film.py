"""Writes play as a short film: animated WebP, GIF or PNG, or MP4 where ffmpeg is installed."""

from __future__ import annotations

import secrets
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

from PIL import Image

from views.play.pictures import Painter
from views.play.playing import Moment

SUFFIXES = (".webp", ".gif", ".png", ".apng", ".mp4")


def check_film_path(path: Path) -> None:
    """Raises ValueError for a file that write_film() could not write."""
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(
            f"a film cannot be written as {path.name!r}; end its name in {', '.join(SUFFIXES)}"
        )
    if not path.absolute().parent.is_dir():
        raise ValueError(f"there is no folder {path.parent} to write {path.name} into")
    if path.suffix.lower() == ".mp4" and shutil.which("ffmpeg") is None:
        raise ValueError("an .mp4 needs the program ffmpeg, which is not installed; use .webp")


def write_play(
    path: Path,
    painter: Painter,
    rounds: Iterable[dict[str, Moment]],
    *,
    steps_per_second: float,
) -> tuple[int, dict[str, Moment]]:
    """Write what play_together() yields as a film.

    Returns:
        The number of steps in the film, and the last moment of every player.
    """
    check_film_path(path)
    last: dict[str, Moment] = {}

    def pictures() -> Iterator[Image.Image]:
        for moments in rounds:
            last.update(moments)
            yield painter.draw(moments)

    return write_film(path, pictures(), pictures_per_second=steps_per_second), last


def write_film(path: Path, pictures: Iterable[Image.Image], *, pictures_per_second: float) -> int:
    """Write the film, whole or not at all; returns its number of pictures.

    They are taken one by one, so they need not fit into memory; all have one size.
    """
    counted = _Counted(pictures)
    temporary = path.with_name(f".{secrets.token_hex(4)}.{path.name}")
    try:
        first = next(counted)
        if path.suffix.lower() == ".mp4":
            _write_mp4(temporary, chain([first], counted), first.size, pictures_per_second)
        else:
            _write_animation(temporary, first, counted, pictures_per_second)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return counted.count


class _Counted:
    """Counts what an iterator has yielded."""

    def __init__(self, pictures: Iterable[Image.Image]) -> None:
        self._pictures = iter(pictures)
        self.count = 0

    def __iter__(self) -> Iterator[Image.Image]:
        return self

    def __next__(self) -> Image.Image:
        picture = next(self._pictures)
        self.count += 1
        return picture


def _write_animation(
    path: Path, first: Image.Image, others: Iterable[Image.Image], pictures_per_second: float
) -> None:
    duration = round(1000 / pictures_per_second)
    if path.suffix.lower() == ".gif":
        duration = 10 * max(2, round(duration / 10))  # It counts in hundredths of a second.
    suffix = path.suffix.lower()
    if suffix == ".webp":
        # Few colours and hard edges: without loss is smaller here than with.
        first.save(
            path, save_all=True, append_images=others, duration=duration, loop=0,
            lossless=True, quality=50, method=2,
        )  # fmt: skip
    elif suffix == ".gif":
        first.save(path, save_all=True, append_images=others, duration=duration, loop=0)
    else:
        # Pillow goes through the pictures twice, so they cannot be taken one by one.
        pictures = list(others)
        first.save(
            path, format="PNG", save_all=True, append_images=pictures, duration=duration, loop=0
        )


def _write_mp4(
    path: Path, pictures: Iterable[Image.Image], size: tuple[int, int], pictures_per_second: float
) -> None:
    """Through a pipe to ffmpeg, in the format that every browser plays."""
    command = [
        "ffmpeg", "-loglevel", "error", "-nostdin", "-y",
        "-f", "rawvideo", "-pix_fmt", "rgb24", "-video_size", f"{size[0]}x{size[1]}",
        "-framerate", f"{pictures_per_second:g}", "-i", "pipe:0",
        "-pix_fmt", "yuv420p", "-movflags", "+faststart", "-f", "mp4", str(path.absolute()),
    ]  # fmt: skip
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdin is not None
    try:
        for picture in pictures:
            process.stdin.write(picture.tobytes())
    except BrokenPipeError:
        pass  # ffmpeg has stopped; what it wrote on standard error says why.
    finally:
        _, errors = process.communicate()
    if process.returncode:
        raise ValueError(f"ffmpeg could not write the film: {errors.decode().strip()[-200:]}")
