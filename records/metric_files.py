"""The files that a run's figures go to: lines of JSON, and TensorBoard's events.

Both are opened with the first row, and again after a write that has failed.
"""

from __future__ import annotations

import json
import math
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from io import BytesIO, FileIO
from pathlib import Path
from typing import Any

_MAX_LINE_BYTES = 1 << 20
# Lines that wait for a file that cannot be written; beyond it the oldest are lost.
_MAX_WAITING = 10_000
# Between two tries at TensorBoard's events: each makes a file of its own.
_RETRY_S = 30.0


class JsonLines:
    """Appends one JSON object a line, each on disk at once."""

    def __init__(self, path: Path) -> None:
        """Nothing is opened yet; the file's folder is there."""
        self._path = path
        self._file: FileIO | None = None
        self._waiting: deque[bytes] = deque(maxlen=_MAX_WAITING)

    def write(self, row: Mapping[str, Any]) -> None:
        """Append a row, and before it those that could not be written.

        After an OSError the row waits for the next call, with the others.
        """
        line = json.dumps({key: _json_value(x) for key, x in row.items()}, allow_nan=False)
        self._waiting.append(line.encode() + b"\n")
        try:
            self._write_waiting()
        except OSError:
            self.close()
            raise

    def _write_waiting(self) -> None:
        if self._file is not None and _is_deleted(self._file):
            self.close()
        if self._file is None:
            self._file = FileIO(self._path, "a+")
            self._drop_torn_line(self._file)
        while self._waiting:
            _write_all(self._file, self._waiting[0])
            self._waiting.popleft()

    def _drop_torn_line(self, file: FileIO) -> None:
        """What a killed process or a full disk left of a line would spoil the next one."""
        start = max(0, file.seek(0, os.SEEK_END) - _MAX_LINE_BYTES)
        file.seek(start)
        file.truncate(start + file.read().rfind(b"\n") + 1)

    def close(self) -> None:
        """Close the file; a later `write` opens it again."""
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):
                file.close()


def _is_deleted(file: FileIO) -> bool:
    """A deleted file takes what is written without a complaint, and nobody ever sees it."""
    return os.fstat(file.fileno()).st_nlink == 0


def _write_all(file: FileIO, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]


def _json_value(value: Any) -> Any:
    """Seven digits of a number are enough to read; JSON has no NaN."""
    if isinstance(value, int | str):
        return value
    return float(f"{value:.7g}") if math.isfinite(value) else None


class TensorBoard:
    """The same rows as scalars over steps, each on disk at once.

    Written without TensorBoard's own writer, whose thread prints tracebacks where a folder is gone.
    """

    def __init__(self, folder: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Nothing is opened yet; `folder` is made if it is missing, in one that is there."""
        self._folder = folder
        self._clock = clock
        self._file: FileIO | None = None
        self._has_failed_at = -math.inf
        self._error: OSError | None = None

    def write(self, row: Mapping[str, float]) -> None:
        """Add a row; one that cannot be written is lost (OSError)."""
        if self._error is not None and self._clock() - self._has_failed_at < _RETRY_S:
            raise self._error
        step = int(row["steps"])
        try:
            if self._file is not None and _is_deleted(self._file):
                self.close()
            if self._file is None:
                self._file = self._open(step)
            self._append(self._file, step=step, scalars=row)
            self._error = None
        except OSError as error:
            self._has_failed_at, self._error = self._clock(), error
            self.close()
            raise

    def _open(self, step: int) -> FileIO:
        self._folder.mkdir(exist_ok=True)  # Not the run's own folder, which may be gone.
        resumes = any(self._folder.glob("events.out.tfevents.*"))
        # Readers go by the time in the name.
        name = f"events.out.tfevents.{int(time.time()):010}.{socket.gethostname()}.{os.getpid()}"
        file = FileIO(self._folder / f"{name}.{time.monotonic_ns()}", "x")
        self._append(file, file_version="brain.Event:2")
        if resumes:
            # A resumed run goes back to its checkpoint: hide what was recorded after it.
            self._append(file, step=step, session_log={"status": "START"})
        return file

    @staticmethod
    def _append(file: FileIO, *, scalars: Mapping[str, float] | None = None, **fields: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        event = Event(wall_time=time.time(), **fields)
        for key, value in (scalars or {}).items():
            event.summary.value.add(tag=key, simple_value=value)
        record = BytesIO()
        RecordWriter(record).write(event.SerializeToString())
        _write_all(file, record.getvalue())

    def close(self) -> None:
        """Finish the file, if it can be written."""
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):
                file.close()
