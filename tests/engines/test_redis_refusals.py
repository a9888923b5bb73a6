"""A Redis that has no memory left, and one that knows of another launcher of the same run."""

import logging
import signal
import subprocess
import sys
import time
from contextlib import closing

import numpy as np
import pytest
from runs import wait_until

from engines.on_redis.bus import RedisBus
from engines.on_redis.link import RedisRefusedError, build_client
from engines.on_redis.run_link import RunLink, check_not_carried
from engines.on_redis.server import PrivateRedis
from engines.on_redis.weights import RedisWeightSink, RedisWeightSource
from engines.opening import check_redis
from networks.weights import WeightSnapshot, WeightsVersion
from recipes.config import RunConfig

pytestmark = pytest.mark.redis

SOON_S = 30.0
"""A bound for what takes milliseconds; only a failing test waits that long."""
RUN = "run"


@pytest.fixture
def server():
    """Debian's, Valkey's or the packaged server, by its socket, without limits on commands."""
    with PrivateRedis() as server:
        yield server


@pytest.fixture
def client(server):
    with closing(build_client(server.url)) as client:
        yield client


def fill(client):
    """As others who share the server may have done: nothing more goes in."""
    client.config_set("maxmemory", "1")


def snapshot(updates):
    return WeightSnapshot(WeightsVersion(0, updates), {"w": np.full(1000, updates, np.float16)})


def test_a_full_server_is_refused_before_the_run_begins(server, client):
    config = RunConfig(games=("pong",), num_steps=1, redis_url=server.url)
    check_redis(config)
    assert client.keys() == [], "the look has left something behind"
    fill(client)
    with pytest.raises(ValueError, match=r"has no memory left .*raise its maxmemory") as refusal:
        check_redis(config)
    assert "\n" not in str(refusal.value)


def test_a_wrong_password_is_refused_without_showing_it():
    with PrivateRedis(listen_address="127.0.0.1") as server:
        wrong = server.url.replace("redis://:", "redis://:x")
        config = RunConfig(games=("pong",), num_steps=1, redis_url=wrong)
        with pytest.raises(ValueError, match="refuses the user or the password") as refusal:
            check_redis(config)
    assert wrong.partition("@")[0].removeprefix("redis://:") not in str(refusal.value)


def test_a_database_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match=r"ends in /abc, which is no number .*; write /0"):
        build_client("redis://host/abc")


@pytest.mark.parametrize("letter", ["#", "/"])
def test_a_password_that_is_not_encoded_is_refused_with_how_and_never_shown(letter):
    with pytest.raises(ValueError, match="%23 for #") as refusal:
        build_client(f"redis://:secret{letter}word@localhost:1/0")
    assert "secret" not in str(refusal.value)
    assert "word@" not in str(refusal.value)


def test_a_private_authority_is_named_in_the_address():
    url = "rediss://:x@localhost:1/0?ssl_ca_certs=/etc/ssl/own-ca.pem"
    with closing(build_client(url)) as client:
        assert client.connection_pool.make_connection().ca_certs == "/etc/ssl/own-ca.pem"


def test_a_user_who_may_not_write_is_refused(server, client):
    client.acl_setuser("reader", enabled=True, nopass=True, keys=["*"], categories=["+@read"])
    client.acl_setuser("reader", enabled=True, nopass=True, keys=["*"], commands=["+ping"])
    config = RunConfig(
        games=("pong",), num_steps=1, redis_url=server.url.replace("unix://", "unix://reader:x@")
    )
    with pytest.raises(ValueError, match=r"takes no data .*must be able to read and write"):
        check_redis(config)


def test_a_server_that_fills_up_is_told_once_and_the_run_goes_on_until_there_is_room(
    server, client, caplog
):
    caplog.set_level(logging.WARNING)
    sink = RedisWeightSink(server.url, RUN, check_period_s=0.02)
    source = RedisWeightSource(server.url, RUN, poll_period_s=0.02)
    link = RunLink(server.url, RUN, period_s=0.02)
    try:
        sink.publish(snapshot(1))
        assert source.wait(None, SOON_S).version == (0, 1)
        fill(client)
        sink.publish(snapshot(2))
        link.show({"phase": "training"}, {"steps": 1.0})
        wait_until(lambda: len(caplog.records) >= 2, timeout_s=SOON_S, what="both are refused")
        again = sink.counters()["redis_failures"] + 3
        wait_until(
            lambda: sink.counters()["redis_failures"] > again, timeout_s=SOON_S, what="more often"
        )
        assert source.poll(None).version == (0, 1), "actors go on with the weights that they have"
        said = [record.message for record in caplog.records]
        assert len(said) == 2, "once for each of the two"
        assert all("takes no more data" in text and "raise its maxmemory" in text for text in said)
        client.config_set("maxmemory", "0")
        assert source.wait(WeightsVersion(0, 1), SOON_S).version == (0, 2)
        bus = RedisBus(server.url, RUN)
        wait_until(bus.status, timeout_s=SOON_S, what="the status is there")
        bus.close()
    finally:
        sink.close()
        source.close()
        link.close()


def test_what_needs_no_memory_goes_on_meanwhile(server, client):
    with closing(RedisBus(server.url, RUN)) as bus:
        bus.set_status({"phase": "training"})
        fill(client)
        for _ in range(3):
            with pytest.raises(RedisRefusedError, match="no memory left"):
                bus.set_status({"phase": "testing"})
            assert bus.status() == {"phase": "training"}


# Two launchers


@pytest.fixture
def elsewhere(server):
    """Another program that carries the run: (its process, once it is seen)."""
    code = (
        "import sys, time; from engines.on_redis.run_link import RunLink\n"
        "link = RunLink(sys.argv[1], sys.argv[2]); link.show({'pid': 77, 'host': 'far'})\n"
        "time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, server.url, RUN])
    bus = RedisBus(server.url, RUN)
    try:
        wait_until(bus.status, timeout_s=SOON_S, what="it is seen")
        yield process
    finally:
        process.kill()
        process.wait()
        bus.close()


def test_a_run_that_another_machine_carries_is_not_carried_twice(server, elsewhere):
    config = RunConfig(games=("pong",), num_steps=1, redis_url=server.url)
    with pytest.raises(ValueError, match=r"another program .pid 77 on far. is carrying this run"):
        check_redis(config, run=RUN)
    check_redis(config, run="another")
    elsewhere.send_signal(signal.SIGKILL)
    elsewhere.wait()
    begun = time.monotonic()
    # Its last words are still there; nobody says them again.
    with closing(RedisBus(server.url, RUN)) as bus:
        assert bus.status() is not None
    check_not_carried(server.url, RUN, patience_s=1.5)
    assert time.monotonic() - begun >= 1.4


def test_a_run_that_nobody_carries_is_found_so_at_once(server):
    begun = time.monotonic()
    check_not_carried(server.url, RUN, patience_s=60.0)
    assert time.monotonic() - begun < SOON_S
