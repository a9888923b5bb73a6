"""The actor: what it sends, in which order it does things, and how it stops."""

import dataclasses
import threading

import counting
import numpy as np
import pytest
import torch
from counting import CountingEnvs, Schedule, check_stacks, expected_entries, expected_returns
from counting_checks import check_stream, stream_number, streams_of
from fakes import FakeReplay, FakeWeights, FirstRefuse, Tape, TapedEnv
from hypothesis import given, settings
from hypothesis import strategies as st
from players import TagNetwork, TagTeacher, build_expert, build_q_network, table_spec

from actors.actor import Actor
from actors.config import ActorConfig
from actors.inference import OwnInference
from actors.priorities import PolicyDistance, TdError
from networks.snapshots import take_snapshot
from networks.weights import WeightsVersion

SPEC = counting.LIVES
SCHEDULE = counting.SCHEDULES[SPEC.name]


class NoLookahead:
    """Priorities that say which row they are for."""

    num_lookahead = 0

    def __call__(self, rows):
        return rows["rewards"][: rows.chunk_steps].copy()


def build_actor(
    *,
    spec=SPEC,
    schedule=None,
    num_envs=3,
    num_steps=0,
    epsilons=None,
    network=None,
    teacher=None,
    store_features=True,
    life_loss_ends_return=True,
    replay=None,
    weights=None,
    serial=2,
    seed=1,
    start_step=0,
    env=None,
    rule=None,
    draws_actions=False,
    extra_columns=(),
    more_teachers=(),
    label_room=0,
    **config,
):
    env = env or CountingEnvs(
        spec, schedule or counting.SCHEDULES[spec.name], num_envs=num_envs, seed=77
    )
    lookahead = TdError(spec.legal_mask(), num_steps=num_steps or 1, gamma=0.9, reward_clip=1.0)
    return Actor(
        ActorConfig(num_envs=num_envs, **config),
        env=env,
        inference=OwnInference(network or TagNetwork(), weights or FakeWeights()),
        teachers=((teacher,) if teacher else ()) + more_teachers,
        store_features=store_features,
        priority_rule=rule or (lookahead if num_steps else NoLookahead()),
        epsilons=np.full(num_envs, 0.3, np.float32) if epsilons is None else epsilons,
        life_loss_ends_return=life_loss_ends_return,
        replay=replay,
        serial=serial,
        seed=seed,
        start_step=start_step,
        draws_actions=draws_actions,
        extra_columns=extra_columns,
        label_room=label_room,
    )


def columns_of(chunk):
    whole = {field.name: getattr(chunk, field.name) for field in dataclasses.fields(chunk)}
    return whole.pop("columns") | {name: np.asarray(value) for name, value in whole.items()}


def assert_same_chunks(one, other):
    for name, column in columns_of(one).items():
        np.testing.assert_array_equal(column, columns_of(other)[name], err_msg=name)


# What is sent


schedules = st.builds(
    Schedule,
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=4).map(tuple),
    cut_every=st.integers(0, 3),
    life_steps=st.integers(0, 3),
)


@settings(max_examples=40, deadline=None)
@given(
    schedule=schedules,
    chunk_steps=st.integers(1, 7),
    num_steps=st.integers(0, 4),
    num_chunks=st.integers(1, 6),
    life_loss_ends_return=st.booleans(),
)
def test_streams_hold_exactly_what_was_played(
    schedule, chunk_steps, num_steps, num_chunks, life_loss_ends_return
):
    actor = build_actor(
        schedule=schedule,
        chunk_steps=chunk_steps,
        num_steps=num_steps,
        life_loss_ends_return=life_loss_ends_return,
    )
    streams = streams_of([actor.collect() for _ in range(num_chunks)])
    assert sorted(streams) == [stream_number(2, env) for env in range(3)]
    for env in range(3):
        check_stream(
            streams[stream_number(2, env)],
            schedule,
            game=SPEC.name,
            seed=77,
            env=env,
            # The rows at the end are held back until their returns are known.
            num_rows=max(0, num_chunks * chunk_steps - num_steps),
            life_loss_ends_return=life_loss_ends_return,
        )


def test_every_entry_carries_the_labels_of_its_own_state():
    network, teacher = TagNetwork(), TagTeacher(SPEC)
    actor = build_actor(network=network, teacher=teacher, chunk_steps=5, num_steps=3)
    for stream in streams_of([actor.collect() for _ in range(8)]).values():
        newest = stream.frames.reshape(len(stream), -1)
        assert (stream.teacher_features == newest).all()
        assert (stream.teacher_values == stream.tags.clock).all()
        for row, clock in enumerate(stream.tags.clock.tolist()):
            assert stream.student_logits[row].tolist() == network.scores(clock).tolist()
            scores = teacher.network.scores(clock)
            legal = list(SPEC.legal_actions)
            expected = np.zeros(counting.NUM_ACTIONS)
            expected[legal] = scores[legal] - scores[legal].max()
            assert stream.teacher_logits[row].tolist() == expected.tolist()


def test_priorities_go_with_the_rows_they_were_computed_for():
    # The rule gives a row's reward, which is different in every row.
    actor = build_actor(chunk_steps=4)
    for _ in range(6):
        chunk = actor.collect()
        assert chunk["priorities"].tolist() == chunk["rewards"].tolist()
        assert chunk["priorities"].dtype == np.float32


def test_td_errors_reach_the_chunk_of_their_row():
    network = TagNetwork()
    actor = build_actor(network=network, chunk_steps=3, num_steps=2, spec=counting.CUTS)
    schedule = counting.SCHEDULES[counting.CUTS.name]
    legal = list(counting.CUTS.legal_actions)
    streams = streams_of([actor.collect() for _ in range(12)])
    for env in range(3):
        stream = streams[stream_number(2, env)]
        entries = {e.clock: e for e in expected_entries(schedule, env, num_rows=60)}
        for row, clock in enumerate(stream.tags.clock.tolist()):
            if not stream.is_transition[row]:
                continue
            target, factor, at = 0.0, 1.0, clock
            while factor and at < clock + 2 and entries[at].is_transition:
                # All rewards are above 1, and clipped to it.
                target += factor
                factor *= 0.9 * entries[at].discount(life_loss_ends_return=True)
                at += 1
            target += factor * float(network.scores(at)[legal].max()) if factor else 0.0
            taken = float(network.scores(clock)[stream.actions[row]])
            assert stream.priorities[row] == pytest.approx(abs(target - taken), abs=1e-4)


def test_a_chunk_is_not_changed_by_later_steps():
    actor = build_actor(chunk_steps=4, num_steps=2)
    chunk = actor.collect()
    before = {name: column.copy() for name, column in columns_of(chunk).items()}
    actor.collect()
    for name, column in columns_of(chunk).items():
        np.testing.assert_array_equal(column, before[name], err_msg=name)


def test_labels_in_the_chunk_equal_those_of_the_expert_on_the_frame_stacks():
    expert = build_expert(SPEC)
    network = build_q_network(SPEC, seed=3)
    actor = build_actor(network=network, teacher=expert, chunk_steps=6)
    replay = FakeReplay(
        [
            table_spec(
                SPEC, num_teacher_actions=SPEC.num_actions, num_teacher_features=expert.num_features
            )
        ],
        batch_size=40,
    )
    for _ in range(4):
        assert replay.add(actor.collect(), timeout_s=0.0)
    batch = replay.sample(timeout_s=0.0)
    check_stacks(batch.observations)
    observations = torch.from_numpy(batch.observations)
    labels = expert.label(observations)
    tolerance = {"rtol": 2e-3, "atol": 1e-4}
    np.testing.assert_allclose(batch["teacher_logits"], labels.logits_BA, **tolerance)
    np.testing.assert_allclose(batch["teacher_features"], labels.features_BF, **tolerance)
    np.testing.assert_allclose(batch["teacher_values"], labels.values_B, rtol=1e-5)
    with torch.no_grad():
        np.testing.assert_allclose(batch["student_logits"], network(observations), **tolerance)
    # Not because all states look the same to it.
    assert batch["teacher_logits"].astype(np.float32).std(axis=0).max() > 1e-3


# Acting


def test_behaviour_probabilities_are_those_of_the_draws_exactly():
    """Exploration is folded in; what is stored is not rounded as the logits are."""
    network, rate = TagNetwork(), 0.3
    actor = build_actor(
        network=network,
        draws_actions=True,
        extra_columns=("behaviour_probabilities",),
        epsilons=np.full(3, rate, np.float32),
        chunk_steps=40,
    )
    rows = actor.collect()
    legal, seen = list(SPEC.legal_actions), set()
    clocks = counting.read_tags(rows["frames"]).clock.tolist()
    for clock, action, found in zip(
        clocks, rows["actions"].tolist(), rows["behaviour_probabilities"], strict=True
    ):
        powers = np.exp(network.scores(clock)[legal].astype(np.float64))
        policy = (1 - np.float32(rate)) * powers / powers.sum() + np.float32(rate) / len(legal)
        assert found == pytest.approx(policy[legal.index(action)], rel=1e-6)
        seen.add(round(float(found), 6))
    assert len(seen) > 20


def test_each_teacher_has_its_place_in_the_labels_and_missing_ones_are_zeros():
    first, second = TagTeacher(SPEC), TagTeacher(SPEC, TagNetwork(factor=5, modulus=9))
    width = SPEC.num_actions
    alone = [build_actor(teacher=one, chunk_steps=4).collect() for one in (first, second)]
    chunk = build_actor(
        teacher=first, more_teachers=(second,), label_room=3, chunk_steps=4
    ).collect()
    labels = chunk["teacher_logits"]
    assert labels.shape[1] == 3 * width
    for number, one in enumerate(alone):
        own = labels[:, number * width : (number + 1) * width]
        np.testing.assert_array_equal(own, one["teacher_logits"])
    assert not np.array_equal(alone[0]["teacher_logits"], alone[1]["teacher_logits"])
    assert not labels[:, 2 * width :].any()
    # Values are the first one's.
    np.testing.assert_array_equal(chunk["teacher_values"], alone[0]["teacher_values"])


def greedy(scores, spec=SPEC):
    return max(spec.legal_actions, key=lambda action: (scores[action], -action))


@pytest.mark.parametrize("act_with", ["student", "teacher"])
def test_the_chosen_player_acts(act_with):
    network, teacher = TagNetwork(), TagTeacher(counting.ENDS)
    actor = build_actor(
        spec=counting.ENDS,
        network=network,
        teacher=teacher,
        act_with=act_with,
        epsilons=np.zeros(3, np.float32),
        chunk_steps=10,
    )
    player = network if act_with == "student" else teacher.network
    stream = streams_of([actor.collect() for _ in range(3)])[stream_number(2, 1)]
    for clock, action in zip(stream.tags.clock.tolist(), stream.actions.tolist(), strict=True):
        assert action == greedy(player.scores(clock), counting.ENDS)
    greedy_actions = {
        tuple(greedy(p.scores(clock), counting.ENDS) for clock in range(30))
        for p in (network, teacher.network)
    }
    assert len(greedy_actions) == 2


def test_exploration_falls_with_every_step_and_goes_on_where_a_run_was_resumed():
    epsilons = np.zeros(3, np.float32)
    config = {"epsilons": epsilons, "chunk_steps": 4, "anneal_steps": 10}
    actor = build_actor(schedule=Schedule(lengths=(90,)), **config)
    stream = streams_of([actor.collect() for _ in range(4)])[stream_number(2, 0)]
    expected = np.clip(1 - np.arange(16) / 10, 0, None)
    np.testing.assert_allclose(stream.epsilons, expected, atol=1e-6)
    resumed = build_actor(schedule=Schedule(lengths=(90,)), start_step=7, **config).collect()
    np.testing.assert_allclose(resumed["epsilons"][:4], [0.3, 0.2, 0.1, 0.0], atol=1e-6)


def test_same_seed_same_chunks_other_seed_other_actions():
    def chunks(**changes):
        actor = build_actor(network=TagNetwork(), teacher=TagTeacher(SPEC), **changes)
        return [actor.collect() for _ in range(3)]

    for one, again in zip(chunks(seed=5), chunks(seed=5), strict=True):
        assert_same_chunks(one, again)
    for changes in ({"seed": 6}, {"serial": 3}):
        other = chunks(**{"seed": 5, **changes})
        pairs = list(zip(chunks(seed=5), other, strict=True))
        assert any((one["actions"] != another["actions"]).any() for one, another in pairs)


def test_an_actor_does_not_explore_with_the_numbers_that_replay_draws_with():
    # Both start from the run's seed and a small number that counts the process.
    shard_rng = np.random.default_rng([1, 2])
    epsilons = np.ones(3, np.float32)
    actions = streams_of([build_actor(epsilons=epsilons, chunk_steps=50).collect()])
    drawn = shard_rng.integers(len(SPEC.legal_actions), size=3)
    first = [int(actions[stream_number(2, env)].actions[0]) for env in range(3)]
    shard_rng.random(3)
    drawn_next = shard_rng.integers(len(SPEC.legal_actions), size=3)
    second = [int(actions[stream_number(2, env)].actions[1]) for env in range(3)]
    assert (first, second) != (drawn.tolist(), drawn_next.tolist())


# Counting


def test_steps_and_episodes_and_returns_are_counted():
    actor = build_actor(chunk_steps=10, num_steps=2, epsilons=np.array([0.1, 0.2, 0.3], np.float32))
    for _ in range(4):
        actor.collect()
    entries = [expected_entries(SCHEDULE, env, num_rows=40) for env in range(3)]
    played = [[entry for entry in stream if entry.is_transition] for stream in entries]
    assert actor.counts.steps == sum(map(len, played))
    ended = [
        sum(entry.step == SCHEDULE.length(env, entry.episode) - 1 for entry in stream)
        for env, stream in enumerate(played)
    ]
    assert actor.counts.episodes == sum(ended)
    returns = actor.drain_returns()
    for env, epsilon in enumerate([0.1, 0.2, 0.3]):
        mine = [value for value, rate in returns if rate == pytest.approx(epsilon)]
        assert mine == expected_returns(SCHEDULE, SPEC.name, 77, env, ended[env])
    assert actor.drain_returns() == []


def test_returns_that_come_while_others_are_drained_are_kept():
    actor = build_actor(chunk_steps=10)
    actor.collect()
    returns = actor._finished_returns
    first = actor.drain_returns()
    # Another thread, in the middle of a step, still holds the list it began with.
    returns.append((1.0, 0.5))
    assert first
    assert actor.drain_returns() == [(1.0, 0.5)]


# Weights


def test_new_weights_act_from_the_next_chunk_on():
    weights = FakeWeights()
    actor = build_actor(weights=weights, epsilons=np.zeros(3, np.float32), chunk_steps=5)
    learned = TagNetwork()
    versions, actions = [], []
    for updates, action in [(0, 4), (10, 1), (20, 5)]:
        with torch.no_grad():
            learned.bias.zero_()
            learned.bias[action] = 100.0
        weights.publish(take_snapshot(learned, WeightsVersion(1, updates)))
        actor.pull_weights()
        chunk = actor.collect()
        versions.append(chunk.weights_version)
        actions.append(set(chunk["actions"][chunk["is_transition"]].tolist()))
    assert versions == [WeightsVersion(1, updates).encode() for updates in (0, 10, 20)]
    assert actions == [{4}, {1}, {5}]


# The loop


def taped(tape, *, replay_gate=None, **kwargs):
    gate = {"accepts": replay_gate} if replay_gate else {}
    replay = FakeReplay([table_spec(SPEC)], batch_size=8, tape=tape, **gate)
    env = TapedEnv(CountingEnvs(SPEC, SCHEDULE, num_envs=3), tape)
    actor = build_actor(env=env, replay=replay, weights=FakeWeights(tape), chunk_steps=2, **kwargs)
    return actor, replay


def test_the_loop_pulls_then_plays_then_adds_and_does_nothing_after_close():
    tape = Tape()
    actor, _ = taped(tape)

    def on_chunk():
        tape.record("on chunk")
        if actor.counts.chunks == 2:
            actor.close()

    actor.run(on_chunk=on_chunk)
    a_round = ["pull", "step", "step", "add", "on chunk"]
    assert tape.names == [*a_round, *a_round, "close env"]


def test_a_refused_chunk_is_offered_again_until_it_is_taken():
    tape = Tape()
    actor, replay = taped(tape, replay_gate=FirstRefuse(3))
    actor.run(on_chunk=actor.close)
    assert tape.names == ["pull", "step", "step", *["refuse"] * 3, "add", "close env"]
    assert all(chunk is replay.chunks[0] for chunk in tape.details("refuse"))
    assert actor.counts.chunks == 1


def test_waiting_for_replay_is_asked_for_in_small_portions():
    timeouts = []

    class Replay:
        def add(self, chunk, *, timeout_s):
            timeouts.append(timeout_s)
            return len(timeouts) == 2

    actor = build_actor(replay=Replay())
    actor.run(wait_s=0.125, on_chunk=actor.close)
    assert timeouts == [0.125, 0.125]


def test_close_ends_the_wait_for_replay_and_the_chunk_is_not_sent():
    tape = Tape()

    def close_and_refuse():
        assert tape.names.count("refuse") < 5, "waits for ever"
        actor.close()
        return False

    actor, replay = taped(tape, replay_gate=close_and_refuse)
    actor.run(on_chunk=lambda: tape.record("on chunk"))
    assert tape.names == ["pull", "step", "step", "refuse", "close env"]
    assert replay.chunks == []


def test_close_from_another_thread_ends_the_loop_and_frees_the_environments():
    env = CountingEnvs(SPEC, SCHEDULE, num_envs=3)
    replay = FakeReplay([table_spec(SPEC)], batch_size=8)
    actor = build_actor(env=env, replay=replay)
    under_way = threading.Event()
    thread = threading.Thread(target=actor.run, kwargs={"on_chunk": under_way.set})
    thread.start()
    assert under_way.wait(30.0)
    actor.close()
    thread.join(30.0)
    assert not thread.is_alive()
    assert env.is_closed
    sent = len(replay.chunks)
    streams_of(replay.chunks)
    assert sent == actor.counts.chunks


def test_environments_are_closed_when_the_loop_fails():
    class Broken(FakeWeights):
        def poll(self, newer_than):
            raise ConnectionError("gone")

    env = CountingEnvs(SPEC, SCHEDULE, num_envs=3)
    with pytest.raises(ConnectionError):
        build_actor(env=env, weights=Broken()).run()
    assert env.is_closed


def test_policy_distance_priorities_are_those_of_the_stored_labels():
    rule = PolicyDistance(SPEC.legal_mask(), temperature=2.0, kind="l1")
    chunk = build_actor(teacher=TagTeacher(SPEC), rule=rule, chunk_steps=6).collect()
    legal = list(SPEC.legal_actions)
    teacher = np.exp(chunk["teacher_logits"][:, legal].astype(float) / 2.0)
    student = np.exp(chunk["student_logits"][:, legal].astype(float))
    p = teacher / teacher.sum(1, keepdims=True)
    q = student / student.sum(1, keepdims=True)
    np.testing.assert_allclose(chunk["priorities"], np.abs(p - q).sum(1), rtol=1e-4)
