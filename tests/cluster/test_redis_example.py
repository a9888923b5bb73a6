"""The example of a Redis of one's own: a run can work with it, and its user can do no more."""

from __future__ import annotations

import hashlib
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import torch

from engines.on_redis.bus import RedisBus
from engines.on_redis.server import find_redis_server
from networks.snapshots import take_snapshot
from networks.weights import WeightsVersion

pytestmark = pytest.mark.redis

_EXAMPLES = Path(__file__).resolve().parents[2] / "docker"
_PASSWORD = "not-a-secret"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """user:password@host:port of a server with the example's configuration."""
    folder = tmp_path_factory.mktemp("redis")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    digest = hashlib.sha256(_PASSWORD.encode()).hexdigest()
    users = (_EXAMPLES / "redis-users.acl").read_text()
    (folder / "users.acl").write_text(re.sub(r"#0{64}", f"#{digest}", users))
    lines = (_EXAMPLES / "redis.conf").read_text()
    lines = re.sub(r"(?m)^bind .*$", "bind 127.0.0.1", lines)
    lines = re.sub(r"(?m)^port .*$", f"port {port}", lines)
    lines = re.sub(r"(?m)^aclfile .*$", f"aclfile {folder}/users.acl", lines)
    (folder / "redis.conf").write_text(lines)
    with subprocess.Popen(
        [find_redis_server(), folder / "redis.conf"], cwd=folder, stdout=subprocess.DEVNULL
    ) as server:
        _wait_until_open(port)
        yield f"actor-mimic:{_PASSWORD}@127.0.0.1:{port}"
        server.terminate()


def _wait_until_open(port: int) -> None:
    deadline = time.monotonic() + 10.0
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def test_a_run_publishes_fetches_and_forgets(address: str) -> None:
    bus = RedisBus(f"redis://{address}/0", "run")
    network = torch.nn.Linear(2, 2)
    for updates in range(4):
        snapshot = take_snapshot(network, WeightsVersion(1, updates), half=True)
        assert bus.publish_weights(snapshot)
    fetched = bus.fetch_weights(None)
    assert fetched is not None
    assert fetched.version == WeightsVersion(1, 3)
    bus.forget_run()
    assert bus.newest_version() is None
    bus.close()


@pytest.mark.parametrize(
    "command",
    [
        ("GET", "other"),
        ("SET", "other", "1"),
        ("CONFIG", "GET", "dir"),
        ("EVAL", "return 1", "0"),
        ("FLUSHALL",),
        ("KEYS", "*"),
    ],
)
def test_its_user_can_do_nothing_else(address: str, command: tuple[str, ...]) -> None:
    client = redis.Redis.from_url(f"redis://{address}/0")
    with pytest.raises(redis.exceptions.NoPermissionError):
        client.execute_command(*command)
    client.close()


def test_without_user_and_password_it_turns_away(address: str) -> None:
    client = redis.Redis.from_url(f"redis://{address.rpartition('@')[2]}/0", protocol=2)
    with pytest.raises(redis.AuthenticationError):
        client.get("am:run:weights:newest")
    client.close()
