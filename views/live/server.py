"""Serves the live page of one run: files, and what is known of the run as a stream of events.

    GET  /                   the page; /assets/NAME its parts
    GET  /api/state          what is known now (views/live/view.py)
    GET  /api/curves         the curves so far
    GET  /api/events         server-sent events: `state`, twice a second
    GET  /api/play?game=G    server-sent events: `picture`, while somebody watches
    POST /api/token          204 if the token is right
    POST /api/wanted         {game: number of actors}; needs the token

Nothing is read and nothing runs while nobody watches.
"""

from __future__ import annotations

import asyncio
import base64
import importlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from importlib.resources import files
from typing import Any

from aiohttp import ClientConnectionResetError, web

from views.live.guard import HEADERS, Guard
from views.live.source import RunSource
from views.live.view import curves, describe, newest_point

# Between two looks at what the run has written; with a look of the run every second, what is shown
# is new at least every 2 s (docs/dashboard.md).
PERIOD_S = 0.5
MAX_WATCHERS = 32
# Each takes about a tenth of a core.
MAX_PLAYERS = 3

_MAX_BODY_BYTES = 64 << 10
_WRONG_TOKEN_PAUSE_S = 0.5
_TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Page:
    """The page of one run, as an aiohttp application."""

    def __init__(self, source: RunSource, guard: Guard) -> None:
        """Serve what `source` sees to whom `guard` lets in."""
        self._source = source
        self._guard = guard
        self._feed = _Feed(source)
        self._num_players = 0

    def application(self) -> web.Application:
        """To be run by aiohttp."""
        application = web.Application(middlewares=[self._protect], client_max_size=_MAX_BODY_BYTES)
        application.add_routes(
            [
                web.get("/", self._index),
                web.get("/assets/{name}", self._asset),
                web.get("/api/state", self._state),
                web.get("/api/curves", self._curves),
                web.get("/api/events", self._events),
                web.get("/api/play", self._play),
                web.post("/api/token", self._check_token),
                web.post("/api/wanted", self._set_wanted),
            ]
        )
        application.on_shutdown.append(self._shut_down)
        return application

    @web.middleware
    async def _protect(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            if request.method == "POST":
                self._guard.check_change(request)
            else:
                self._guard.check_read(request)
            response = await handler(request)
        except web.HTTPException as error:
            if request.method == "POST" and error.status == 403:
                await asyncio.sleep(_WRONG_TOKEN_PAUSE_S)
            response = web.json_response({"error": error.text}, status=error.status)
        except ConnectionError:  # Who has asked is gone already.
            response = web.Response()
        if not response.prepared:
            response.headers.update(HEADERS)
        return response

    async def _index(self, _: web.Request) -> web.Response:
        return _file("index.html")

    async def _asset(self, request: web.Request) -> web.Response:
        return _file(request.match_info["name"])

    async def _state(self, _: web.Request) -> web.Response:
        return web.json_response(await self._feed.current(), dumps=_dump)

    async def _curves(self, _: web.Request) -> web.Response:
        await self._feed.current()
        return web.json_response(await self._feed.curves(), dumps=_dump)

    async def _events(self, request: web.Request) -> web.StreamResponse:
        if self._feed.num_watchers >= MAX_WATCHERS:
            raise web.HTTPServiceUnavailable(text="too many pages of this run are open")
        async with _event_stream(request) as send, self._feed.watched() as documents:
            async for document in documents:
                await send("state", {**document, "writable": self._guard.is_writable})
        return send.response

    async def _play(self, request: web.Request) -> web.StreamResponse:
        game = request.query.get("game", "")
        if game not in self._source.games:
            raise web.HTTPNotFound(text=f"{game!r} is not a game of this run")
        if self._num_players >= MAX_PLAYERS:
            raise web.HTTPServiceUnavailable(text="enough students play already; close one")
        self._num_players += 1
        try:
            async with _event_stream(request) as send:
                await self._send_pictures(game, send)
        finally:
            self._num_players -= 1
        return send.response

    async def _send_pictures(self, game: str, send: _Send) -> None:
        loop = asyncio.get_running_loop()
        # One waits at most: who cannot follow sees fewer.
        waiting: asyncio.Queue[tuple[str, dict[str, Any]]] = asyncio.Queue(maxsize=1)

        def put(kind: str, content: dict[str, Any]) -> None:
            with suppress(asyncio.QueueEmpty):
                waiting.get_nowait()
            waiting.put_nowait((kind, content))

        def hand_over(kind: str, content: dict[str, Any]) -> None:
            with suppress(RuntimeError):  # The loop has been closed meanwhile.
                loop.call_soon_threadsafe(put, kind, content)

        # Brings torch and the emulator, which takes seconds where nobody has watched before.
        module = await asyncio.to_thread(importlib.import_module, "views.live.player")
        player = module.Player(
            self._source.run,
            game,
            bus=self._source.bus,
            show=lambda picture: hand_over(
                "picture", {"png": base64.b64encode(picture.png).decode(), **picture.about}
            ),
            tell=lambda text: hand_over("note", {"text": text}),
        )
        try:
            while True:
                kind, content = await waiting.get()
                await send(kind, content)
        finally:
            player.stop()

    async def _check_token(self, _: web.Request) -> web.Response:
        return web.Response(status=204)

    async def _set_wanted(self, request: web.Request) -> web.Response:
        try:
            wanted = await request.json()
        except ValueError:
            raise web.HTTPBadRequest(text="the body is not JSON") from None
        if not isinstance(wanted, Mapping) or not wanted:
            raise web.HTTPBadRequest(text="send a map of games to numbers of actors")
        try:
            await asyncio.to_thread(self._ask, dict(wanted))
        except ValueError as error:
            raise web.HTTPConflict(text=str(error)) from None
        return web.json_response({"asked": wanted})

    def _ask(self, wanted: Mapping[str, int]) -> None:
        if (bus := self._source.bus) is None:
            raise ValueError("the run is not going on, so it has no actors to change")
        importlib.import_module("engines.on_redis.asking").ask(bus, wanted)

    async def _shut_down(self, _: web.Application) -> None:
        self._feed.stop()
        await asyncio.to_thread(self._source.close)


class _Feed:
    """Looks at the run once for all who watch, and not at all while nobody does."""

    def __init__(self, source: RunSource) -> None:
        self._source = source
        self._looking = asyncio.Lock()
        self._changed = asyncio.Condition()
        self._document: dict[str, Any] = {}
        self._looked = float("-inf")
        self._task: asyncio.Task[None] | None = None
        self.num_watchers = 0

    async def current(self) -> dict[str, Any]:
        """What is known now, at most half a period old."""
        loop = asyncio.get_running_loop()
        async with self._looking:
            if loop.time() - self._looked > PERIOD_S / 2:
                try:
                    self._document = await asyncio.to_thread(self._look)
                except Exception as error:
                    if not self._document:
                        raise
                    # Whatever is the matter: who watches goes on, and is told.
                    note = f"The run cannot be read: {error!r}"
                    self._document = {**self._document, "note": note}
                self._looked = loop.time()
        return self._document

    async def curves(self) -> dict[str, Any]:
        """The curves as of the last look."""
        async with self._looking:
            return await asyncio.to_thread(lambda: curves(self._source.look()))

    def _look(self) -> dict[str, Any]:
        seen = self._source.look()
        looks = seen.history.looks
        point = newest_point(looks[-1], self._source.games) if looks else {}
        return {**describe(seen), "point": point}

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """Documents for one who watches."""
        self.num_watchers += 1
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._go_on())
        documents = self._documents()
        try:
            yield documents
        finally:
            self.num_watchers -= 1
            await documents.aclose()

    async def _documents(self) -> AsyncGenerator[dict[str, Any], None]:
        yield await self.current()
        while True:
            async with self._changed:
                await self._changed.wait()
            yield self._document

    async def _go_on(self) -> None:
        while self.num_watchers:
            await self.current()
            async with self._changed:
                self._changed.notify_all()
            await asyncio.sleep(PERIOD_S)

    def stop(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()


class _Send:
    """Writes server-sent events (WHATWG HTML, section 9.2) into one response."""

    def __init__(self, response: web.StreamResponse) -> None:
        self.response = response

    async def __call__(self, kind: str, content: Mapping[str, Any]) -> None:
        await self.response.write(f"event: {kind}\ndata: {_dump(content)}\n\n".encode())


@asynccontextmanager
async def _event_stream(request: web.Request) -> AsyncIterator[_Send]:
    """A response that goes on until whoever reads it has gone."""
    response = web.StreamResponse(headers={**HEADERS, "X-Accel-Buffering": "no"})
    response.content_type = "text/event-stream"
    await response.prepare(request)
    with suppress(ClientConnectionResetError, ConnectionError):
        yield _Send(response)


def _file(name: str) -> web.Response:
    """A part of the page, out of the package; names are looked up, never joined to a path."""
    entries = {entry.name: entry for entry in files("views.live").joinpath("web").iterdir()}
    suffix = name[name.rfind(".") :]
    if name not in entries or suffix not in _TYPES:
        raise web.HTTPNotFound(text="there is no such file")
    return web.Response(
        body=entries[name].read_bytes(), content_type=_TYPES[suffix], charset="utf-8"
    )


def _dump(content: Any) -> str:
    return json.dumps(content, separators=(",", ":"), allow_nan=False)
