"""The token that changes on the live page need: from a private file, or the environment."""

from __future__ import annotations

import os
import stat
from pathlib import Path

TOKEN_VARIABLE = "ACTOR_MIMIC_DASHBOARD_TOKEN"
_MIN_TOKEN_LENGTH = 16


def read_token(path: str = "") -> str:
    """The token from a file, else from the environment; empty where there is none."""
    if path:
        token = _read_private(Path(path))
    else:
        token = os.environ.get(TOKEN_VARIABLE, "").strip()
        if not token:
            return ""
    if len(token) < _MIN_TOKEN_LENGTH or not token.isascii() or not token.isprintable():
        raise ValueError(
            f"the token must have at least {_MIN_TOKEN_LENGTH} printable ASCII characters; make "
            "one with: python3 -c 'import secrets; print(secrets.token_urlsafe(24))'"
        )
    return token


def _read_private(path: Path) -> str:
    try:
        with path.open() as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(4096)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ValueError(f"cannot read the token in {path}: {reason}") from None
    if stat.S_IMODE(mode) & 0o077:
        raise ValueError(f"others can read the token in {path}; chmod 600 {path}")
    return text.strip()
