"""What goes through Redis, against real servers that are killed, restarted and fed garbage."""

import os
import select
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgpack
import numpy as np
import pytest
import redis

from engines.on_redis.bus import DamagedWeightsError, RedisBus
from engines.on_redis.link import RedisLink, RedisUnavailableError, connect
from engines.on_redis.server import PrivateRedis, find_packaged_server, find_redis_server
from engines.on_redis.weights import RedisWeightSink, RedisWeightSource
from networks.weights import WeightSnapshot, WeightsVersion

RUN = "a-run"
SOON_S = 20.0
"""A bound for what takes milliseconds; only a failing test waits that long."""


def installed_server() -> Path | None:
    try:
        return find_redis_server()
    except ValueError:
        return None


SERVERS = {"packaged": find_packaged_server(), "installed": installed_server()}


@pytest.fixture(params=sorted(SERVERS))
def server(request: pytest.FixtureRequest) -> Iterator[PrivateRedis]:
    program = SERVERS[request.param]
    if program is None:
        pytest.skip(f"no {request.param} Redis server")
    with PrivateRedis(server=program) as server:
        yield server


@pytest.fixture
def raw(server: PrivateRedis) -> Iterator[redis.Redis]:
    """Redis itself, to look behind the code under test or to spoil things."""
    client = connect(server.url)
    yield client
    client.close()


@pytest.fixture
def bus(server: PrivateRedis) -> Iterator[RedisBus]:
    bus = RedisBus(server.url, RUN)
    yield bus
    bus.close()


@pytest.fixture
def source(server: PrivateRedis) -> Iterator[RedisWeightSource]:
    source = RedisWeightSource(server.url, RUN, poll_period_s=0.01)
    yield source
    source.close()


@pytest.fixture
def sink(server: PrivateRedis) -> Iterator[RedisWeightSink]:
    sink = RedisWeightSink(server.url, RUN, check_period_s=0.02)
    yield sink
    sink.close(timeout_s=1.0)


def snapshot(incarnation: int, updates: int, value: float = 0.0) -> WeightSnapshot:
    arrays = {"layer.weight": np.full((2, 3), value, np.float16)}
    return WeightSnapshot(WeightsVersion(incarnation, updates), arrays)


def kill(server: PrivateRedis) -> None:
    assert server.pid is not None
    descriptor = os.pidfd_open(server.pid)
    os.kill(server.pid, signal.SIGKILL)
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    assert poller.poll(1000 * SOON_S)
    os.close(descriptor)


def version_of(snapshot: WeightSnapshot | None) -> tuple[int, int] | None:
    return None if snapshot is None else tuple(snapshot.version)


@pytest.mark.redis
def test_published_weights_arrive_unchanged(bus):
    sent = snapshot(0, 7, value=0.25)
    assert bus.publish_weights(sent)
    received = bus.fetch_weights(None)
    assert received is not None
    assert received.version == sent.version
    assert received.arrays.keys() == sent.arrays.keys()
    np.testing.assert_array_equal(received.arrays["layer.weight"], sent.arrays["layer.weight"])
    assert received.arrays["layer.weight"].dtype == np.float16


@pytest.mark.redis
def test_an_older_version_is_refused_by_the_writer_and_by_the_reader(bus, source, raw):
    assert bus.publish_weights(snapshot(0, 10))
    assert source.wait(None, SOON_S) is not None
    assert not bus.publish_weights(snapshot(0, 9))
    assert bus.newest_version() == WeightsVersion(0, 10)
    assert bus.counters()["redis_refused_publishes"] == 1
    # Even where Redis itself goes back, the reader does not.
    raw.set(f"am:{RUN}:weights:9", snapshot(0, 9).to_bytes())
    raw.set(f"am:{RUN}:weights:newest", msgpack.packb(9))
    assert bus.fetch_weights(WeightsVersion(0, 10)) is None
    assert source.wait(WeightsVersion(0, 10), timeout_s=0.1) is None
    assert version_of(source.poll(None)) == (0, 10)


@pytest.mark.redis
def test_a_learner_that_was_replaced_finds_out(bus, sink):
    sink.publish(snapshot(0, 5))
    assert sink.flush(SOON_S)
    assert not sink.is_overtaken
    bus.publish_weights(snapshot(1, 0))
    sink.publish(snapshot(0, 6))
    assert sink.flush(SOON_S)
    assert sink.is_overtaken
    assert bus.newest_version() == WeightsVersion(1, 0)


@pytest.mark.redis
def test_only_the_two_newest_versions_stay_in_redis(bus, raw):
    for updates in range(5):
        bus.publish_weights(snapshot(0, updates))
    keys = {key.decode() for key in raw.keys(f"am:{RUN}:weights:[0-9]*")}
    assert keys == {f"am:{RUN}:weights:3", f"am:{RUN}:weights:4"}
    assert {raw.ttl(key) for key in keys} == {-1}


@pytest.mark.redis
def test_two_learners_publishing_at_once_never_turn_the_newest_version_back(server):
    def publish_all(incarnation: int) -> None:
        bus = RedisBus(server.url, RUN)
        for updates in range(60):
            bus.publish_weights(snapshot(incarnation, updates))
        bus.close()

    seen = []
    reader = RedisBus(server.url, RUN)
    writers = [threading.Thread(target=publish_all, args=(n,)) for n in (0, 1)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        fetched = reader.fetch_weights(None)
        if fetched is not None:
            seen.append(fetched.version)
    for writer in writers:
        writer.join()
    assert seen == sorted(seen)
    assert reader.newest_version() == WeightsVersion(1, 59)
    reader.close()


@pytest.mark.redis
def test_runs_that_share_a_server_do_not_see_each_other(server, bus):
    other = RedisBus(server.url, "another-run")
    bus.publish_weights(snapshot(0, 1))
    bus.set_wanted({"pong": 2})
    bus.set_status({"phase": "training"})
    bus.push_metrics({"updates": 1})
    assert other.newest_version() is None
    assert other.wanted() == {}
    assert other.status() is None
    assert other.latest_metrics() == []
    other.set_status({"phase": "done"})
    bus.forget_run()
    assert bus.newest_version() is None
    assert bus.wanted() == {}
    assert other.status() == {"phase": "done"}
    other.close()


@pytest.mark.redis
def test_a_killed_and_restarted_server_gets_everything_back(server, bus, sink, source):
    sink.publish(snapshot(0, 1))
    assert version_of(source.wait(None, SOON_S)) == (0, 1)
    bus.set_wanted({"pong": 3, "breakout": 1})

    kill(server)
    # Away: everybody goes on with what they have, and nobody is stopped.
    sink.publish(snapshot(0, 2))
    assert not sink.flush(0.05)
    assert version_of(source.poll(None)) == (0, 1)
    assert bus.wanted() == {"pong": 3, "breakout": 1}
    with pytest.raises(RedisUnavailableError):
        bus.set_status({"phase": "training"})

    assert server.restart_if_dead()
    assert sink.flush(SOON_S)
    assert version_of(source.wait(WeightsVersion(0, 1), SOON_S)) == (0, 2)
    assert sink.counters()["redis_reconnects"] == 1
    assert source.counters()["redis_reconnects"] == 1
    assert source.counters()["redis_failures"] >= 1


@pytest.mark.redis
def test_weights_that_redis_lost_are_written_again_without_a_new_publish(server, sink):
    sink.publish(snapshot(3, 1, value=0.5))
    assert sink.flush(SOON_S)
    kill(server)
    assert server.restart_if_dead()
    late = RedisWeightSource(server.url, RUN, poll_period_s=0.01)
    received = late.wait(None, SOON_S)
    assert version_of(received) == (3, 1)
    assert received.arrays["layer.weight"][0, 0] == 0.5
    assert sink.counters()["redis_rewrites"] == 1
    late.close()


@pytest.mark.redis
def test_a_snapshot_that_alone_was_lost_is_written_again(raw, sink, source):
    sink.publish(snapshot(0, 1))
    assert sink.flush(SOON_S)
    raw.delete(f"am:{RUN}:weights:1")
    late = RedisWeightSource(raw_url(raw), RUN, poll_period_s=0.01)
    assert version_of(late.wait(None, SOON_S)) == (0, 1)
    late.close()


def raw_url(client: redis.Redis) -> str:
    return f"unix://{client.connection_pool.connection_kwargs['path']}"


@pytest.mark.redis
def test_wanted_numbers_that_redis_lost_are_restored_but_newer_ones_win(server, bus):
    bus.set_wanted({"pong": 3, "breakout": 1})
    kill(server)
    assert server.restart_if_dead()
    scaler = RedisBus(server.url, RUN)
    scaler.set_wanted({"pong": 5})
    assert bus.wanted() == {"pong": 5, "breakout": 1}
    assert scaler.wanted() == {"pong": 5, "breakout": 1}
    scaler.close()


@pytest.mark.redis
def test_a_reader_may_start_before_its_server(server):
    kill(server)
    early = RedisWeightSource(server.url, RUN, poll_period_s=0.01)
    assert early.poll(None) is None
    assert server.restart_if_dead()
    bus = RedisBus(server.url, RUN)
    bus.publish_weights(snapshot(0, 1))
    assert version_of(early.wait(None, SOON_S)) == (0, 1)
    early.close()
    bus.close()


def cut_short(data: bytes) -> bytes:
    return data[:-1]


def with_one_bit_turned(data: bytes) -> bytes:
    return data[:-3] + bytes([data[-3] ^ 1]) + data[-2:]


def of_another_version(data: bytes) -> bytes:
    return snapshot(0, 99).to_bytes()


def a_pickle(data: bytes) -> bytes:
    return b"\x80\x04\x95"


@pytest.mark.redis
@pytest.mark.parametrize("spoil", [cut_short, with_one_bit_turned, of_another_version, a_pickle])
def test_damaged_weights_are_refused_and_the_next_version_still_arrives(
    bus, source, raw, spoil: Callable[[bytes], bytes]
):
    bus.publish_weights(snapshot(0, 1))
    assert source.wait(None, SOON_S) is not None
    raw.set(f"am:{RUN}:weights:2", spoil(snapshot(0, 2).to_bytes()))
    raw.set(f"am:{RUN}:weights:newest", msgpack.packb(2))
    with pytest.raises(DamagedWeightsError):
        bus.fetch_weights(None)
    assert source.wait(WeightsVersion(0, 1), timeout_s=0.1) is None
    assert version_of(source.poll(None)) == (0, 1)
    # Read once, not once per period.
    assert source.counters()["redis_damaged_values"] == 1
    bus.publish_weights(snapshot(0, 3))
    assert version_of(source.wait(WeightsVersion(0, 1), SOON_S)) == (0, 3)


@pytest.mark.redis
@pytest.mark.parametrize("garbage", [b"", b"\xc1", msgpack.packb("seven"), msgpack.packb(-1)])
def test_a_damaged_version_number_is_refused_and_overwritten_by_the_next_publish(
    bus, source, raw, garbage
):
    raw.set(f"am:{RUN}:weights:newest", garbage)
    assert bus.fetch_weights(None) is None
    assert bus.counters()["redis_damaged_values"] == 1
    assert bus.publish_weights(snapshot(0, 1))
    assert version_of(source.wait(None, SOON_S)) == (0, 1)


@pytest.mark.redis
def test_damaged_wanted_status_and_metrics_are_refused_one_by_one(bus, raw):
    bus.set_wanted({"pong": 3})
    raw.hset(f"am:{RUN}:wanted", "breakout", b"\xc1")
    raw.hset(f"am:{RUN}:wanted", "seaquest", msgpack.packb(-4))
    raw.hset(f"am:{RUN}:wanted", "enduro", msgpack.packb(True))
    assert bus.wanted() == {"pong": 3}
    raw.set(f"am:{RUN}:status", msgpack.packb([1, 2]))
    assert bus.status() is None
    bus.push_metrics({"updates": 1})
    raw.lpush(f"am:{RUN}:metrics", b"\xc1")
    bus.push_metrics({"updates": 2})
    assert bus.latest_metrics(3) == [{"updates": 1}, {"updates": 2}]
    assert bus.counters()["redis_damaged_values"] == 5


@pytest.mark.redis
def test_a_key_of_the_wrong_kind_does_not_end_the_reader(bus, source, raw):
    raw.lpush(f"am:{RUN}:weights:newest", b"1")
    with pytest.raises(RedisUnavailableError, match="WRONGTYPE"):
        bus.fetch_weights(None)
    raw.delete(f"am:{RUN}:weights:newest")
    RedisBus(raw_url(raw), RUN).publish_weights(snapshot(0, 1))
    assert version_of(source.wait(None, SOON_S)) == (0, 1)


@pytest.mark.redis
def test_everything_works_with_the_rights_that_the_password_gives():
    with PrivateRedis(listen_address="127.0.0.1") as server:
        bus = RedisBus(server.url, RUN)
        assert bus.publish_weights(snapshot(0, 1))
        assert bus.fetch_weights(None) is not None
        bus.set_wanted({"pong": 1})
        assert bus.wanted() == {"pong": 1}
        bus.set_status({"phase": "training"})
        bus.push_metrics({"updates": 1})
        assert bus.latest_metrics() == [{"updates": 1}]
        bus.forget_run()
        assert bus.newest_version() is None
        bus.close()


@pytest.mark.redis
def test_no_thread_is_left_after_closing(server):
    sink = RedisWeightSink(server.url, RUN)
    source = RedisWeightSource(server.url, RUN)
    names = {"redis-publish", "redis-weights"}
    assert names <= {thread.name for thread in threading.enumerate()}
    sink.publish(snapshot(0, 1))
    sink.close()
    source.close()
    assert not names & {thread.name for thread in threading.enumerate()}
    bus = RedisBus(server.url, RUN)
    assert bus.newest_version() == WeightsVersion(0, 1)
    bus.close()


def test_closing_wakes_whoever_waits_for_weights(tmp_path):
    source = RedisWeightSource(f"unix://{tmp_path}/nobody.sock", RUN)
    waiting = threading.Event()
    answers = []

    def wait() -> None:
        waiting.set()
        answers.append(source.wait(None, timeout_s=600.0))

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    waiting.wait()
    source.close()
    thread.join(SOON_S)
    assert answers == [None]


def test_a_bus_without_server_starts_and_reports_failures(tmp_path):
    bus = RedisBus(f"unix://{tmp_path}/nobody.sock", RUN)
    assert bus.wanted() == {}
    with pytest.raises(RedisUnavailableError):
        bus.publish_weights(snapshot(0, 1))
    assert bus.counters()["redis_failures"] == 1


class FailingServer:
    """Stands for Redis in a RedisLink: fails as often as told."""

    def __init__(self) -> None:
        self.failures_left = 0
        self.num_calls = 0
        self.now_s = 0.0

    def operation(self, _: redis.Redis) -> str:
        self.num_calls += 1
        if self.failures_left:
            self.failures_left -= 1
            raise redis.ConnectionError("gone")
        return "done"


@pytest.fixture
def failing() -> FailingServer:
    return FailingServer()


@pytest.fixture
def link(failing: FailingServer) -> RedisLink:
    return RedisLink(
        "redis://:s3cret@localhost",
        first_pause_s=1.0,
        max_pause_s=4.0,
        clock=lambda: failing.now_s,
    )


def test_pauses_double_up_to_a_limit_and_end_with_the_first_success(failing, link):
    failing.failures_left = 10_000
    attempts = []
    while failing.now_s < 20.0:
        before = failing.num_calls
        with pytest.raises(RedisUnavailableError):
            link.call(failing.operation)
        if failing.num_calls > before:
            attempts.append(failing.now_s)
        failing.now_s += 0.5
    assert attempts == [0.0, 1.0, 3.0, 7.0, 11.0, 15.0, 19.0]
    failing.now_s = 30.0
    failing.failures_left = 0
    assert link.call(failing.operation) == "done"
    assert link.call(failing.operation) == "done"
    assert link.num_reconnects == 1
    failing.failures_left = 2
    with pytest.raises(RedisUnavailableError):
        link.call(failing.operation)
    failing.now_s += 1.0
    assert link.call(failing.operation) == "done"
    assert link.num_reconnects == 2


def test_a_failing_link_does_not_show_the_password(failing, link):
    failing.failures_left = 2
    for _ in range(2):
        with pytest.raises(RedisUnavailableError, match="localhost") as failure:
            link.call(failing.operation)
        assert "s3cret" not in str(failure.value)
