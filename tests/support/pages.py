"""The live page of a run, served from a thread, and a client that is no browser."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from views.live.guard import Guard
from views.live.process import LOOPBACK, listen
from views.live.server import Page
from views.live.source import RunSource


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Served:
    port: int
    page: Page

    def ask(self, path: str, body: object = None, *, method: str = "", **headers: str) -> Answer:
        """Send a request; names of headers with `_` for `-`."""
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=30.0)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        data = None if body is None else json.dumps(body)
        try:
            connection.request(method or ("POST" if data else "GET"), path, data, named)
            response = connection.getresponse()
            return Answer(response.status, dict(response.headers), response.read())
        finally:
            connection.close()

    @contextmanager
    def events(self, path: str) -> Iterator[Iterator[tuple[str, Any]]]:
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=60.0)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            assert response.status == 200
            assert response.headers["Content-Type"] == "text/event-stream"
            yield _parse(response)
        finally:
            connection.close()
            if connection.sock is not None:
                connection.sock.close()


def _parse(response: http.client.HTTPResponse) -> Iterator[tuple[str, Any]]:
    kind = ""
    for line in response:
        name, _, value = line.decode().rstrip("\n").partition(": ")
        if name == "event":
            kind = value
        elif name == "data":
            yield kind, json.loads(value)


@contextmanager
def served(source: RunSource, guard: Guard | None = None) -> Iterator[Served]:
    """Serve a run's page on a free port, until the block ends."""
    page = Page(source, guard or Guard())
    loop = asyncio.new_event_loop()
    server = listen(LOOPBACK, 0)
    runner = web.AppRunner(
        page.application(), access_log=None, shutdown_timeout=0.1, handler_cancellation=True
    )

    async def start() -> None:
        await runner.setup()
        await web.SockSite(runner, server).start()

    loop.run_until_complete(start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield Served(server.getsockname()[1], page)
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(20.0)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(20.0)
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
