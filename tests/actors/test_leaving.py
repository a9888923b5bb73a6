"""An actor that is sent away hands over what it plays; one whose place changes explores anew."""

import threading

import counting
import pytest
from counting import CountingEnvs
from counting_checks import streams_of
from fakes import FakeWeights
from players import TagNetwork

from actors.actor import Actor
from actors.config import ActorConfig
from actors.inference import OwnInference
from actors.policy import epsilon_ladder

SPEC = counting.LIVES
NUM_ENVS = 3


class NoPriorities:
    num_lookahead = 0

    def __call__(self, rows):
        return rows["rewards"][: rows.chunk_steps].copy()


class SlowReplay:
    """Refuses chunks until it is told to take them."""

    def __init__(self):
        self.chunks = []
        self.is_open = threading.Event()
        self.was_asked = threading.Event()

    def add(self, chunk, *, timeout_s):
        self.was_asked.set()
        if not self.is_open.wait(timeout_s):
            return False
        self.chunks.append(chunk)
        return True


@pytest.fixture
def replay():
    return SlowReplay()


@pytest.fixture
def actor(replay):
    return Actor(
        ActorConfig(num_envs=NUM_ENVS, chunk_steps=4),
        env=CountingEnvs(SPEC, counting.SCHEDULES[SPEC.name], num_envs=NUM_ENVS, seed=77),
        inference=OwnInference(TagNetwork(), FakeWeights()),
        teachers=(),
        store_features=False,
        priority_rule=NoPriorities(),
        epsilons=epsilon_ladder(NUM_ENVS),
        life_loss_ends_return=True,
        replay=replay,
        serial=2,
        seed=1,
    )


@pytest.fixture
def running(actor):
    thread = threading.Thread(target=lambda: actor.run(wait_s=0.02), daemon=True)
    thread.start()
    yield thread
    actor.close()
    thread.join(20.0)


def test_it_ends_only_when_replay_has_what_was_played(actor, replay, running):
    assert replay.was_asked.wait(20.0)
    actor.finish()
    running.join(0.2)
    assert running.is_alive(), "the chunk at hand is lost"
    replay.is_open.set()
    running.join(20.0)
    assert not running.is_alive()
    streams = streams_of(replay.chunks)
    stored = sum(int(stream.is_transition.sum()) for stream in streams.values())
    assert stored == actor.counts.steps > 0
    assert actor.counts.chunks == len(replay.chunks) == 1


def test_it_can_still_be_closed_while_replay_takes_nothing(actor, replay, running):
    assert replay.was_asked.wait(20.0)
    actor.finish()
    actor.close()
    running.join(20.0)
    assert not running.is_alive()
    assert replay.chunks == []


def test_other_exploration_rates_hold_from_the_next_step_on(actor):
    before = actor.collect()
    rates = epsilon_ladder(2 * NUM_ENVS)[1::2]
    actor.explore_with(rates)
    after = actor.collect()
    assert set(before["epsilons"].tolist()) == set(epsilon_ladder(NUM_ENVS).tolist())
    assert set(after["epsilons"].tolist()) == set(rates.tolist())
