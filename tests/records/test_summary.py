"""summary.json: the contract's keys, and figures worked out by hand."""

import json
import math
from pathlib import Path

import pytest

from actors.actor import ActorCounts
from actors.evaluator import EvaluationResult
from games.spec import GameSpec
from records.documents import parse
from records.progress import GameProgress, Progress
from records.summary import Summary, Throughput, build_summary, schema
from replay.stats import TableStats
from replay.storage.table import TableCounts
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


def progress(steps, *, overwritten=0, **fields):
    table = TableCounts(sampled=20, inserted=10, overwritten_unsampled=overwritten)
    games = {
        name: GameProgress(played=ActorCounts(steps=count), replay=TableStats(counts=table))
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
    Summary.model_validate(document)
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
            faults={
                "actor_restarts": 2,
                "updates_lost": 0,
                "chunks_lost": 3,
                "transitions_lost": 5,
                "inference_restarts": 1,
                "redis_restarts": 2,
            },
            overwritten=4,
        ),
        throughput=Throughput(
            steps_per_second=640.0,
            samples_per_second=1280.0,
            updates_per_second=10.0,
            samples_per_insert=2.0,
            policy_lag_mean=37.0,
        ),
        learned={
            "entropy": 2.0,
            "game/pong/entropy": 0.5,
            "game/pong/distillation_weight_2": 0.25,
            "game/pong/value_loss": float("nan"),
            "game/boxing/entropy": 1.0,
        },
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
                "teacher": {
                    "mean": 20.0,
                    "std": 1.5,
                    "max": 22.0,
                    "episodes": 30,
                    "source": "card",
                },
                "student": {"mean": 10.0, "std": 2.0, "max": 12.0, "episodes": 2},
                "random": -20.0,
                "human": 14.0,
                "teacher_ratio": 0.5,
                "teacher_normalized": 0.75,
                "human_normalized": pytest.approx(30 / 34),
                "agreement": 0.75,
                "kl": 0.25,
                "learning": {"entropy": 0.5, "distillation_weight_2": 0.25},
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
            "inference_restarts": 1,
            "redis_restarts": 2,
            "redis_reconnects": 0,
            "updates_lost": 0,
            "chunks_lost": 3,
            "transitions_lost": 5,
            "transitions_overwritten_unsampled": 4,
        },
    }
    assert json.loads(json.dumps(document, allow_nan=False)) == document


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


def test_a_teacher_without_a_score_on_its_card_has_the_one_that_the_run_saw():
    document = summarize(
        [spec("pong"), spec("boxing")],
        {"pong": student(10.0), "boxing": student(10.0)},
        {"pong": None, "boxing": teacher(40.0)},
        tried_teachers={"pong": student(15.0, 25.0), "boxing": student(1.0)},
    )
    pong, boxing = document["games"]["pong"], document["games"]["boxing"]
    assert pong["teacher"] == {
        "mean": 20.0, "std": 5.0, "max": 25.0, "episodes": 2, "source": "run"
    }  # fmt: skip
    assert (pong["teacher_ratio"], pong["teacher_normalized"]) == (0.5, 0.5)
    assert (boxing["teacher"]["mean"], boxing["teacher"]["source"]) == (40.0, "card")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["wall_seconds"], math.nan, "wall_seconds: Input should be"),
        (["seed"], None, "seed: Input should be a valid integer"),
        (["updates"], True, "updates: Input should be a valid integer"),
        (["steps", "pong"], 1.5, "steps.pong: Input should be a valid integer"),
        (["games", "pong", "agreement"], 1.2, "games.pong.agreement: Input should be less than"),
        (["games", "pong", "teacher", "source"], "me", "source: Input should be 'card' or 'run'"),
        (["faults", "gremlins"], 1, "faults.gremlins: Extra inputs are not permitted"),
        (["frames"], 3, "summary.json: Value error, frames must not be below the sum of steps"),
        (["steps"], {"boxing": 1}, "steps and games must name the same games"),
    ],
)
def test_a_mistake_in_a_summary_is_one_line_that_names_the_field(path, value, message):
    document = one_game([10.0], 20.0)
    node = document
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    with pytest.raises(ValueError, match=message) as refused:
        parse(Summary, json.dumps(document), what="summary.json")
    assert "\n" not in str(refused.value)


def test_the_schema_in_the_docs_is_that_of_the_models():
    path = Path(__file__).parents[2] / "docs" / "summary.schema.json"
    assert path.read_text() == schema(), f"run: python -m records.summary > {path}"
