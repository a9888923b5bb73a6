"""Shares of time out of counters that every process keeps for itself."""

import pytest

from actors.actor import ActorCounts
from records.progress import GameProgress, Progress
from records.rates import usage_rates
from records.usage import LearnerUsage, Usage
from replay.stats import TableStats


def game(actors=2, *, insert_wait_s=0.0, **times):
    replay = TableStats(insert_wait_s=insert_wait_s)
    return GameProgress(actors=actors, played=ActorCounts(**times), replay=replay)


def run(usage=None, *, pong=None, boxing=None, **fields):
    games = {"pong": pong or game(), "boxing": boxing or game()}
    return Progress(updates=1, games=games, usage=usage or Usage(), **fields)


def learner(elapsed_s, updating_s, **fields):
    return LearnerUsage(elapsed_s=elapsed_s, updating_s=updating_s, **fields)


def test_a_learners_shares_are_of_its_own_time_not_of_the_time_between_two_looks():
    before = run(Usage(learner=learner(10.0, 6.0, waiting_s=3.0, loading_s=1.0)))
    now = run(Usage(learner=learner(14.0, 9.0, waiting_s=4.0, loading_s=2.0)))
    row = usage_rates(before, now, 5.0)
    assert row["learner_busy"] == 0.75
    assert row["learner_waiting"] == row["learner_loading"] == 0.25


def test_actors_shares_are_of_the_time_that_their_own_clocks_have_counted():
    before = run()
    now = run(
        # Two actors of each game, ten seconds each.
        pong=game(stepping_s=12.0, network_s=4.0, waiting_s=2.0, elapsed_s=20.0, insert_wait_s=4.0),
        boxing=game(waiting_s=6.0, elapsed_s=20.0),
    )
    row = usage_rates(before, now, 10.0)
    assert row["actor_stepping"] == pytest.approx(12 / 40)
    assert row["actor_network"] == pytest.approx(4 / 40)
    assert row["actor_waiting"] == pytest.approx(8 / 40)
    assert row["actor_held"] == pytest.approx(4 / 40)
    assert row["game/boxing/actor_waiting"] == pytest.approx(6 / 20)


def test_the_busiest_shard_counts_and_none_where_one_has_died_in_between():
    before = run(Usage(shards_busy_s=(1.0, 2.0)), sample_wait_s=1.0)
    now = run(Usage(shards_busy_s=(2.0, 5.0)), sample_wait_s=7.0)
    row = usage_rates(before, now, 10.0)
    assert row["shard_busy"] == pytest.approx(0.3)
    assert row["learner_held"] == pytest.approx(0.3)
    more = run(Usage(shards_busy_s=(1.0, 2.0, 0.0)))
    assert "shard_busy" not in usage_rates(before, more, 10.0)


def test_bytes_and_cores_are_rates_and_what_begins_anew_is_left_out():
    before = Usage(cpu_s={"actors": 1.0, "learner": 8.0}, moved_bytes={"chunks": 100})
    now = Usage(cpu_s={"actors": 3.0, "learner": 1.0}, moved_bytes={"chunks": 300}, num_cores=4)
    row = usage_rates(run(before), run(now), 2.0)
    assert row["cpu/actors"] == row["cpu/used"] == 1.0
    assert "cpu/learner" not in row
    assert row["bytes/chunks"] == 100.0
    assert row["cpu/cores"] == 4
