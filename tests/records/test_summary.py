"""summary.json: the contract's keys, and figures worked out by hand."""

import copy
import json
import math

import pytest

from actors.evaluator import EvaluationResult
from games.spec import GameSpec
from records.progress import GameProgress, Progress
from records.summary import Throughput, build_summary, check_summary
from teachers.card import ScoreRecord


def spec(name, *, random=0.0, human=None, frames_per_step=4):
    return GameSpec(
        name=name,
        family="toy",
        num_actions=3,
        legal_actions=(0, 1),
        frame_shape=(1, 10, 10),
        num_stack=1,
        frames_per_step=frames_per_step,
        random_score=random,
        human_score=human,
    )


def student(*returns, agreement=0.9, kl=0.1):
    return EvaluationResult(returns=returns, steps=100, agreement=agreement, kl=kl)


def teacher(mean):
    return ScoreRecord(
        mean=mean,
        std=1.5,
        max=mean + 2.0,
        episodes=30,
        protocol="classic",
        epsilon=0.05,
        precision="half",
    )


def progress(steps, **fields):
    games = {
        name: GameProgress(
            steps=count, episodes=1, actors=1, replay_size=10, sampled=20, inserted=10
        )
        for name, count in steps.items()
    }
    return Progress(updates=50, games=games, **fields)


def summarize(games, students, teachers, **overrides):
    fields = {
        "preset": "smoke",
        "seed": 7,
        "wall_seconds": 12.5,
        "progress": progress({game.name: 100 for game in games}),
        "throughput": Throughput(),
    }
    document = build_summary(
        games=games, students=students, teachers=teachers, **fields | overrides
    )
    check_summary(document)
    return document


def one_game(student_returns, teacher_mean, **reference):
    return summarize(
        [spec("pong", **reference)],
        {"pong": student(*student_returns)},
        {"pong": teacher(teacher_mean)},
    )


def test_summary_has_exactly_the_fields_and_figures_of_the_contract():
    document = summarize(
        [spec("pong", random=-20.0, human=14.0)],
        {"pong": student(8.0, 12.0, agreement=0.75, kl=0.25)},
        {"pong": teacher(20.0)},
        progress=progress(
            {"pong": 300},
            faults={"actor_restarts": 2, "chunks_lost": 3, "transitions_lost": 5},
            overwritten_unsampled=4,
        ),
        throughput=Throughput(
            steps_per_second=640.0,
            samples_per_second=1280.0,
            updates_per_second=10.0,
            samples_per_insert=2.0,
            policy_lag_mean=37.0,
        ),
    )
    assert document == {
        "preset": "smoke",
        "seed": 7,
        "wall_seconds": 12.5,
        "steps": {"pong": 300},
        "frames": 1200,
        "updates": 50,
        "games": {
            "pong": {
                "teacher": {"mean": 20.0, "std": 1.5, "max": 22.0, "episodes": 30},
                "student": {"mean": 10.0, "std": 2.0, "max": 12.0, "episodes": 2},
                "random": -20.0,
                "human": 14.0,
                "teacher_ratio": 0.5,
                "teacher_normalized": 0.75,
                "human_normalized": pytest.approx(30 / 34),
                "agreement": 0.75,
                "kl": 0.25,
            }
        },
        "aggregate": {
            "teacher_ratio": {
                "capped_mean": 0.5,
                "geometric_mean": pytest.approx(0.5),
                "median": 0.5,
            },
            "teacher_normalized": {
                "capped_mean": 0.75,
                "geometric_mean": pytest.approx(0.75),
                "median": 0.75,
            },
        },
        "throughput": {
            "steps_per_second": 640.0,
            "samples_per_second": 1280.0,
            "updates_per_second": 10.0,
            "samples_per_insert": 2.0,
            "policy_lag_mean": 37.0,
        },
        "faults": {
            "actor_restarts": 2,
            "shard_restarts": 0,
            "learner_restarts": 0,
            "inference_restarts": 0,
            "redis_restarts": 0,
            "redis_reconnects": 0,
            "updates_lost": 0,
            "chunks_lost": 3,
            "transitions_lost": 5,
            "transitions_overwritten_unsampled": 4,
        },
    }
    assert json.loads(json.dumps(document, allow_nan=False)) == document


def test_capped_mean_caps_each_game_and_the_other_aggregates_do_not():
    games = [spec(name) for name in ("a", "b", "c", "d")]
    scores = {"a": 5.0, "b": 40.0, "c": 20.0, "d": 2.5}
    document = summarize(
        games,
        {name: student(score) for name, score in scores.items()},
        {name: teacher(10.0) for name in scores},
    )
    figures = document["aggregate"]["teacher_ratio"]
    assert figures["capped_mean"] == pytest.approx((0.5 + 1 + 1 + 0.25) / 4)
    assert figures["geometric_mean"] == pytest.approx((0.5 * 4 * 2 * 0.25) ** 0.25)
    assert figures["median"] == pytest.approx((0.5 + 2) / 2)


@pytest.mark.parametrize("score", [0.0, -3.0])
def test_geometric_mean_over_a_ratio_that_is_not_positive_does_not_exist(score):
    figures = one_game([score], 20.0)["aggregate"]["teacher_ratio"]
    assert figures["geometric_mean"] is None
    assert figures["capped_mean"] == figures["median"] == score / 20.0


def test_figures_without_a_reference_are_null_and_stay_out_of_the_aggregates():
    games = [spec("level", random=20.0), spec("unknown", random=None, human=9.0), spec("zero")]
    document = summarize(
        games,
        {game.name: student(10.0) for game in games},
        {"level": teacher(20.0), "unknown": teacher(20.0), "zero": teacher(0.0)},
    )
    rows = document["games"]
    assert rows["level"]["teacher_normalized"] is None
    assert rows["level"]["human_normalized"] is None
    assert rows["unknown"]["teacher_normalized"] is None
    assert rows["unknown"]["human_normalized"] is None
    assert rows["zero"]["teacher_ratio"] is None
    assert rows["zero"]["teacher_normalized"] is None
    assert set(document["aggregate"]["teacher_normalized"].values()) == {None}
    assert document["aggregate"]["teacher_ratio"]["median"] == 0.5


def test_a_run_that_was_stopped_before_its_first_look_still_has_a_summary():
    document = summarize([spec("pong")], {}, {"pong": None}, progress=None)
    row = document["games"]["pong"]
    assert row["student"] == {"mean": None, "std": None, "max": None, "episodes": 0}
    assert row["teacher"] == row["student"]
    assert row["agreement"] is None
    assert document["steps"] == {"pong": 0}
    assert document["updates"] == 0
    assert set(document["faults"].values()) == {0}


def test_frames_follow_each_games_frame_skip():
    games = [spec("slow", frames_per_step=4), spec("fast", frames_per_step=1)]
    document = summarize(games, {}, {}, progress=progress({"slow": 10, "fast": 7}))
    assert document["frames"] == 47


def test_numbers_that_are_not_finite_become_null():
    document = summarize(
        [spec("pong")],
        {"pong": student(math.nan, kl=math.inf, agreement=math.nan)},
        {"pong": teacher(10.0)},
        throughput=Throughput(policy_lag_mean=math.nan),
    )
    row = document["games"]["pong"]
    assert row["student"]["mean"] is None
    assert row["teacher_ratio"] is None
    assert row["kl"] is None
    assert row["agreement"] is None
    assert document["throughput"]["policy_lag_mean"] is None
    json.dumps(document, allow_nan=False)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["wall_seconds"], math.nan, "summary.wall_seconds must be a finite number"),
        (["seed"], None, "summary.seed must be a whole number"),
        (["updates"], True, "summary.updates must be a whole number"),
        (["preset"], 3, "summary.preset must be a text"),
        (["steps", "pong"], 1.5, "summary.steps.pong must be a whole number of at least 0"),
        (["games", "pong", "agreement"], 1.2, "games.pong.agreement must be a finite number of"),
        (["games", "pong", "student", "std"], -1.0, "games.pong.student.std must be"),
        (["aggregate", "teacher_ratio", "capped_mean"], 1.5, "teacher_ratio.capped_mean must be"),
        (["faults", "chunks_lost"], -1, "summary.faults.chunks_lost must be"),
        (["faults", "gremlins"], 1, "summary.faults.gremlins is not part of the contract"),
        (["throughput"], [], "summary.throughput must be an object with the fields steps_per_s"),
        (["games"], {}, "summary.games must be an object with one field for each game"),
        (["frames"], 3, "summary.frames must not be below"),
        (["steps"], {"boxing": 1}, "must name the same games"),
    ],
)
def test_check_names_the_field_that_is_off(path, value, message):
    document = copy.deepcopy(one_game([10.0], 20.0))
    node = document
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    with pytest.raises(ValueError, match=message):
        check_summary(document)


@pytest.mark.parametrize(
    "path",
    [["seed"], ["games", "pong", "kl"], ["games", "pong", "teacher", "episodes"], ["faults"]],
)
def test_check_names_a_field_that_is_missing(path):
    document = copy.deepcopy(one_game([10.0], 20.0))
    node = document
    for key in path[:-1]:
        node = node[key]
    del node[path[-1]]
    with pytest.raises(ValueError, match=rf"summary\.{'.'.join(path)} is missing"):
        check_summary(document)
