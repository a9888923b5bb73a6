"""Waiting in threads: what ends it. No test sleeps; they look at the shard's gauges of waiters."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from replay_chunks import EpisodeWriter, chunk_of, make_spec
from replay_shards import insert_wait_s, waiting_actors
from replay_shards import make_shard as shard_of

from replay.config import ReplayConfig
from replay.shard import ReplayShard

LONG_S = 120.0
"""Longer than any test may last: who waits this long was not woken."""


@pytest.fixture
def pool():
    with ThreadPoolExecutor(max_workers=8) as executor:
        yield executor


def make_shard(games=("pong",), **overrides) -> ReplayShard:
    values = {"batch_size": 8, "error_buffer": 8.0, "samples_per_insert_cap": 100.0}
    return shard_of(games, spec={"num_stack": 1}, **(values | overrides))


def full_shard(writer: EpisodeWriter) -> ReplayShard:
    """A shard in which the next chunk of four must wait."""
    shard = make_shard()
    while True:
        chunk = chunk_of(writer.play(0, "...."))
        if not shard.add(chunk):
            return shard


def wait_for(condition: Callable[[], bool]) -> None:
    """Spin until something that another thread does has happened."""
    deadline = time.monotonic() + LONG_S
    while not condition():
        assert time.monotonic() < deadline, "it never happened"


def result_of(future: Future):
    return future.result(timeout=LONG_S / 2)


def test_blocked_add_is_woken_by_sampling(pool):
    writer = EpisodeWriter()
    shard = full_shard(writer)
    chunk = chunk_of(writer.play(0, "...."))
    added = pool.submit(shard.add, chunk, timeout_s=LONG_S)
    wait_for(lambda: waiting_actors(shard.stats()) == 1)
    assert not added.done()
    assert shard.sample() is not None
    assert result_of(added) is True
    stats = shard.stats()
    assert waiting_actors(stats) == 0
    assert 0 < insert_wait_s(stats) < LONG_S / 2


def test_blocked_sample_is_woken_by_inserting(pool):
    writer = EpisodeWriter()
    shard = make_shard()
    sampled = pool.submit(shard.sample, timeout_s=LONG_S)
    wait_for(lambda: shard.stats().waiting_requests == 1)
    assert shard.add(chunk_of(writer.play(0, "...")))
    assert shard.stats().waiting_requests == 1  # Too few yet.
    assert shard.add(chunk_of(writer.play(0, "..")))
    assert result_of(sampled).batch_size == 8
    assert 0 < shard.stats().sample_wait_s < LONG_S / 2
    assert shard.stats().waiting_requests == 0


def test_closing_wakes_everyone_and_nothing_is_stored_or_drawn_afterwards(pool):
    writer = EpisodeWriter()
    shard = full_shard(writer)
    chunks = [chunk_of(EpisodeWriter(actor=a).play(0, "....")) for a in range(1, 4)]
    adds = [pool.submit(shard.add, chunk, timeout_s=LONG_S) for chunk in chunks]
    empty = make_shard()
    samples = [pool.submit(empty.sample, timeout_s=LONG_S) for _ in range(2)]
    wait_for(lambda: waiting_actors(shard.stats()) == 3)
    wait_for(lambda: empty.stats().waiting_requests == 2)
    before = shard.stats().tables["pong"].counts
    shard.close()
    empty.close()
    assert [result_of(added) for added in adds] == [False] * 3
    assert [result_of(sampled) for sampled in samples] == [None] * 2
    assert shard.stats().tables["pong"].counts == before
    # Sampling would have been allowed, and would have let inserting go on.
    assert not shard.can_sample()
    assert shard.sample(timeout_s=LONG_S) is None
    assert empty.add(chunks[0], timeout_s=LONG_S) is False
    assert empty.stats().tables["pong"].size == 0


def test_waiting_ends_when_its_time_is_up():
    writer = EpisodeWriter()
    shard = full_shard(writer)
    start = time.monotonic()
    assert shard.add(chunk_of(writer.play(0, "....")), timeout_s=0.02) is False
    assert 0.02 <= time.monotonic() - start < LONG_S / 2
    assert insert_wait_s(shard.stats()) >= 0.02
    empty = make_shard()
    assert empty.sample(timeout_s=0.02) is None
    assert empty.stats().sample_wait_s >= 0.02
    assert empty.stats().waiting_requests == waiting_actors(shard.stats()) == 0


def test_waits_are_counted_while_they_last_and_by_game(pool):
    clock = iter(range(0, 10_000, 10))
    config = ReplayConfig(
        batch_size=8,
        min_size_per_game=4,
        samples_per_insert=1.0,
        error_buffer=8.0,
        samples_per_insert_cap=100.0,
        capacity_per_game=64,
    )
    specs = [make_spec(num_stack=1), make_spec(game="boxing", num_stack=1)]
    shard = ReplayShard(config, specs, clock=lambda: float(next(clock)))
    writers = {game: EpisodeWriter(actor=index) for index, game in enumerate(shard.games)}
    assert shard.add(chunk_of(writers["boxing"].play(0, "...."), game="boxing"))
    while shard.add(chunk := chunk_of(writers["pong"].play(0, "...."))):
        pass
    added = pool.submit(shard.add, chunk, timeout_s=LONG_S)
    wait_for(lambda: waiting_actors(shard.stats()) == 1)
    first, second = shard.stats(), shard.stats()
    # It waits on, and every look at the clock is ten seconds after the one before.
    assert second.tables["pong"].insert_wait_s >= first.tables["pong"].insert_wait_s + 10.0
    assert insert_wait_s(second) >= insert_wait_s(first) + 10.0
    assert [table.waiting_actors for table in second.tables.values()] == [1, 0]
    assert second.tables["boxing"].insert_wait_s == 0.0
    assert shard.sample() is not None
    assert result_of(added)
    last = shard.stats()
    assert waiting_actors(last) == 0
    assert insert_wait_s(shard.stats()) == insert_wait_s(last) > 0


def test_nobody_waits_who_is_let_through_at_once():
    shard = make_shard()
    assert shard.add(chunk_of(EpisodeWriter().play(0, "....")), timeout_s=LONG_S)
    assert shard.sample(timeout_s=LONG_S) is not None
    assert insert_wait_s(shard.stats()) == shard.stats().sample_wait_s == 0.0


def test_many_writers_and_one_reader_keep_the_tables_sound_and_the_band_kept(pool):
    shard = make_shard(error_buffer=16.0)
    num_chunks = 25

    def write(actor: int) -> None:
        writer = EpisodeWriter(actor=actor)
        for _ in range(num_chunks):
            assert shard.add(chunk_of(writer.play(0, "....")), timeout_s=LONG_S)

    writers = [pool.submit(write, actor) for actor in range(4)]
    drawn = 0
    while not all(writer.done() for writer in writers):
        batch = shard.sample()
        drawn += 0 if batch is None else batch.batch_size
        shard.check_valid()
        assert -16.0 <= shard.stats().limiter_error <= 16.0
    for writer in writers:
        result_of(writer)
    stats = shard.stats()
    assert stats.tables["pong"].counts.inserted == 4 * num_chunks * 4
    assert stats.tables["pong"].counts.sampled == drawn


TWO = ("pong", "boxing")


def two_games(**overrides) -> ReplayShard:
    """A shard in which Pong has filled the band, and one of them for each game."""
    shard = make_shard(TWO, **({"batch_size": 4, "error_buffer": 16.0} | overrides))
    assert shard.add(chunk_of(EpisodeWriter(actor=90).play(0, "...."), game="boxing"))
    writer = EpisodeWriter(actor=91)
    while shard.add(chunk_of(writer.play(0, "...."))):
        pass
    return shard


def chunk_for(game: str, actor: int):
    return chunk_of(EpisodeWriter(actor=actor).play(0, "...."), game=game)


def test_the_game_that_has_inserted_least_goes_first_whoever_waits_longer(pool):
    shard = two_games()
    surplus = [
        pool.submit(shard.add, chunk_for("pong", actor), timeout_s=LONG_S) for actor in range(6)
    ]
    wait_for(lambda: waiting_actors(shard.stats()) == 6)
    added = pool.submit(shard.add, chunk_for("boxing", 10), timeout_s=LONG_S)
    wait_for(lambda: waiting_actors(shard.stats()) == 7)
    assert shard.sample() is not None  # Room for one chunk.
    assert result_of(added)
    assert not any(future.done() for future in surplus)
    for _ in surplus:
        assert shard.sample() is not None
    assert all(result_of(future) for future in surplus)


def test_games_wait_by_their_shares_and_one_that_was_away_does_not_catch_up(pool):
    shard = two_games(error_buffer=24.0)
    shard.configure("pong", share=3.0)
    for actor in range(100, 140):  # Boxing is away.
        assert shard.sample() is not None
        assert shard.add(chunk_for("pong", actor))
    before = {game: shard.stats().tables[game].counts.inserted for game in TWO}
    serial = iter(range(200, 1_000))
    waiting: list[tuple[str, Future]] = []
    for _ in range(40):
        # Two of each wait at any time.
        waiting = [(game, future) for game, future in waiting if not future.done()]
        for game in TWO:
            while sum(name == game for name, _ in waiting) < 2:
                chunk = chunk_for(game, next(serial))
                waiting.append((game, pool.submit(shard.add, chunk, timeout_s=LONG_S)))
        wait_for(lambda: waiting_actors(shard.stats()) >= 4 or not shard.can_sample())
        inserted = sum(shard.stats().tables[game].counts.inserted for game in TWO)
        assert shard.sample() is not None
        wait_for(
            lambda inserted=inserted: (
                sum(shard.stats().tables[game].counts.inserted for game in TWO) > inserted
            )
        )
    gained = {game: shard.stats().tables[game].counts.inserted - before[game] for game in TWO}
    shard.close()
    assert 2.0 < gained["pong"] / gained["boxing"] < 4.0


def test_who_gives_up_waiting_lets_the_others_go_on(pool):
    shard = two_games()
    assert shard.sample() is not None  # Room for four.
    eight = chunk_of(EpisodeWriter(actor=1).play(0, "........"), game="boxing")
    boxing = pool.submit(shard.add, eight, timeout_s=0.5)
    wait_for(lambda: waiting_actors(shard.stats()) == 1)
    pong = pool.submit(shard.add, chunk_for("pong", 2), timeout_s=LONG_S)
    assert result_of(boxing) is False
    assert result_of(pong) is True
