"""Rates out of counts, rows that continue, and keys that docs/metrics.md explains."""

import json
import math
import re
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from actors.actor import ActorCounts
from actors.evaluator import EvaluationResult
from games.spec import GameSpec
from learner.batch import DeviceBatch, TemporalDifferenceBatch
from learner.config import LearnerConfig
from learner.distillation import TeacherWeights
from learner.learner import Learner
from learner.objectives.config import DistillationConfig, DqnConfig, MimicConfig
from learner.objectives.joint import JointObjective
from learner.objectives.mimic import ActorMimicObjective
from learner.objectives.value import DqnObjective
from learner.schedule import LearningRate
from networks.network import MultitaskNetwork
from records.progress import GameProgress, Progress
from records.recorder import Recorder
from records.session_clock import SessionClock
from records.summary import Throughput
from records.usage import LearnerUsage, Usage
from replay.stats import SnapshotStats, TableStats
from replay.storage.table import TableCounts
from teachers.card import ScoreRecord

DOCS = Path(__file__).parents[2] / "docs" / "metrics.md"
NUM_ACTIONS = 3
SHAPE = (2, 10, 10)


def spec(name, *, random=2.0):
    return GameSpec(
        name=name,
        family="toy",
        num_actions=NUM_ACTIONS,
        legal_actions=(0, 1, 2),
        frame_shape=SHAPE,
        num_stack=1,
        frames_per_step=4,
        random_score=random,
        human_score=22.0,
    )


TEACHER = ScoreRecord(
    mean=12.0, std=1.0, max=14.0, episodes=30, protocol="classic", epsilon=0.05, precision="half"
)
REPLAY = TableStats(
    size=100,
    ready=90,
    capacity=120,
    num_bytes=1_000,
    num_raw_bytes=4_000,
    share=2.0,
    samples_per_insert_cap=8.0,
    counts=TableCounts(overwritten_unsampled=5, stale_priorities=6, yielded=8),
    insert_wait_s=7.0,
    waiting_actors=3,
    priority_quantiles=(0.0, 0.1, 0.5, 0.9, 1.0),
    age_quantiles=(0.0, 10.0, 50.0, 90.0, 100.0),
)
RESULT = EvaluationResult(returns=(6.0, 8.0), steps=50, agreement=0.8, kl=0.25)


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def open_recorder(tmp_path, clock):
    opened = []

    def open_one(*games, started=None, counted_s=0.0, wall_s=0.0, **options):
        session = SessionClock(started=started, counted_s=counted_s, wall_s=wall_s, clock=clock)
        recorder = Recorder(
            tmp_path / "metrics.jsonl",
            tmp_path / "tensorboard",
            [spec(game) for game in games or ("pong",)],
            clock=session,
            **options,
        )
        opened.append(recorder)
        return recorder

    yield open_one
    for recorder in opened:
        recorder.close()


def game(steps=0, *, sampled=0, inserted=0, episodes=0, **fields):
    counts = TableCounts(sampled=sampled, inserted=inserted)
    defaults = {
        "actors": 1,
        "played": ActorCounts(steps=steps, episodes=episodes),
        "replay": TableStats(size=inserted, counts=counts),
    }
    return GameProgress(**defaults | fields)


def stored(steps, *, sampled, inserted, insert_wait_s, overwritten=0, stale=0, **fields):
    counts = TableCounts(
        sampled=sampled, inserted=inserted, overwritten_unsampled=overwritten,
        stale_priorities=stale,
    )  # fmt: skip
    table = TableStats(size=inserted, counts=counts, insert_wait_s=insert_wait_s)
    return game(steps, replay=table, **fields)


def look(updates=0, *, pong=None, **fields):
    return Progress(updates=updates, games={"pong": pong or game()}, **fields)


def rows(tmp_path):
    return [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]


def test_rates_are_differences_of_two_looks_over_the_time_between_them(open_recorder, clock):
    recorder = open_recorder("pong", "boxing")
    first = recorder.record(
        Progress(
            updates=10,
            games={
                "pong": stored(100, sampled=50, inserted=90, insert_wait_s=3.0),
                "boxing": game(40),
            },
        )
    )
    assert not [key for key in first if key.endswith(("_second", "_insert", "_waiting"))]
    clock.now += 4.0
    row = recorder.record(
        Progress(
            updates=30,
            games={
                "pong": stored(
                    500,
                    sampled=850,
                    inserted=490,
                    insert_wait_s=9.0,
                    overwritten=5,
                    stale=6,
                    episodes=3,
                    actors=2,
                ),
                "boxing": game(60, sampled=400, inserted=100),
            },
            sample_wait_s=2.0,
            faults={"actor_restarts": 1},
            metrics={"policy_lag": 12.5},
        )
    )
    expected = {
        "seconds": 4.0,
        "steps": 560,
        "updates": 30,
        "steps_per_second": (400 + 20) / 4,
        "frames_per_second": 400 + 20,
        "samples_per_second": (800 + 400) / 4,
        "updates_per_second": 5.0,
        "samples_per_insert": 1200 / 500,
        "insert_waiting": 1.5,
        "sample_waiting": 0.5,
        "overwritten_unsampled": 5,
        "stale_priorities": 6,
        "policy_lag": 12.5,
        "faults/actor_restarts": 1,
        "faults/shard_restarts": 0,
        "game/pong/steps": 500,
        "game/pong/episodes": 3,
        "game/pong/actors": 2,
        "game/pong/replay_size": 490,
        "game/pong/steps_per_second": 100.0,
        "game/pong/samples_per_second": 200.0,
        "game/pong/inserts_per_second": 100.0,
        "game/pong/samples_per_insert": 2.0,
        "game/boxing/steps_per_second": 5.0,
        "game/boxing/inserts_per_second": 25.0,
        "game/boxing/samples_per_insert": 4.0,
    }
    assert {key: row.get(key) for key in expected} == expected


def test_a_look_says_how_each_games_replay_and_its_snapshots_are(open_recorder, clock):
    recorder = open_recorder()
    snapshots = SnapshotStats(
        age_s=3.0,
        num_bytes=10,
        num_bytes_written=50,
        duration_s=0.5,
        longest_hold_s=0.25,
        failures=2,
    )
    fields = {"limiter_error": -3.0, "waiting_requests": 1, "snapshots": snapshots}
    recorder.record(look(pong=game(replay=replace(REPLAY, insert_wait_s=5.0))))
    clock.now += 4.0
    row = recorder.record(look(pong=game(replay=REPLAY), **fields))
    expected = {
        "game/pong/replay_ready": 90,
        "game/pong/replay_capacity": 120,
        "game/pong/replay_bytes": 1_000,
        "game/pong/replay_compression": 4.0,
        "game/pong/share": 2.0,
        "game/pong/samples_per_insert_cap": 8.0,
        "game/pong/overwritten_unsampled": 5,
        "game/pong/stale_priorities": 6,
        "game/pong/yielded": 8,
        "game/pong/insert_waiting": 0.5,
        "game/pong/waiting_actors": 3,
        "game/pong/sample_age_median": 50.0,
        "game/pong/sample_age_p90": 90.0,
        "game/pong/priority_median": 0.5,
        "game/pong/priority_p90": 0.9,
        "replay/bytes": 1_000,
        "replay/limiter_error": -3.0,
        "replay/waiting_actors": 3,
        "replay/waiting_requests": 1,
        "replay/snapshot_age_s": 3.0,
        "replay/snapshot_bytes": 10,
        "replay/snapshot_written_bytes": 50,
        "replay/snapshot_duration_s": 0.5,
        "replay/snapshot_hold_s": 0.25,
        "replay/snapshot_failures": 2,
    }
    assert {key: row.get(key) for key in expected} == expected


def test_return_is_of_the_least_exploring_environments_where_exploration_differs(open_recorder):
    recorder = open_recorder()
    row = recorder.record(look(pong=game(returns=((1.0, 0.4), (20.0, 0.01), (10.0, 0.002)))))
    assert row["game/pong/return"] == 15.0
    # Nobody but a wildly exploring environment ended its episode: no figure, rather than a bad one.
    assert "game/pong/return" not in recorder.record(look(pong=game(returns=((1.0, 0.4),))))


def test_a_look_that_sees_a_counter_fall_has_no_rates_and_the_next_one_has(open_recorder, clock):
    recorder = open_recorder()
    recorder.record(look(100, pong=game(100, sampled=900, inserted=400)))
    clock.now += 1.0
    # A shard was restarted from a snapshot.
    row = recorder.record(look(110, pong=game(110, sampled=300, inserted=200)))
    assert not [key for key in row if key.endswith(("_second", "_insert", "_waiting"))]
    clock.now += 1.0
    row = recorder.record(look(120, pong=game(120, sampled=500, inserted=300)))
    assert row["samples_per_second"] == 200.0
    assert row["samples_per_insert"] == 2.0


def test_no_rate_outlives_the_looks_that_it_was_formed_of(open_recorder, clock):
    recorder = open_recorder(num_updates=10)
    before = {"owners": ("learner 1",), "usage": usage(0)}
    recorder.record(look(0, **before))
    clock.now += 1.0
    after = {"owners": ("learner 1",), "usage": usage(1)}
    row = recorder.record(look(1, pong=game(9, sampled=9, inserted=9), **after))
    assert row["seconds_left"] == 9.0
    clock.now += 1.0
    # The learner was replaced: what it does from now on is not known before the next look.
    row = recorder.record(look(1, pong=game(9, sampled=9, inserted=9), owners=("learner 2",)))
    assert recorder.latest == row


def test_overall_means_begin_with_the_first_update_and_end_with_the_last_look(open_recorder, clock):
    recorder = open_recorder()
    # Replay fills fast and nothing is learned: not part of the means.
    recorder.record(look(0, pong=game(0)))
    clock.now += 10.0
    recorder.record(look(0, pong=game(9000, inserted=9000)))
    clock.now += 2.0
    recorder.record(
        look(10, pong=game(9100, sampled=100, inserted=9100), metrics={"policy_lag": 1.0})
    )
    clock.now += 2.0
    recorder.record(
        look(40, pong=game(9300, sampled=500, inserted=9300), metrics={"policy_lag": 5.0})
    )
    assert recorder.overall() == Throughput(
        steps_per_second=300 / 4,
        samples_per_second=500 / 4,
        updates_per_second=10.0,
        samples_per_insert=500 / 300,
        policy_lag_mean=(10 * 1.0 + 30 * 5.0) / 40,
    )


def test_a_test_row_says_how_the_student_compares_with_its_teacher(open_recorder, tmp_path, clock):
    recorder = open_recorder(teachers={"pong": TEACHER}, counted_s=60.0, wall_s=75.0)
    recorder.record(look(900, pong=game(7000)))
    recorder.record_evaluation("pong", steps=5000, updates=700, result=RESULT)
    expected = {
        "seconds": 60.0,
        "wall_seconds": 75.0,
        "steps": 5000,
        "updates": 700,
        "test/pong/mean": 7.0,
        "test/pong/std": 1.0,
        "test/pong/max": 8.0,
        "test/pong/episodes": 2,
        "test/pong/agreement": 0.8,
        "test/pong/kl": 0.25,
        "test/pong/teacher_mean": 12.0,
        "test/pong/teacher_normalized": 0.5,
        "test/pong/human_normalized": 0.25,
    }
    assert rows(tmp_path)[1] == expected
    # The test was of older weights; the run itself has not gone back.
    assert recorder.latest["updates"] == 900
    assert recorder.latest["steps"] == 7000
    assert recorder.latest["test/pong/mean"] == 7.0


def test_rows_are_on_disk_at_once_and_numbers_that_are_not_finite_are_null(open_recorder, tmp_path):
    recorder = open_recorder()
    recorder.record(look(metrics={"policy_loss": math.nan, "td_loss": 1 / 3}))
    text = (tmp_path / "metrics.jsonl").read_text()
    assert text.endswith("\n")
    row = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert row["policy_loss"] is None
    assert row["td_loss"] == pytest.approx(1 / 3, rel=1e-6)


def test_resuming_appends_rows_and_time_goes_on(open_recorder, tmp_path, clock):
    first = open_recorder()
    clock.now += 100.0
    first.record(look(5))
    first.close()
    # The process is killed while it writes a line.
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"seconds": 102.0, "ste')
    clock.now += 5000.0
    second = open_recorder(counted_s=100.0)
    clock.now += 1.0
    second.record(look(6))
    assert [(row["seconds"], row["updates"]) for row in rows(tmp_path)] == [(100.0, 5), (101.0, 6)]


def test_tensorboard_has_the_same_scalars_over_steps_and_a_resumed_run_hides_what_it_repeats(
    open_recorder, tmp_path, clock
):
    first = open_recorder()
    for steps in (100, 200, 300):
        first.record(look(pong=game(steps), metrics={"policy_loss": steps / 4}))
        clock.now += 1.0
    first.close()
    # TensorBoard reads files by name, which begins with the second of their making.
    time.sleep(1.0)
    second = open_recorder()
    second.record(look(pong=game(200), metrics={"policy_loss": 7.0}))
    second.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("policy_loss")] == [(100, 25.0), (200, 7.0)]
    assert set(events.Tags()["scalars"]) == set().union(*rows(tmp_path))


def batch(*, successors):
    size = 4
    rng = torch.Generator().manual_seed(1)

    def images():
        return torch.randint(0, 255, (size, *SHAPE), dtype=torch.uint8, generator=rng)

    return DeviceBatch(
        games=("pong",),
        keys=None,
        game_counts=(size,),
        observations_BCHW=images(),
        actions_B=torch.zeros(size, dtype=torch.int64),
        game_index_B=torch.zeros(size, dtype=torch.int64),
        teacher_logits_BA=-torch.rand(size, NUM_ACTIONS, generator=rng),
        teacher_features_BD=torch.rand(size, 5, generator=rng),
        inverse_probabilities_B=torch.ones(size),
        loss_weights_B=torch.ones(size),
        acting_versions=np.zeros(size, np.int64),
        temporal_difference=TemporalDifferenceBatch(
            returns_B=torch.zeros(size),
            bootstrap_discounts_B=torch.ones(size),
            bootstrap_observations_BCHW=images(),
        )
        if successors
        else None,
    )


def learner_metrics(network, objective, device_batch):
    """What a real learner reports after one update."""
    learner = Learner(
        LearnerConfig(precision="float32"),
        network=network,
        objective=objective,
        optimizer=torch.optim.SGD(network.parameters(), lr=0.1),
        learning_rate=LearningRate(start=0.1, num_updates=1, decay_share=0.0),
        load_batch=lambda _: device_batch,
        replay=None,
        weights=None,
        device=torch.device("cpu"),
    )
    learner.update(device_batch)
    return learner.drain_metrics()


def all_learner_metrics():
    legal_GA = torch.ones(1, NUM_ACTIONS, dtype=torch.bool)
    student = MultitaskNetwork(
        torso="minatar",
        observation_shape=SHAPE,
        num_actions=NUM_ACTIONS,
        games=("pong",),
        teacher_feature_sizes={"pong": 5},
    )
    mimic = ActorMimicObjective(
        MimicConfig(feature_weight=0.01), student, legal_GA=legal_GA, temperatures=[1.0]
    )
    network = MultitaskNetwork(torso="minatar", observation_shape=SHAPE, num_actions=NUM_ACTIONS)
    dqn = DqnObjective(DqnConfig(), network, legal_GA=legal_GA)
    teachers = TeacherWeights(
        {"pong": [DistillationConfig()]}, steps_per_update=1.0, device=torch.device("cpu")
    )
    joint = JointObjective(
        dqn, MimicConfig(), teachers, network, legal_GA=legal_GA, temperatures=[1.0], gated=True
    )
    return {
        **learner_metrics(student, mimic, batch(successors=False)),
        **learner_metrics(network, dqn, batch(successors=True)),
        **learner_metrics(network, joint, batch(successors=True)),
    }


def usage(seconds):
    """Of a run on Ray with all roles."""
    return Usage(
        learner=LearnerUsage(elapsed_s=seconds, updating_s=0.5 * seconds, waiting_s=0.0),
        shards_busy_s=(0.5 * seconds,),
        cpu_s=dict.fromkeys(("actors", "learner", "shards", "inference", "coordinator"), seconds),
        moved_bytes=dict.fromkeys(("chunks", "batches", "weights"), seconds),
        num_cores=2,
    )


def test_every_key_that_is_written_is_documented_and_every_documented_key_is_written(
    open_recorder, tmp_path, clock
):
    probes = [lambda: {"redis_up": 1.0}]
    recorder = open_recorder(teachers={"pong": TEACHER}, probes=probes, num_updates=10)
    recorder.record(look(0, usage=usage(0)))
    clock.now += 1.0
    pong = game(
        returns=((1.0, 0.1),),
        played=ActorCounts(steps=10, stepping_s=0.5, elapsed_s=1.0),
        replay=replace(REPLAY, counts=TableCounts(sampled=20, inserted=10)),
    )
    snapshots = SnapshotStats(age_s=3.0)
    # With an inference server or a GPU there is more to tell.
    served = {"inference_batch": 16.0, "gpu/memory_bytes": 1.0, "gpu/busy": 0.5}
    # The metrics that tests/learner/objectives/test_actor_critic.py sees of that objective.
    names = ("policy_gradient_loss", "entropy", "value_loss", "v_trace_clipped", "teacher_distance")
    # Those that tests/learner/test_probe.py sees of a look at the network.
    names += ("effective_rank", "dead_units", "weight_norm")
    for cosine in ("gradient_cosine", "gradient_cosine_floor"):
        names += (cosine, f"{cosine}_adam")
    names += ("game/pong/gradient_cosine", "game/pong/gradient_cosine_adam")
    served |= dict.fromkeys(names, 1.0)
    # What tests/learner/test_probe.py sees of the learner's looks at itself.
    names = ("effective_rank", "dead_units", "weight_norm", "gradient_cosine")
    served |= dict.fromkeys((*names, "gradient_cosine_floor"), 1.0)
    recorder.record(
        look(
            1,
            pong=pong,
            metrics=all_learner_metrics() | served,
            snapshots=snapshots,
            faults={"inference_restarts": 0},
            usage=usage(1),
        )
    )
    recorder.record_evaluation("pong", steps=10, updates=1, result=RESULT)
    recorder.record_teacher("pong", steps=10, updates=1, result=RESULT)
    written = {key.replace("/pong/", "/GAME/") for row in rows(tmp_path) for key in row}
    section = DOCS.read_text().split("\n## metrics.jsonl\n")[1].split("\n## ")[0]
    documented = re.findall(r"^\| `([^`]+)` \|", section, flags=re.MULTILINE)
    assert len(documented) == len(set(documented))
    assert written == set(documented)
