"""Takes passwords and other secrets out of what is shown or recorded."""

from __future__ import annotations

import re
from collections.abc import Iterable


def hide_secrets(argv: Iterable[str]) -> list[str]:
    """A command line without the passwords in its URLs and without the values of secret options."""
    shown = []
    secret_follows = False
    for word in argv:
        option, separator, _ = word.partition("=")
        is_secret = re.fullmatch(r"--\S*(password|passwd|secret|token)\S*", option, re.IGNORECASE)
        if secret_follows and not word.startswith("--"):
            shown.append("***")
        elif is_secret and separator:
            shown.append(f"{option}=***")
        else:
            shown.append(re.sub(r"[A-Za-z][A-Za-z0-9+.-]*://\S+", _hide_in_match, word))
        secret_follows = bool(is_secret) and not separator
    return shown


def _hide_in_match(match: re.Match[str]) -> str:
    return hide_password(match.group())


def hide_password(url: str) -> str:
    """The URL with user and password replaced by ***; meant for messages and records.

    Rather hides too much than too little when the URL is malformed.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        scheme, rest = "", url
    rest = re.sub(r"(?i)(password|username)=[^&#]*", r"\1=***", rest)
    is_plain_path = scheme == "unix" and rest.startswith("/")
    if "@" in rest and not is_plain_path:
        rest = "***@" + rest.rpartition("@")[2]
    return f"{scheme}{separator}{rest}"
