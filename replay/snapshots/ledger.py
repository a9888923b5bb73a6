"""What a shard's next process must know if this one is killed: a small file, always up to date.

For each game, how many transitions were stored and which generations were given out. Every chunk
that is stored writes 16 bytes in place; they are in the system's hands at once, so they survive the
death of the process (not that of the machine, after which nobody holds keys of it either).

It also says how often the shard was begun in this session of the run and whether the last process
died while reading a snapshot, so that a snapshot that kills its reader is not read for ever.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

_MAGIC = b"AMLEDG01"
_MAX_BEGINNINGS = 8
_HEADER = struct.Struct(f"<8s16sqq{_MAX_BEGINNINGS}d")
_GAME = struct.Struct("<qq")
# No run stores so many; a file that says so is damaged.
_MAX_COUNT = 1 << 62


class Ledger:
    """One shard's file. Never raises OSError: without it a shard only knows less of its past."""

    def __init__(self, path: Path, num_games: int, *, session: str) -> None:
        """Read what is there, or begin anew; a file for another number of games is not used.

        `session` tells this session of the run from the ones before.
        """
        self._session = session.encode()[:16].ljust(16, b"\0")
        # Number of the snapshot that the last process was reading when it died; 0: none.
        self.reading = 0
        # When the processes of this session began, oldest first; the newest few.
        self.beginnings: list[float] = []
        # Transitions of each game that had been stored.
        self.inserted = [0] * num_games
        # Generation of each game's next entry.
        self.num_added = [0] * num_games
        # Why the file does not say what it should; tried again with every chunk.
        self.error: OSError | None = None
        self._path = path
        self._fd = -1
        self._is_closed = False
        with suppress(OSError):
            self._open()
            self._read(os.pread(self._fd, _HEADER.size + num_games * _GAME.size, 0))
        self._write_all()

    def _open(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)

    @property
    def is_this_session(self) -> bool:
        """Whether a process of this session of the run has written here before."""
        return bool(self.beginnings)

    def _read(self, data: bytes) -> None:
        if len(data) != _HEADER.size + len(self.inserted) * _GAME.size:
            return
        magic, session, reading, num_beginnings, *beginnings = _HEADER.unpack_from(data)
        if magic != _MAGIC or not 0 <= num_beginnings <= _MAX_BEGINNINGS:
            return
        games = list(_GAME.iter_unpack(data[_HEADER.size :]))
        if not all(0 <= count <= _MAX_COUNT for game in games for count in game):
            return
        self.inserted = [inserted for inserted, _ in games]
        self.num_added = [num_added for _, num_added in games]
        if session == self._session:
            self.reading = reading
            self.beginnings = beginnings[:num_beginnings]

    def begin(self, now: float) -> None:
        """A process begins."""
        self.beginnings = [*self.beginnings, now][-_MAX_BEGINNINGS:]
        self._write_all()

    def set_reading(self, number: int) -> None:
        """A snapshot is about to be read; 0: it was."""
        self.reading = number
        self._write_all()

    def set_games(self, inserted: Sequence[int], num_added: Sequence[int]) -> None:
        """Begin from these counts."""
        self.inserted, self.num_added = list(inserted), list(num_added)
        self._write_all()

    def note(self, index: int, inserted: int, num_added: int) -> None:
        """A chunk of a game was stored."""
        self.inserted[index], self.num_added[index] = inserted, num_added
        if self.error is not None:
            self._write_all()
        else:
            self._write(_HEADER.size + index * _GAME.size, _GAME.pack(inserted, num_added))

    def close(self) -> None:
        """Keep the file; write no more."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1
        self._is_closed = True

    def _write_all(self) -> None:
        beginnings = [*self.beginnings, *[0.0] * (_MAX_BEGINNINGS - len(self.beginnings))]
        header = _HEADER.pack(
            _MAGIC, self._session, self.reading, len(self.beginnings), *beginnings
        )
        games = [_GAME.pack(*game) for game in zip(self.inserted, self.num_added, strict=True)]
        self._write(0, b"".join([header, *games]))

    def _write(self, offset: int, data: bytes) -> None:
        # Once it is written, a full disk has room for this file: its length never changes.
        if self._is_closed:
            return
        try:
            if self._fd < 0:
                self._open()
            if os.pwrite(self._fd, data, offset) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self.error = None
        except OSError as error:
            self.error = error
