"""Shares, quotas and caps of single games: at the start, while a shard is at work, and refused."""

from __future__ import annotations

import math
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from replay_chunks import EpisodeWriter, chunk_of, make_settings, make_spec
from replay_shards import GAMES, Players, contents, make_config, make_shard

from replay.pace.game_settings import check_game_settings
from replay.pace.slices import GameSlice, shard_of_rank, slice_of
from replay.shard import ReplayShard
from replay.types import PriorityUpdate

LONG_S = 120.0
"""Longer than any test may last: who waits this long was not woken."""

THREE = ("pong", "boxing", "breakout")


def filled(games=GAMES, *, num_chunks=4, **options) -> ReplayShard:
    shard = make_shard(games, **options)
    Players(shard).play(num_chunks)
    return shard


def counts_of(batch) -> list[int]:
    return np.bincount(batch.game_index, minlength=len(batch.games)).tolist()


# Changes while a shard is at work


def test_another_cap_holds_from_the_next_batch_on():
    shard = filled(samples_per_insert_cap=WIDE_CAP)
    for _ in range(20):
        shard.sample()
    inserted = shard.stats().tables["pong"].counts.inserted
    shard.configure("pong", samples_per_insert_cap=1.0)
    before = shard.stats().tables["pong"].counts.sampled
    assert before > inserted
    assert counts_of(shard.sample()) == [0, 12], "pong has been drawn more often than its cap says"
    shard.configure("pong", samples_per_insert_cap=WIDE_CAP)
    assert counts_of(shard.sample()) == [6, 6]
    assert shard.stats().tables["pong"].samples_per_insert_cap == WIDE_CAP


WIDE_CAP = 1e6


@pytest.mark.parametrize("compression", ["none", "lz4"])
@pytest.mark.parametrize("quota", [200, 40, 24])
def test_another_quota_keeps_the_newest_transitions_and_all_that_is_known_of_them(
    quota, compression
):
    specs = [replace(make_spec(game=game), compression=compression) for game in GAMES]
    shard = ReplayShard(make_config(), specs)
    players = Players(shard)
    players.play(10)
    for _ in range(4):
        batch = shard.sample()
        priorities = np.linspace(1.0, 2.0, batch.batch_size, dtype=np.float32)
        shard.update_priorities(PriorityUpdate(keys=batch.keys, priorities=priorities))
    before, counts = contents(shard), shard.stats().tables["pong"].counts
    assert shard.configure("pong", quota=quota).quota == quota
    shard.check_valid()
    after, stats = contents(shard), shard.stats().tables["pong"]
    kept = min(quota, 64)
    assert (stats.capacity, stats.size) == (quota, kept)
    for name in ("generations", "frames", "priorities", "streams", "times_sampled"):
        if name in before["pong"]:
            np.testing.assert_array_equal(after["pong"][name], before["pong"][name][-kept:])
    # Those that are gone without ever having been drawn are counted, and no others.
    was_unsampled = before["pong"]["is_ready"] & (before["pong"]["times_sampled"] == 0)
    is_unsampled = after["pong"]["is_ready"] & (after["pong"]["times_sampled"] == 0)
    gone = int(was_unsampled.sum() - is_unsampled.sum())
    assert stats.counts.overwritten_unsampled - counts.overwritten_unsampled == gone
    assert (gone > 0) == (quota < 64)
    assert stats.counts.inserted == counts.inserted
    # The other game is as it was, and both go on.
    for name in before["boxing"]:
        np.testing.assert_array_equal(after["boxing"][name], before["boxing"][name])
    players.play(12)
    shard.check_valid()
    assert shard.stats().tables["pong"].size == min(quota, 64 + 12 * 6) or quota == 200
    assert shard.sample() is not None


def test_keys_given_out_before_a_change_of_quota_find_their_transitions_or_nothing():
    shard = filled(num_chunks=10)
    batch = shard.sample()
    shard.configure("pong", quota=24)
    kept = set(contents(shard)["pong"]["generations"].tolist())
    priorities = np.full(batch.batch_size, 55.0, np.float32)
    shard.update_priorities(PriorityUpdate(keys=batch.keys, priorities=priorities))
    pong = [
        generation
        for index, generation in zip(
            batch.game_index.tolist(), batch.keys.generations.tolist(), strict=True
        )
        if index == 0
    ]
    found = contents(shard)["pong"]
    drawable = set(found["generations"][found["is_ready"]].tolist())
    updated = set(found["generations"][found["priorities"] == 55.0].tolist())
    assert updated == drawable & set(pong)
    assert updated, "the test needs a key of a transition that is still there"
    stale = sum(generation not in kept for generation in pong)
    assert shard.stats().tables["pong"].counts.stale_priorities >= stale > 0
    shard.check_valid()


def test_callers_that_wait_are_let_through_by_a_change_that_allows_it():
    shard = make_shard(("pong",), samples_per_insert_cap=1.0, batch_size=6, min_size_per_game=6)
    Players(shard).play(2)
    while shard.sample() is not None:
        pass
    with ThreadPoolExecutor(max_workers=1) as pool:
        sampled = pool.submit(shard.sample, timeout_s=LONG_S)
        wait_until(lambda: shard.stats().waiting_requests == 1)
        shard.configure("pong", samples_per_insert_cap=2.0)
        assert sampled.result(timeout=LONG_S / 2) is not None


def wait_until(condition) -> None:
    """Spin until something that another thread does has happened."""
    tick = threading.Event()
    for _ in range(int(LONG_S / 0.001)):
        if condition():
            return
        tick.wait(0.001)
    raise AssertionError("it never happened")


# What is refused


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"share": 0.0}, "the share of pong must be positive and finite, got 0.0; to stop"),
        ({"share": math.nan}, "the share of pong must be positive and finite, got nan"),
        ({"share": math.inf}, "the share of pong must be positive"),
        ({"quota": 3}, r"quota of pong \(3\) must not be below replay.min_size_per_game \(4\)"),
        ({"quota": 11}, r"quota of pong \(11\) must be at least \d+: its actors send up to"),
        ({"samples_per_insert_cap": 0.5}, r"cap of pong \(0.5\) must not be below .* \(1\): every"),
        ({"samples_per_insert_cap": math.nan}, "cap of pong must be finite, .* got nan"),
        ({"samples_per_insert_cap": 1e308}, "cap of pong must be finite, and at most 1e"),
        ({"quota": math.nan}, "quota of pong must be a whole number below .*, got nan"),
        ({"quota": 40.0}, "quota of pong must be a whole number below .*, got 40.0"),
        ({"quota": 10**18}, "quota of pong must be a whole number below"),
        ({"samples_per_insert_cap": math.inf}, "cap of pong must be finite, .* got inf"),
    ],
)
def test_a_change_that_makes_no_sense_is_refused_and_nothing_has_changed(change, message):
    shard = filled()
    before, stats = contents(shard), shard.stats()
    for method in (shard.check_configure, shard.configure):
        with pytest.raises(ValueError, match=message):
            method("pong", **change)
    assert shard.stats() == stats
    after = contents(shard)
    for game in GAMES:
        for name in before[game]:
            np.testing.assert_array_equal(after[game][name], before[game][name])
    shard.check_valid()


def test_a_cap_with_which_both_sides_would_wait_for_ever_is_refused_with_the_arithmetic():
    # Writing four may wait with more than 10 - 4 samples due; before the start come 4 a game.
    options = {"batch_size": 20, "error_buffer": 12.0, "min_size_per_game": 4}
    shard = make_shard(samples_per_insert_cap=3.0, **options)
    writer = EpisodeWriter()
    assert shard.add(chunk_of(writer.play(0, "....")))
    shard.configure("pong", samples_per_insert_cap=2.0)  # 12 - 4 + 4 * 2 + 4 * 3 = 28
    shard.configure("boxing", samples_per_insert_cap=1.0)  # 20
    with pytest.raises(ValueError, match="together less than a batch of 20; raise error_"):
        shard.configure("pong", samples_per_insert_cap=1.0)
    assert shard.stats().tables["pong"].samples_per_insert_cap == 2.0


def test_a_share_with_which_pinned_games_would_wait_for_ever_is_refused():
    options = {"pin_every_game": True, "error_buffer": 6.0, "batch_size": 12}
    shard = make_shard(**options)
    assert shard.add(chunk_of(EpisodeWriter().play(0, "....")))
    assert shard.configure("boxing", share=2.0).share == 2.0
    with pytest.raises(ValueError, match="the samples-per-insert band is too narrow"):
        shard.configure("pong", share=10.0)
    with pytest.raises(ValueError, match="pin_every_game is True, so a cap"):
        shard.configure("pong", samples_per_insert_cap=2.0)
    assert shard.stats().tables["pong"].share == 1.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"share": -1.0}, "the share of pong"),
        ({"quota": 3}, "the quota of pong"),
        ({"samples_per_insert_cap": 0.1}, "the samples-per-insert cap of pong"),
    ],
)
def test_settings_at_the_start_are_checked_alike(change, message):
    config, spec = make_config(), make_spec()
    wanted = replace(make_settings(config, [spec])["pong"], **change)
    with pytest.raises(ValueError, match=message):
        check_game_settings("pong", wanted, config)
    with pytest.raises(ValueError, match=message):
        ReplayShard(config, [spec], settings={"pong": wanted})


# No game holds up another


class Traffic:
    """A thread for each actor and one for the learner, over one shard."""

    def __init__(self, shard: ReplayShard, actors: dict[str, int]) -> None:
        self.shard = shard
        self.stopped = threading.Event()
        self.num_stored = {game: 0 for game in shard.games}
        self.num_batches = 0
        self.closed_gates: set[str] = set()
        self._gate = threading.Condition()
        serial = iter(range(100))
        self._threads = [
            threading.Thread(target=self._play, args=(game, next(serial)))
            for game, count in actors.items()
            for _ in range(count)
        ]
        self._threads.append(threading.Thread(target=self._learn))

    def _play(self, game: str, serial: int) -> None:
        writer = EpisodeWriter(actor=serial)
        while not self.stopped.is_set():
            with self._gate:
                self._gate.wait_for(
                    lambda: self.stopped.is_set() or game not in self.closed_gates, LONG_S
                )
            chunk = chunk_of(writer.play(0, "...."), game=game)
            while not self.stopped.is_set() and not self.shard.add(chunk, timeout_s=0.5):
                pass
            with self._gate:
                self.num_stored[game] += 1

    def _learn(self) -> None:
        while not self.stopped.is_set():
            if self.shard.sample(timeout_s=0.5) is not None:
                self.num_batches += 1

    def close_gate(self, game: str) -> None:
        with self._gate:
            self.closed_gates.add(game)

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        with self._gate:
            self._gate.notify_all()
        for thread in self._threads:
            thread.join(LONG_S)
            assert not thread.is_alive()
        self.shard.check_valid()


def busy_shard(**options) -> ReplayShard:
    values = {"error_buffer": 24.0, "samples_per_insert_cap": 4.0, "min_size_per_game": 4}
    return make_shard(THREE, **(values | options))


def test_a_game_that_has_died_holds_up_neither_the_learner_nor_the_others():
    with Traffic(busy_shard(), dict.fromkeys(THREE, 1)) as traffic:
        wait_until(lambda: traffic.num_batches > 5)
        traffic.close_gate("boxing")
        batches, stored = traffic.num_batches, dict(traffic.num_stored)
        wait_until(
            lambda: (
                traffic.num_batches > batches + 50
                and traffic.num_stored["pong"] > stored["pong"] + 20
                and traffic.num_stored["breakout"] > stored["breakout"] + 20
            )
        )
        assert traffic.num_stored["boxing"] <= stored["boxing"] + 1


def test_settings_change_while_everybody_is_at_work():
    with Traffic(busy_shard(), dict.fromkeys(THREE, 1)) as traffic:
        wait_until(lambda: traffic.num_batches > 5)
        rng = np.random.default_rng(0)
        for _ in range(60):
            game = str(rng.choice(THREE))
            traffic.shard.configure(
                game,
                share=float(rng.uniform(0.1, 5.0)),
                quota=int(rng.integers(16, 200)),
                samples_per_insert_cap=float(rng.uniform(1.0, 6.0)),
            )
            traffic.shard.check_valid()
        batches = traffic.num_batches
        wait_until(lambda: traffic.num_batches > batches + 20)


CHANGES = st.tuples(
    st.sampled_from(THREE),
    st.sampled_from(["share", "quota", "samples_per_insert_cap", "is_fed"]),
    st.floats(0.0, 1.0),
)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(
    alive=st.lists(st.sets(st.sampled_from(THREE), min_size=1), min_size=1, max_size=5),
    changes=st.lists(CHANGES, max_size=8),
    error_buffer=st.integers(6, 30),
    batch_size=st.integers(1, 16),
    spi=st.sampled_from([0.5, 1.0, 3.0]),
    cap=st.floats(1.0, 4.0),
    seed=st.integers(0, 1000),
)
def test_whoever_dies_and_whatever_is_set_somebody_can_go_on(
    alive, changes, error_buffer, batch_size, spi, cap, seed
):
    """Unless it was refused: the games that are alive, or the learner, are always let through."""
    shard = make_shard(
        THREE,
        batch_size=batch_size,
        error_buffer=float(error_buffer),
        samples_per_insert=spi,
        samples_per_insert_cap=spi * cap,
    )
    writers = {game: EpisodeWriter(actor=index) for index, game in enumerate(THREE)}
    rng = np.random.default_rng(seed)
    chunks = {g: chunk_of(writers[g].play(0, "...."), game=g) for g in THREE}

    def step(games) -> bool:
        """Somebody who may go on does."""
        for doer in rng.permutation(sorted([*games, "learner"])).tolist():
            if doer == "learner":
                if shard.sample() is not None:
                    return True
            elif shard.add(chunks[doer]):
                chunks[doer] = chunk_of(writers[doer].play(0, "...."), game=doer)
                return True
        return False

    try:
        for game in THREE:
            assert step([game]), "a game is held up before the start"
    except ValueError:
        return  # Refused: chunks of this size may deadlock.
    while not shard._pacing.started:
        assert step(THREE)
    pending = list(changes)
    for games in alive:
        for _ in range(40):
            assert step(sorted(games)), f"{shard.stats()}"
        if pending:
            change(shard, *pending.pop())


def change(shard: ReplayShard, game: str, name: str, size: float) -> None:
    spi = shard.config.samples_per_insert
    values = {
        "share": 0.1 + 5 * size,
        "quota": 8 + int(100 * size),
        "samples_per_insert_cap": spi * (1 + 4 * size),
    }
    try:
        if name == "is_fed":
            shard.assign({game: GameSlice(num_fed=1, is_fed=size > 0.5)})
        else:
            shard.configure(game, **{name: values[name]})
    except ValueError:
        return


# Slices of a run with several shards


@pytest.mark.parametrize("num_shards", [1, 2, 3, 5])
@pytest.mark.parametrize("num_actors", [1, 2, 4, 7])
def test_a_shard_is_fed_by_exactly_the_games_whose_actors_send_to_it(num_shards, num_actors):
    for game in range(6):
        fed = {shard_of_rank(game, rank, num_shards) for rank in range(num_actors)}
        for shard in range(num_shards):
            part = slice_of(game, num_actors=num_actors, shard=shard, num_shards=num_shards)
            assert part.is_fed == (shard in fed)
            assert part.num_fed == len(fed)
            assert part.part_of(100) == math.ceil(100 / len(fed))


def test_a_shard_starts_without_the_games_that_do_not_feed_it_and_gives_those_it_has():
    slices = {"boxing": GameSlice(num_fed=1, is_fed=False)}
    shard = make_shard(THREE, slices=slices, num_shards=2)
    players = Players(shard)
    players.play(1, games=["pong"])
    assert not shard.can_sample()  # Breakout, which does feed it, has nothing yet.
    players.play(1, games=["breakout"])
    batch = shard.sample()
    assert counts_of(batch) == [6, 0, 6]
    # Later there are more actors: boxing begins to feed it.
    shard.assign({"boxing": GameSlice(num_fed=2, is_fed=True)})
    assert shard.sample() is not None
    players.play(2, games=["boxing"])
    assert counts_of(shard.sample()) == [4, 4, 4]


def test_minimum_and_quota_are_divided_among_the_shards_that_a_game_feeds():
    config = make_config(num_shards=4, min_size_per_game=9)
    specs = [make_spec(game="pong", capacity=50), make_spec(game="boxing", capacity=100)]
    slices = {"pong": GameSlice(num_fed=4), "boxing": GameSlice(num_fed=2)}
    shard = ReplayShard(config, specs, slices=slices)
    pong, boxing = EpisodeWriter(actor=0), EpisodeWriter(actor=1)
    assert shard.add(chunk_of(pong.play(0, "..."), game="pong"))  # 9 / 4, rounded up.
    assert shard.add(chunk_of(boxing.play(0, "...."), game="boxing"))
    assert not shard.can_sample()
    assert shard.add(chunk_of(boxing.play(0, "."), game="boxing"))  # 9 / 2, rounded up.
    assert shard.can_sample()
    shard.configure("pong", quota=100)
    shard.configure("boxing", quota=100)
    assert [table.capacity for table in shard.stats().tables.values()] == [25, 50]
    shard.assign({"boxing": GameSlice(num_fed=4)})
    assert [table.capacity for table in shard.stats().tables.values()] == [25, 25]


def test_all_shards_together_give_each_game_its_share_of_the_loss():
    """Pong feeds both shards, boxing only the second: equally many batches come from each."""
    weights = np.zeros(2)
    for number, is_fed in enumerate([False, True]):
        slices = {"pong": GameSlice(num_fed=2), "boxing": GameSlice(num_fed=1, is_fed=is_fed)}
        shard = make_shard(slices=slices, shard=number, num_shards=2, shares={"boxing": 3.0})
        players = Players(shard)
        players.play(4, games=["pong", "boxing"] if is_fed else ["pong"])
        for _ in range(28):
            batch = shard.sample()
            weights += np.bincount(batch.game_index, batch.loss_weights, minlength=2)
    np.testing.assert_allclose(weights / weights.sum(), [0.25, 0.75], rtol=1e-5)
    np.testing.assert_allclose(weights.sum(), 2 * 28 * 12, rtol=1e-5)


def test_a_game_that_feeds_a_shard_no_more_does_not_hold_it_up():
    shard = make_shard(error_buffer=14.0, samples_per_insert_cap=2.0)
    players = Players(shard)
    players.play(1)
    shard.assign({"boxing": GameSlice(num_fed=1, is_fed=False)})
    writer = EpisodeWriter(actor=70)
    for _ in range(50):
        while shard.sample() is not None:
            pass
        assert shard.add(chunk_of(writer.play(0, "....")))
