"""The benchmarks: their arithmetic, and the line of JSON that each ends with."""

import json
import math
from contextlib import ExitStack

import numpy as np
import pytest

from benchmarks import acting
from benchmarks.options import BenchOptions
from benchmarks.replay.play import endless_play
from benchmarks.setup import play, prepare, without_pacing
from benchmarks.timing import (
    MIN_ROUNDS,
    Result,
    Window,
    measure_rounds,
)
from launch.bench import main
from recipes.roles import build_shard
from teachers.shipped import shipped_experts

GAME = "pong"


def run_bench(capsys, benchmark, *options):
    """The report of a benchmark with the smoke preset, from the last line that it prints."""
    main([benchmark, "--preset", "smoke", "--games", GAME, *options])
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def check_contract(report, benchmark):
    assert report["benchmark"] == benchmark
    assert report["measured"] > 0
    assert report["bound"] > 0
    assert report["ratio"] == pytest.approx(report["measured"] / report["bound"], rel=1e-3)
    assert report["rounds"] >= MIN_ROUNDS
    assert report["teachers"] == ("shipped" if GAME in shipped_experts() else "random")
    assert report["settings"]["games"] == [GAME]
    assert "cores" in report["hardware"]
    assert report["versions"]["torch"]


def result(**overrides):
    fields = {
        "measured": 60.0,
        "bound": 80.0,
        "unit": "steps/s",
        "target": 0.8,
        "parts": {},
        "rounds": 3,
    }
    return Result(**(fields | overrides))


class FakeClock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.mark.parametrize("field", ["measured", "bound"])
@pytest.mark.parametrize("value", [0.0, math.nan, math.inf])
def test_figures_that_cannot_be_are_refused(field, value):
    with pytest.raises(ValueError, match=f"{field} = .*measure longer with --seconds"):
        result(**{field: value})


def test_parts_take_turns_until_the_time_is_over_and_the_first_round_does_not_count():
    clock = FakeClock()
    order = []

    def part(name, seconds):
        def run():
            order.append(name)
            clock.now += 1.0
            # What warming up takes must not show.
            return Window(100.0 if len(order) <= 2 else seconds, 2)

        return run

    rounds = measure_rounds({"a": part("a", 1.0), "b": part("b", 5.0)}, seconds=9.0, clock=clock)
    assert order == ["a", "b"] * 6
    assert rounds == {"a": [0.5] * 5, "b": [2.5] * 5}


def test_repeated_play_goes_on_where_its_streams_were():
    with ExitStack() as stack:
        options = BenchOptions(benchmark="replay", preset="smoke", games=(GAME,), num_envs=8)
        recipe = without_pacing(prepare(options, stack).recipe)
        shard = build_shard(recipe)
        game = endless_play(play(recipe, GAME, serial=3), serial=0)
    reached = np.zeros(8, np.int64)
    num_entries = 0
    while num_entries < 2_500:  # More than are played, and more than fit.
        chunk = next(game)
        assert chunk.first_steps.tolist() == reached.tolist()
        assert shard.add(chunk)
        reached += chunk.lengths
        num_entries += chunk.num_entries
    shard.check_valid()
    assert shard.stats().tables[GAME].size == 2_000
    assert shard.sample() is not None


def test_a_benchmark_that_fails_ends_the_command_with_status_1(capsys, monkeypatch):
    failed = result(further={"passed": False}, table="a table")
    monkeypatch.setattr(acting, "run", lambda setup: failed)
    with pytest.raises(SystemExit) as ended:
        main(["actor", "--preset", "smoke"])
    assert ended.value.code == 1
    lines = capsys.readouterr().out.splitlines()
    assert "a table" in lines
    assert json.loads(lines[-1])["ratio"] == 0.75


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["actor", "--games", "pnog"], "pnog"),
        (["actor", "--num-envs", "-1"], "num_envs must not be negative"),
        (["actor", "--preset", "nothing"], "unknown preset"),
        (["walking"], "walking"),
        (["replay", "--peers-python", "/no/python"], "/no/python is not a program"),
    ],
)
def test_mistakes_are_named(words, message):
    with pytest.raises(ValueError, match=r".") as refused:
        main(words)
    assert message in str(refused.value)


def test_acting_is_compared_with_its_three_parts(capsys):
    report = run_bench(capsys, "actor", "--seconds", "0.1", "--num-envs", "4")
    check_contract(report, "actor")
    parts = report["parts"]
    alone = sum(parts[f"{name}_s_per_step"] for name in ("environment", "student", "teacher"))
    assert report["unit"] == "steps/s"
    assert report["target"] == 0.8
    assert report["bound"] == pytest.approx(1 / alone, rel=1e-3)
    assert report["measured"] == pytest.approx(1 / parts["collect_s_per_step"], rel=1e-3)
    assert report["settings"]["num_envs"] == 4


def test_learning_is_compared_with_an_update_alone(capsys):
    report = run_bench(capsys, "learner", "--seconds", "0.1", "--batch-size", "16")
    check_contract(report, "learner")
    parts = report["parts"]
    per_update = parts["update_s"] + parts["publish_s"] / parts["updates_between_publications"]
    assert report["unit"] == "samples/s"
    assert report["target"] == 0.8
    assert report["settings"]["batch_size"] == 16
    assert parts["updates_between_publications"] == 10
    assert report["measured"] == pytest.approx(16 / per_update, rel=1e-3)
    assert report["bound"] == pytest.approx(16 / parts["core_s"], rel=1e-3)


@pytest.mark.ray
@pytest.mark.redis
@pytest.mark.slow
def test_the_system_is_compared_with_the_work_of_its_roles(capsys):
    report = run_bench(capsys, "system", "--seconds", "3")
    check_contract(report, "system")
    parts = report["parts"]
    per_step = (
        parts["act_cpu_s_per_step"]
        + 2.0 * (parts["learn_cpu_s_per_sample"] + parts["gather_cpu_s_per_sample"])
        + parts["insert_cpu_s_per_step"]
    )
    assert report["unit"] == "steps/s"
    assert report["target"] == 0.6
    assert report["bound"] == pytest.approx(parts["cores"] / per_step, rel=1e-3)
    spent = sum(parts[f"{role}_cpu_s_per_step"] for role in ("actors", "learner", "shards", "rest"))
    assert parts["spent_cpu_s_per_step"] == pytest.approx(spent, rel=1e-3)
    assert parts["spent_cpu_s_per_step"] * report["measured"] == pytest.approx(
        parts["cores_used"], rel=1e-3
    )
