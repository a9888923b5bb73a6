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

import argparse
import asyncio
import contextlib
import ipaddress
import os
import signal
import socket
import sys
from collections.abc import Sequence

from aiohttp import web

from launch.options.exit_status import run_command
from launch.options.of_a_run import add_redis_url, parse_run_options, run_parser
from records.run_dir import RunDir
from views.live.guard import Guard
from views.live.process import LOOPBACK, address_of, listen
from views.live.server import Page
from views.live.source import RunSource
from views.live.token import read_token

_SHUTDOWN_S = 0.5


def main(argv: Sequence[str]) -> None:
    """Serve until Ctrl-C; ValueError for anything the user got wrong."""
    options = _parse(argv)
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
    """Until a signal, or until whoever has started this has gone."""
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


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = run_parser(
        "dashboard.py",
        "Show a run on a page in the browser.",
    )
    parser.add_argument("--port", type=int, default=0, help="of the page; 0 takes a free one (0)")
    parser.add_argument(
        "--host", default=LOOPBACK, help=f"address that the page is served at ({LOOPBACK})"
    )
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="another name that browsers may call this machine by",
    )
    parser.add_argument(
        "--token-file",
        default="",
        help="file with the token that the controls ask for; without it, and without "
        "ACTOR_MIMIC_DASHBOARD_TOKEN, nothing can be changed",
    )
    add_redis_url(parser)
    # For views/live/process.py: a socket that listens already, and the launcher's pipe.
    parser.add_argument("--listen-fd", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--until-stdin-closes", action="store_true", help=argparse.SUPPRESS)
    return parse_run_options(parser, argv)


if __name__ == "__main__":
    run_command(main)
