"""What limits a run, by the figures of one look."""

import pytest

from records.verdict import judge, typical_verdict

RUN = {
    "updates": 100,
    "game/pong/actors": 3,
    "game/boxing/actors": 1,
    "learner_busy": 0.5,
    "learner_waiting": 0.5,
    "learner_loading": 0.1,
    "learner_held": 0.5,
    "actor_stepping": 0.3,
    "actor_network": 0.2,
    "actor_waiting": 0.5,
    "actor_held": 0.5,
    "shard_busy": 0.1,
}


def verdict(**figures):
    return judge(RUN | figures)


@pytest.mark.parametrize(
    ("limit", "figures"),
    [
        ("learner", {"learner_busy": 0.95, "learner_waiting": 0.05, "actor_waiting": 0.9}),
        ("learner", {"learner_loading": 0.9}),
        ("actors", {"actor_stepping": 0.6, "actor_network": 0.35, "actor_waiting": 0.05}),
        ("replay", {"shard_busy": 0.97, "learner_held": 0.0, "actor_held": 0.0}),
        ("network", {"learner_held": 0.1, "actor_held": 0.5}),
        ("network", {"learner_held": 0.5, "actor_held": 0.1}),
    ],
)
def test_the_part_that_works_all_the_time_is_the_limit_and_the_network_if_none_does(limit, figures):
    assert verdict(**figures).limit == limit


def test_of_two_busy_sides_the_one_that_the_other_is_held_back_for_is_the_limit():
    busy = {"learner_busy": 0.8, "actor_stepping": 0.5, "actor_network": 0.35}
    assert verdict(**busy, learner_held=0.4, actor_held=0.05).limit == "actors"
    assert verdict(**busy, learner_held=0.05, actor_held=0.4).limit == "learner"


@pytest.mark.parametrize("missing", ["updates", "learner_busy", "actor_stepping"])
def test_nothing_is_said_of_what_was_not_measured(missing):
    assert judge({key: x for key, x in RUN.items() if key != missing}) is None


@pytest.mark.parametrize(
    ("learner_busy", "each_actor", "limit"), [(0.6, 0.09, "learner"), (0.3, 0.16, "actors")]
)
def test_in_one_process_whoever_takes_more_of_the_thread_is_the_limit(
    learner_busy, each_actor, limit
):
    row = {key: x for key, x in RUN.items() if key != "learner_waiting"}
    figures = {"learner_busy": learner_busy, "actor_stepping": each_actor, "actor_network": 0.0}
    assert judge(row | figures).limit == limit


def test_a_typical_verdict_has_the_means_of_the_looks_that_agree():
    busy = [0.7, 0.9, 0.86]
    rows = [RUN | {"learner_busy": share, "actor_waiting": 0.9} for share in busy]
    rows += [RUN | {"actor_stepping": 0.9}, {"steps": 5.0}]
    found = typical_verdict(rows, "learner")
    assert found.limit == "learner"
    assert found.numbers["learner_busy"] == pytest.approx(sum(busy) / 3)
    assert found.numbers["actors_waiting"] == pytest.approx(0.9)
    assert found.reason == "the learner works 86% of the time"  # The look nearest to 82%.
    assert "a GPU or more cores" in found.advice
