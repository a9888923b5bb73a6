"""Starts the live page beside a run, as a process of its own, and ends it with the run.

The launcher opens the socket, so that it knows the address at once, and holds one end of a pipe:
when the run ends, or its launcher is killed, the pipe ends and the page with it. Nothing that the
page does can hold the run up.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from records.run_dir import RunDir
from views.live.token import read_token

if TYPE_CHECKING:
    from recipes.config import DashboardConfig

LOOPBACK = "127.0.0.1"
_COMMAND = Path(__file__).parents[2] / "launch" / "dashboard.py"
_END_S = 2.0


def listen(host: str, port: int) -> socket.socket:
    """A socket that takes connections; they wait until somebody serves it."""
    if not 0 <= port < 1 << 16:
        raise ValueError(f"cannot serve the page at port {port}: it must be from 0 to 65535")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=64)
    except OSError as error:
        raise ValueError(
            f"cannot serve the page at {host}, port {port}: {error.strerror}; choose another "
            "--port, or 0 for any that is free"
        ) from None


def address_of(server: socket.socket) -> str:
    """What to type into a browser."""
    host, port = server.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def open_page(
    run: RunDir, config: DashboardConfig, *, stack: ExitStack, note: Callable[[str], None]
) -> None:
    """Show a run on this machine's loopback until the stack is closed."""
    try:
        read_token(config.token_file)  # The page's own complaints are seen by nobody.
        with listen(LOOPBACK, config.port) as server:
            process = _start(run, server, config.token_file)
            note(f"live page: {address_of(server)}")
    except (ValueError, OSError) as error:
        note(f"there is no live page: {error}")
        return
    stack.callback(_end, process)


def _start(run: RunDir, server: socket.socket, token_file: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(_COMMAND), str(run.path), "--listen-fd", str(server.fileno())]
    command += ["--until-stdin-closes", *(["--token-file", token_file] if token_file else [])]
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=[server.fileno()],
        # Ctrl-C is for the launcher, which shows its last state before it ends this process.
        start_new_session=True,
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(OSError):
        assert process.stdin is not None
        process.stdin.close()
    try:
        process.wait(_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
