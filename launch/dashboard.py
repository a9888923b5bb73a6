#!/usr/bin/env python
"""Show a run on a page in the browser: what it does, what limits it, and its student at play.

    python launch/dashboard.py runs/latest                      prints the page's address
    python launch/dashboard.py runs/latest --port 8080
    python launch/dashboard.py runs/latest --token-file ~/token     with controls for the actors

A run of launch/multitask.py shows such a page by itself. For one that has ended, the folder is
enough; for one on another machine give the address of its Redis in ACTOR_MIMIC_REDIS_URL (or with
--redis-url, which everybody on the machine can read). docs/dashboard.md has more.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import tyro

from launch.options.command_line import RunOptions, parse_options
from launch.options.exit_status import run_command

if TYPE_CHECKING:
    from aiohttp import web

_SHUTDOWN_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class DashboardOptions(RunOptions):
    """Show a run on a page in the browser."""

    port: int = 0
    """Port of the page; 0 takes a free one."""
    host: str = "127.0.0.1"
    """Address that the page is served at."""
    allow_host: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Another name that browsers may call this machine by."""
    token_file: str = ""
    """File with the token that the controls ask for; without it, and without
    ACTOR_MIMIC_DASHBOARD_TOKEN, nothing can be changed."""
    listen_fd: int | None = None
    """Only for launchers of runs: a socket that listens already."""
    until_stdin_closes: bool = False
    """Only for launchers of runs: end when whoever has started this has gone."""


def main(argv: Sequence[str], *, prog: str = "dashboard.py") -> None:
    """Serve until Ctrl-C; ValueError for anything the user got wrong."""
    options = parse_options(DashboardOptions, argv, prog=prog, doc=__doc__)
    from records.run_dir import RunDir
    from views.live.guard import Guard
    from views.live.process import address_of, listen
    from views.live.server import Page
    from views.live.source import RunSource
    from views.live.token import read_token

    run = RunDir.open_carried(options.run)
    guard = Guard(hosts=[options.host, *options.allow_host], token=read_token(options.token_file))
    source = RunSource(run, redis_url=options.redis_url)
    if options.listen_fd is not None:
        server = socket.socket(fileno=options.listen_fd)
    else:
        server = listen(options.host, options.port)
        print(f"{run.path.name}: {address_of(server)}", flush=True)
        if not _is_loopback(options.host):
            print("warning: whoever reaches that address can watch", file=sys.stderr, flush=True)
        if not guard.is_writable:
            print("read-only; --token-file adds controls (docs/dashboard.md)", flush=True)
    # Behind everything else on the machine.
    with contextlib.suppress(OSError):
        os.nice(10)
    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(_serve(Page(source, guard).application(), server, options.until_stdin_closes))


async def _serve(
    application: web.Application, server: socket.socket, until_stdin_closes: bool
) -> None:
    """Serve until a signal comes, or until whoever has started this has gone."""
    from aiohttp import web

    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    if until_stdin_closes:
        loop.add_reader(0, ended.set)  # Nothing is ever written into that pipe.
    runner = web.AppRunner(
        application,
        access_log=None,
        shutdown_timeout=_SHUTDOWN_S,
        # A stream ends when its reader has gone, not when the next thing is written into it.
        handler_cancellation=True,
    )
    await runner.setup()
    try:
        await web.SockSite(runner, server).start()
        await ended.wait()
    finally:
        await runner.cleanup()


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


if __name__ == "__main__":
    run_command(main)
