"""The private server: who can reach it, what it shows, when it ends."""

import contextlib
import os
import select
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from engines.on_redis.link import build_client, connect
from engines.on_redis.server import PrivateRedis, find_packaged_server, find_redis_server
from records.hiding import hide_password

needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux's /proc")


def installed_server() -> Path | None:
    try:
        return find_redis_server()
    except ValueError:
        return None


SERVERS = {"packaged": find_packaged_server(), "installed": installed_server()}


@pytest.fixture(params=sorted(SERVERS))
def program(request: pytest.FixtureRequest) -> Path:
    program = SERVERS[request.param]
    if program is None:
        pytest.skip(f"no {request.param} Redis server")
    return program


@pytest.fixture
def on_socket(program: Path) -> Iterator[PrivateRedis]:
    with PrivateRedis(server=program) as server:
        yield server


@pytest.fixture
def on_address(program: Path) -> Iterator[PrivateRedis]:
    with PrivateRedis(server=program, listen_address="127.0.0.1") as server:
        yield server


def directory_of(server: PrivateRedis) -> Path:
    return server.log_path.parent


def password_of(server: PrivateRedis) -> str:
    return server.url.partition("://:")[2].rpartition("@")[0]


def listeners_of(pid: int) -> list[str]:
    """Local addresses, in /proc's spelling, on which a process accepts TCP connections."""
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            inodes.add(os.readlink(descriptor).removeprefix("socket:[").removesuffix("]"))
    rows = []
    for table in ("tcp", "tcp6"):
        rows += Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
    fields = [row.split() for row in rows]
    listening = "0A"
    return [row[1] for row in fields if row[3] == listening and row[9] in inodes]


def kill_and_wait(pid: int) -> None:
    descriptor = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    wait_for_end(descriptor)


def wait_for_end(pidfd: int, timeout_s: float = 10.0) -> None:
    assert ends_within(pidfd, timeout_s), "the process is still there"


def ends_within(pidfd: int, timeout_s: float) -> bool:
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    has_ended = bool(poller.poll(timeout_s * 1000))
    os.close(pidfd)
    return has_ended


@pytest.mark.redis
@needs_proc
def test_socket_directory_is_private_and_there_is_no_tcp_port(on_socket):
    directory = directory_of(on_socket)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE((directory / "redis.sock").stat().st_mode) == 0o700
    assert listeners_of(on_socket.pid) == []


@pytest.mark.redis
@needs_proc
def test_with_an_address_it_listens_there_and_nowhere_else(on_address):
    port = int(on_address.url.rpartition(":")[2].removesuffix("/0"))
    assert listeners_of(on_address.pid) == [f"0100007F:{port:04X}"]


@pytest.mark.redis
@needs_proc
def test_password_is_in_neither_arguments_nor_environment_nor_files(program, tmp_path):
    # A server overwrites its own arguments soon, so they are recorded before it starts.
    recorder = tmp_path / "redis-server"
    recorder.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/arguments\nexec {program} "$@"\n')
    recorder.chmod(0o755)
    with PrivateRedis(server=recorder, listen_address="127.0.0.1") as server:
        password = password_of(server).encode()
        config_path = directory_of(server) / "redis.conf"
        arguments = (tmp_path / "arguments").read_text().split()
        assert arguments == [str(config_path)]
        assert stat.S_IMODE(config_path.stat().st_mode) == 0o600
        assert stat.S_IMODE(directory_of(server).stat().st_mode) == 0o700
        places = [*directory_of(server).iterdir(), *Path(f"/proc/{server.pid}").glob("c*line")]
        places.append(Path(f"/proc/{server.pid}/environ"))
        assert len(password) >= 32
        assert [place for place in places if password in place.read_bytes()] == []


@pytest.mark.redis
def test_without_or_with_a_wrong_password_nobody_gets_in(on_address):
    address = on_address.url.rpartition("@")[2]
    for url in (f"redis://{address}", f"redis://:guessed@{address}"):
        with pytest.raises(ValueError, match="password") as refusal:
            connect(url, num_retries=0)
        assert "guessed" not in str(refusal.value)


@pytest.mark.redis
def test_the_password_does_not_open_configuration_or_foreign_keys(on_address):
    client = connect(on_address.url)
    client.set("am:run:status", b"1")
    for forbidden in (
        lambda: client.config_set("dir", "/tmp"),
        lambda: client.set("other", b"1"),
        lambda: client.execute_command("DEBUG", "SLEEP", "0"),
        lambda: client.execute_command("MODULE", "LOAD", "/tmp/x.so"),
    ):
        with pytest.raises(redis.ResponseError):
            forbidden()
    client.close()


@pytest.mark.redis
def test_close_ends_the_server_and_removes_its_directory(program):
    server = PrivateRedis(server=program)
    descriptor = os.pidfd_open(server.pid)
    server.close()
    server.close()
    wait_for_end(descriptor)
    assert server.pid is None
    assert not directory_of(server).exists()


@pytest.mark.redis
def test_nothing_is_persisted(on_socket):
    client = connect(on_socket.url)
    settings = client.config_get("save", "appendonly", "maxmemory")
    assert settings == {"save": "", "appendonly": "no", "maxmemory": str(1 << 30)}
    client.close()


@pytest.mark.redis
@pytest.mark.parametrize("listen_address", [None, "127.0.0.1"])
def test_a_dead_server_is_started_again_under_the_same_url(program, listen_address):
    with PrivateRedis(server=program, listen_address=listen_address) as server:
        url = server.url
        assert not server.restart_if_dead()
        kill_and_wait(server.pid)
        assert server.restart_if_dead()
        assert server.url == url
        client = connect(url)
        assert client.get("am:key") is None
        client.close()


@pytest.mark.redis
def test_a_server_started_from_a_thread_survives_that_thread(program):
    servers = []
    thread = threading.Thread(target=lambda: servers.append(PrivateRedis(server=program)))
    thread.start()
    thread.join()
    with servers[0] as server:
        assert not ends_within(os.pidfd_open(server.pid), 0.5)


def start_owner(program: Path, then: str) -> tuple[subprocess.Popen[str], int, Path]:
    """A process that owns a server; its server's process id and directory."""
    code = (
        "import sys, pathlib\n"
        "from engines.on_redis.server import PrivateRedis\n"
        "server = PrivateRedis(server=pathlib.Path(sys.argv[1]))\n"
        "print(server.pid, server.log_path.parent, flush=True)\n" + then
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", code, str(program)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    assert owner.stdout is not None
    pid, directory = owner.stdout.readline().split()
    return owner, int(pid), Path(directory)


@pytest.mark.redis
def test_the_server_ends_with_an_interpreter_that_forgot_to_close_it(program):
    owner, pid, directory = start_owner(program, "input()\n")
    with owner:
        descriptor = os.pidfd_open(pid)
        owner.communicate("\n", timeout=20)
    wait_for_end(descriptor)
    assert owner.returncode == 0
    assert not directory.exists()


@pytest.mark.redis
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
def test_the_server_ends_when_its_owner_is_killed(program):
    owner, pid, directory = start_owner(program, "input()\n")
    with owner:
        descriptor = os.pidfd_open(pid)
        owner.kill()
    wait_for_end(descriptor)
    for left_over in directory.iterdir():
        left_over.unlink()
    directory.rmdir()


@pytest.mark.redis
def test_a_forked_child_that_exits_leaves_the_server_alone(program):
    code = (
        "import os, sys\n"
        "child = os.fork()\n"
        "if child == 0: sys.exit(0)\n"
        "os.waitpid(child, 0)\n"
        "print(server.pid, server.log_path.exists(), flush=True)\n"
    )
    owner, pid, _ = start_owner(program, code)
    output, _ = owner.communicate(timeout=20)
    assert output.split() == [str(pid), "True"]


def test_a_server_that_does_not_start_is_explained_with_the_end_of_its_log(tmp_path):
    broken = tmp_path / "redis-server"
    broken.write_text("#!/bin/sh\necho cannot do it today\nexit 3\n")
    broken.chmod(0o755)
    with pytest.raises(ValueError, match=r"(?s)ended with status 3.*cannot do it today"):
        PrivateRedis(server=broken)


@pytest.mark.parametrize("reaction", ["-", pytest.param("", id="deaf", marks=pytest.mark.slow)])
def test_a_server_that_never_answers_is_ended_after_the_timeout(tmp_path, reaction):
    silent = tmp_path / "redis-server"
    silent.write_text(f"#!/bin/sh\ntrap '{reaction}' TERM\necho $$\nexec sleep 600\n")
    silent.chmod(0o755)
    log_path = tmp_path / "redis.log"
    with pytest.raises(ValueError, match=r"did not answer within 0\.3 s"):
        PrivateRedis(server=silent, log_path=log_path, start_timeout_s=0.3)
    pid = int(log_path.read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize("address", ["", "0.0.0.0", "::"])
def test_a_wildcard_address_is_refused(address):
    with pytest.raises(ValueError, match="private address"):
        PrivateRedis(listen_address=address)


def test_an_unreachable_server_is_named_without_its_password():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # Bound but not listening: connecting is refused.
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=f"redis://.*@127.0.0.1:{port}/3") as refusal:
            connect(f"redis://me:s3cret@127.0.0.1:{port}/3", num_retries=0)
    assert "s3cret" not in str(refusal.value)
    assert "start that server" in str(refusal.value)


@pytest.mark.parametrize(
    "url", ["localhost:6379", "http://:s3cret@host/", "redis://:s3cret@host:port/0", ""]
)
def test_a_malformed_url_is_refused_without_showing_its_password(url):
    with pytest.raises(ValueError, match="is not a Redis URL") as refusal:
        connect(url)
    assert "s3cret" not in str(refusal.value)
    assert refusal.value.__cause__ is None


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("redis://:s3cret@host:6379/0", "redis://***@host:6379/0"),
        ("rediss://user:s3cret@host/0", "rediss://***@host/0"),
        ("redis://:a@b/s3cret@host/0", "redis://***@host/0"),
        ("redis://host/0?password=s3cret&db=1", "redis://host/0?password=***&db=1"),
        ("unix:///tmp/a@b/redis.sock", "unix:///tmp/a@b/redis.sock"),
        ("unix://user:s3cret@/tmp/redis.sock", "unix://***@/tmp/redis.sock"),
        ("user:s3cret@host:6379", "***@host:6379"),
    ],
)
def test_passwords_are_hidden_wherever_a_url_can_hold_them(url, shown):
    assert hide_password(url) == shown


@pytest.mark.parametrize("password", ["a/b", "a#b", "a?b", "se/cr@et"])
def test_a_password_that_is_not_encoded_is_refused_with_how_to_and_not_shown(password):
    with pytest.raises(ValueError, match="special characters of a password as %XX") as refusal:
        build_client(f"redis://:{password}@localhost:6379/0")
    assert password not in str(refusal.value)
    assert password.split("/")[-1] not in str(refusal.value)
