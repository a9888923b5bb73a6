"""When a run counts as recovered: a process in the place is not enough, it must have worked."""

from dataclasses import replace

import pytest

from engines.chaos.recovery import Recovery, Standing, losses

STATUS = {
    "phase": "training",
    "updates": 100,
    "games": {
        "pong": {"live": 2, "wanted": 2, "waiting": 0, "steps": 50},
        "boxing": {"live": 1, "wanted": 1, "waiting": 0, "steps": 70},
    },
    "faults": {"chunks_lost": 1, "transitions_lost": 0, "actor_restarts": 3},
    "host": "here",
    "pid": 7,
    "redis_pid": 8,
    "ray": "127.0.0.1:6379",
}
BEFORE = Standing.of(STATUS, has_weights=True)


def later(**changes):
    """A later look: counters of faults are added to, everything else is replaced."""
    faults = dict(BEFORE.faults)
    for kind, number in changes.pop("faults", {}).items():
        faults[kind] = faults.get(kind, 0) + number
    return replace(BEFORE, faults=faults, **changes)


def test_an_actor_is_back_when_its_game_has_been_played_by_all_of_its_actors():
    recovery = Recovery(["actor/pong"], BEFORE)
    assert not recovery.is_over(later(steps={"pong": 90, "boxing": 90})), "nothing was noticed yet"
    died = {"faults": {"actor_restarts": 1}}
    assert not recovery.is_over(later(**died, settled=False, steps={"pong": 95, "boxing": 95}))
    assert not recovery.is_over(later(**died, steps={"pong": 99, "boxing": 95})), "it has just come"
    assert not recovery.is_over(later(**died, steps={"pong": 99, "boxing": 200}))
    assert recovery.is_over(later(**died, steps={"pong": 100, "boxing": 200}))


@pytest.mark.parametrize(
    ("role", "kind"),
    [
        ("shard", "shard_restarts"),
        ("learner", "learner_restarts"),
        ("redis", "redis_restarts"),
    ],
)
def test_what_feeds_the_learner_is_back_when_updates_have_been_made_since(role, kind):
    recovery = Recovery([role], BEFORE)
    assert not recovery.is_over(later(updates=150)), "its death was not noticed yet"
    # A learner begins again from an older update.
    assert not recovery.is_over(later(updates=80, faults={kind: 1}))
    assert not recovery.is_over(later(updates=81, faults={kind: 1}, has_weights=False))
    assert recovery.is_over(later(updates=81, faults={kind: 1}))


def test_a_node_is_made_up_for_when_all_that_was_on_it_is():
    recovery = Recovery(["actor/pong", "actor/pong", "learner", "learner"], BEFORE)
    steps = {"pong": 60, "boxing": 71}
    one = later(faults={"actor_restarts": 1, "learner_restarts": 1}, updates=101, steps=steps)
    assert not recovery.is_over(one), "two actors have died"
    # Several learners begin again together, which counts as one restart.
    both = {"actor_restarts": 2, "learner_restarts": 1}
    assert not recovery.is_over(later(faults=both))
    assert recovery.is_over(later(faults=both, updates=101, steps=steps))


@pytest.mark.parametrize("phase", ["starting", "testing", "ended"])
def test_nothing_recovers_outside_training(phase):
    now = later(faults={"learner_restarts": 1}, updates=200, phase=phase)
    recovery = Recovery(["learner"], BEFORE)
    assert not recovery.is_over(now)
    assert not recovery.is_over(replace(now, updates=300))
    assert now.unready == f"it is {phase}"


def test_a_run_is_not_ready_while_anything_of_it_has_not_worked():
    assert later(settled=False).unready == "not all of its actors play"
    assert later(has_weights=False).unready == "its weights are not in Redis"
    assert later(steps={"pong": 0, "boxing": 1}).unready == "pong has not been played yet"
    assert later(updates=0).unready == "it has made no update yet"


def test_what_was_lost_is_the_difference_with_the_updates_of_a_learner_that_fell_back():
    after = later(faults={"chunks_lost": 2, "transitions_lost": 70, "updates_lost": 119})
    assert losses(BEFORE, after) == {
        "chunks_lost": 2,
        "transitions_lost": 70,
        "updates_lost": 119,
    }
