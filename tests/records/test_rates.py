"""Rates only out of counters that can be compared, and what people see of them."""

import pytest

from actors.actor import ActorCounts
from games.spec import GameSpec
from records.progress import GameProgress, Progress
from records.rates import Look, Rates
from replay.stats import TableStats
from replay.storage.table import TableCounts

PONG = GameSpec(
    name="pong",
    family="toy",
    num_actions=3,
    legal_actions=(0, 1, 2),
    frame_shape=(2, 10, 10),
    num_stack=1,
    frames_per_step=4,
    random_score=0.0,
    human_score=None,
)


def progress(updates=0, steps=0, *, sampled=0, inserted=0, **fields):
    game = GameProgress(
        actors=1,
        played=ActorCounts(steps=steps),
        replay=TableStats(counts=TableCounts(sampled=sampled, inserted=inserted)),
    )
    return Progress(updates=updates, games={"pong": game}, **fields)


def rows(looks, **options):
    """The rates of (seconds, progress) after each look."""
    rates = Rates({"pong": PONG}, **options)
    return [rates.add(Look(seconds, look)) for seconds, look in looks], rates.overall()


def test_what_a_role_had_counted_before_it_answered_for_the_first_time_is_no_work():
    # A resumed run: the learner has not answered yet, and then goes on from update 25,474; a shard
    # comes back with what its snapshot had counted.
    resumed = [
        (1.0, progress(0, owners=("", "shard 0.0"))),
        (
            2.0,
            progress(25_474, sampled=900_000, inserted=400_000, owners=("learner 1", "shard 0.1")),
        ),
        (
            3.0,
            progress(25_493, sampled=900_100, inserted=400_050, owners=("learner 1", "shard 0.1")),
        ),
    ]
    (first, jump, after), overall = rows(resumed)
    assert first == jump == {}
    assert after["updates_per_second"] == 19.0
    assert after["samples_per_second"] == 100.0
    assert after["samples_per_insert"] == 2.0
    assert overall.updates_per_second == 19.0
    assert overall.samples_per_insert == 2.0


def test_one_of_two_shards_that_falls_back_behind_the_others_gain_is_noticed():
    # Restarted from a snapshot 500 transitions ago, while the other one stored 700 more.
    (_, row), _ = rows(
        [
            (1.0, progress(inserted=5_000, owners=("learner 0", "shard 0.1", "shard 1.1"))),
            (2.0, progress(inserted=5_200, owners=("learner 0", "shard 0.2", "shard 1.1"))),
        ]
    )
    assert row == {}


def test_speeds_are_means_over_ten_seconds_however_the_chunks_fall():
    # 256 steps at once, at a steady 64 steps/s.
    looks = [(float(second), progress(0, 256 * (second // 4))) for second in range(41)]
    found, _ = rows(looks)
    speeds = [row["steps_per_second"] for row in found[12:]]
    assert min(speeds) >= 51.2
    assert max(speeds) <= 76.8
    assert found[-1]["game/pong/steps_per_second"] == found[-1]["steps_per_second"]
    assert found[-1]["frames_per_second"] == pytest.approx(4 * found[-1]["steps_per_second"])


def test_time_left_is_by_the_pace_since_learning_began():
    # Filling replay takes 30 s, then two updates a second.
    looks = [(float(second), progress(max(0, 2 * (second - 30)))) for second in range(41)]
    found, _ = rows(looks, num_updates=100)
    assert "seconds_left" not in found[29]
    assert found[-1]["seconds_left"] == (100 - 20) / 2


def test_time_left_after_a_resumption_takes_no_earlier_session_for_work():
    looks = [
        (1.0, progress(0, owners=("",))),
        (2.0, progress(900, owners=("learner 1",))),
        (4.0, progress(902, owners=("learner 1",))),
    ]
    found, _ = rows(looks, num_updates=1_000)
    assert [row.get("seconds_left") for row in found] == [None, None, 98.0]
