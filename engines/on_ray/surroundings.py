"""What a Ray of the run's own finds around it: a folder to write to, a token, the right modules.

Ray fails with a page of traceback where one of these is missing, and a run would need none of it to
be as Ray expects.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

# Ray's sockets lie 64 letters below its temporary folder, and their paths may have 107.
_MAX_FOLDER_BYTES = 39

# Room below which a folder counts as full; Ray's logs of one session take more.
_NEEDED_BYTES = 1 << 20

_SOURCE = Path(__file__).resolve().parents[2]


def find_temporary_folder(environment: Mapping[str, str] = os.environ) -> str:
    """A folder in which Ray can have its sockets and logs: the usual one, if that will do.

    ValueError if there is none, with what is wrong with each.
    """
    usual = environment.get("RAY_TMPDIR") or environment.get("TMPDIR") or "/tmp"
    reasons = []
    for folder in dict.fromkeys([usual, "/tmp", f"/tmp/am-{os.getuid()}", "/dev/shm"]):
        reason = _what_is_wrong_with(folder)
        if not reason:
            return folder
        reasons.append(f"{folder}: {reason}")
    raise ValueError(
        f"Ray has no folder for its sockets and logs ({'; '.join(reasons)}); name one in "
        "RAY_TMPDIR, or run in one process with --engine local"
    )


def _what_is_wrong_with(folder: str) -> str:
    if len(os.fsencode(folder)) > _MAX_FOLDER_BYTES:
        return f"longer than {_MAX_FOLDER_BYTES} letters"
    try:
        # Ray makes a folder of this name in it, which another user may have made before.
        Path(folder, "ray").mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=Path(folder, "ray")) as file:
            file.write(bytes(_NEEDED_BYTES))
            file.flush()
    except OSError as error:
        return str(error.strerror).lower()
    return ""


def make_token_if_home_is_unusable() -> None:
    """Have Ray's processes share a secret of this run, where Ray cannot keep one in the home.

    Ray would write it to ~/.ray/auth_token, or read what it has written there before. Nobody else
    can join the run's Ray then, and nobody needs to.
    """
    names = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
    is_off = os.environ.get("RAY_AUTH_MODE", "token").lower() != "token"
    if is_off or any(os.environ.get(name) for name in names) or _has_usable_home():
        return
    os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def _has_usable_home() -> bool:
    with suppress(OSError, RuntimeError):  # The latter: a user whom the system does not know.
        folder = Path.home() / ".ray"
        folder.mkdir(parents=True, exist_ok=True)
        token = folder / "auth_token"
        return os.access(token if token.exists() else folder, os.R_OK | os.W_OK)
    return False


@contextmanager
def started_from_source() -> Iterator[None]:
    """Inside the `with` block this process is in the folder of the project's source.

    Ray has its workers look for modules in the folder from which it was started, before any other:
    a `games/` or a `learner.py` that somebody has there would be taken for the project's own.
    """
    try:
        before = os.open(".", os.O_RDONLY)
    except OSError:  # The folder has been removed.
        before = None
    os.chdir(_SOURCE)
    try:
        yield
    finally:
        if before is not None:
            os.fchdir(before)
            os.close(before)
