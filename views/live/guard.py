"""Who may do what on the live page: names of the host, origins, and the token.

A page on a loopback port is reached by every program of the machine and, through the browser, by
every web site that its user visits. Hence:

- only requests that name this host are answered: a site whose own name suddenly means 127.0.0.1
  (DNS rebinding) is not;
- what another site has the browser send (CSRF) is refused, by Origin and Sec-Fetch-Site;
- what changes the run needs the token, in a header that no form can send.
"""

from __future__ import annotations

import hmac
from collections.abc import Collection
from urllib.parse import urlsplit

from aiohttp import web
from multidict import MultiMapping

TOKEN_HEADER = "X-Actor-Mimic-Token"
_LOOPBACK = ("localhost", "127.0.0.1", "::1")

HEADERS = {
    # Nothing from elsewhere, nothing inline, and in nobody's frame.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}


class Guard:
    """Decides about requests; raises aiohttp's errors for those that are refused."""

    def __init__(self, *, hosts: Collection[str] = (), token: str = "") -> None:
        """Answer to loopback's names and to these."""
        self._hosts = {host.lower().strip("[]") for host in (*_LOOPBACK, *hosts)}
        self._token = token

    @property
    def is_writable(self) -> bool:
        """Whether anybody can change anything."""
        return bool(self._token)

    def check_read(self, request: web.Request) -> None:
        """Refuse requests for another host, and those that another site has caused."""
        self.check_names(request.headers, is_page=request.path == "/")

    def check_names(self, headers: MultiMapping[str], *, is_page: bool = False) -> None:
        """Check as `check_read` does, but let a followed link to the page itself pass."""
        host = headers.get("Host", "")
        if _name(f"//{host}") not in self._hosts:
            raise web.HTTPForbidden(text="this page answers to the names of its own host only")
        origin = headers.get("Origin")
        if origin is not None and origin not in (f"http://{host}", f"https://{host}"):
            raise web.HTTPForbidden(text="asked for by another site")
        if not is_page and headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            raise web.HTTPForbidden(text="asked for by another site")

    def check_change(self, request: web.Request) -> None:
        """Refuse what may not change the run; on top of `check_read`."""
        self.check_read(request)
        if not self._token:
            raise web.HTTPForbidden(text="read-only: the page was started without a token")
        given = request.headers.get(TOKEN_HEADER, "")
        if not hmac.compare_digest(given.encode(), self._token.encode()):
            raise web.HTTPForbidden(text="the token is not the one that the page was started with")
        if request.content_type != "application/json":
            raise web.HTTPUnsupportedMediaType(text="send application/json")


def _name(url: str) -> str | None:
    """Host of a URL, without its port; None for what is no URL."""
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None
