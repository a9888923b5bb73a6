"""Reads files, zip members and gzip streams that may be anything, within bounds.

A checkpoint comes from somewhere else: it may be cut short, or made to fill the memory or to write
elsewhere. Sizes are checked before and while decompressing, and nothing is ever extracted to disk.
"""

import gzip
import io
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from teachers.bounded_reading import MAX_FILE_BYTES, read_at_most

# Largest zip member or gzip stream that is read, decompressed.
MAX_MEMBER_BYTES = 256 * 2**20
# Most elements of a checkpoint's tensors together; the largest expert known has 35 million.
MAX_ELEMENTS = 2**26
# Most members of one zip archive: a torch file has one for each tensor, and a few more.
MAX_MEMBERS = 2048

_ENCRYPTED = 0x1
_DIRECTORY_ENTRY = b"PK\x01\x02"
_PLAIN_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def read_file(path: Path) -> bytes:
    """The whole content of a regular file; ValueError if it is empty, or larger than any expert."""
    try:
        if path.is_dir():
            raise ValueError(f"{path} is a folder; name the checkpoint file inside it")
        if not path.is_file():
            raise ValueError(f"checkpoint {path} is missing or is not a regular file")
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    data = read_at_most(path, MAX_FILE_BYTES)
    if not data:
        raise ValueError(f"{path} is empty")
    return data


def gunzip(data: bytes, *, source: str) -> bytes:
    """Decompress a gzip stream; ValueError if it is damaged, or larger than MAX_MEMBER_BYTES."""
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
            content = stream.read(MAX_MEMBER_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{source} is a damaged gzip file: {error}") from error
    if len(content) > MAX_MEMBER_BYTES:
        raise ValueError(f"{source} decompresses to more than {_mib(MAX_MEMBER_BYTES)}; refused")
    return content


class ZipMembers:
    """The members of a zip archive in memory, after checking what its directory says."""

    def __init__(self, data: bytes, *, source: str) -> None:
        """Read and check the directory; no member is decompressed yet.

        Raises:
            ValueError: a damaged archive, too many members, a name that is absolute, leads outside
                or occurs twice, an encrypted member, an odd compression, or a declared size above
                MAX_MEMBER_BYTES.
        """
        self._source = source
        # zipfile builds an object for every entry before anybody could count them.
        if data.count(_DIRECTORY_ENTRY) > 2 * MAX_MEMBERS:
            raise ValueError(f"{source} has too many members; at most {MAX_MEMBERS} are read")
        try:
            self._archive = zipfile.ZipFile(io.BytesIO(data))
        except (zipfile.BadZipFile, ValueError, EOFError, OSError, NotImplementedError) as error:
            raise ValueError(f"{source} is a damaged zip file: {error}") from error
        infos = self._archive.infolist()
        if len(infos) > MAX_MEMBERS:
            raise ValueError(f"{source} has {len(infos)} members; at most {MAX_MEMBERS} are read")
        self._members: dict[str, zipfile.ZipInfo] = {}
        for info in infos:
            self._check(info)
            self._members[info.filename] = info

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all members, in the order of the directory."""
        return tuple(self._members)

    def read(self, name: str, *, max_bytes: int = MAX_MEMBER_BYTES) -> bytes:
        """Decompress one member; ValueError if it is missing, damaged, or larger than allowed."""
        if name not in self._members:
            raise ValueError(f"{self._source} has no member {name!r}")
        info = self._members[name]
        if info.file_size > max_bytes:
            raise ValueError(
                f"{self._source}: member {name!r} has {info.file_size} bytes; at most "
                f"{max_bytes} are read"
            )
        try:
            with self._archive.open(info) as stream:
                # One more than declared: an archive may hold more than its directory admits.
                content = stream.read(info.file_size + 1)
        except (
            zipfile.BadZipFile,
            zlib.error,
            EOFError,
            OSError,
            ValueError,
            RuntimeError,
            NotImplementedError,
        ) as error:
            raise ValueError(f"{self._source}: member {name!r} is damaged: {error}") from error
        if len(content) != info.file_size:
            raise ValueError(f"{self._source}: member {name!r} is not as long as declared")
        return content

    def _check(self, info: zipfile.ZipInfo) -> None:
        name = info.filename
        where = f"{self._source}: member {name!r}"
        # The name as it stands in the file: ZipInfo cuts it at a zero and turns backslashes round.
        raw_name = info.orig_filename
        path = PurePosixPath(raw_name)
        if path.is_absolute() or ".." in path.parts or "\\" in raw_name or ":" in raw_name:
            raise ValueError(f"{where} has a name that leads outside the archive")
        if name in self._members or raw_name != name:
            raise ValueError(f"{where} occurs twice or has an ambiguous name")
        if info.flag_bits & _ENCRYPTED:
            raise ValueError(f"{where} is encrypted; save the checkpoint without a password")
        if info.compress_type not in _PLAIN_METHODS:
            raise ValueError(f"{where} uses compression method {info.compress_type}; save it again")
        if info.file_size > MAX_MEMBER_BYTES:
            raise ValueError(
                f"{where} decompresses to {_mib(info.file_size)}; at most "
                f"{_mib(MAX_MEMBER_BYTES)} are read"
            )


def _mib(num_bytes: int) -> str:
    return f"{num_bytes / 2**20:.0f} MiB"
