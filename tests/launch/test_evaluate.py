"""launch/evaluate.py: tests by episodes and by steps, and the statistics of recorded tests."""

import json
import re

import pytest
from recorded_runs import TEACHER_MEANS, make_run, student_mean

from games.registry import get_game
from launch.evaluate import EvaluateOptions, main
from recipes.ranges import check_ranges
from records.run_statistics import estimate
from views.evaluation import describe_epoch

GAMES = ("pong", "boxing")
NUM_TESTS, NUM_LOOKS = 12, 12
TOTAL = NUM_LOOKS * 2000
RULES = ("--evaluation.num-episodes", "4", "--evaluation.period-steps", "2000")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(
        tmp_path_factory.mktemp("runs") / "run", num_tests=NUM_TESTS, num_looks=NUM_LOOKS, seed=2,
        options=RULES,
    )  # fmt: skip


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    """Folders of three runs that differ in their seed alone."""
    root = tmp_path_factory.mktemp("seeds")
    usual = {"num_tests": NUM_TESTS, "num_looks": NUM_LOOKS, "with_student": False}
    return [make_run(root / f"seed{seed}", seed=seed, **usual).path for seed in (1, 2, 3)]


def document(capsys, *words):
    main([*map(str, words), "--json"])
    return json.loads(capsys.readouterr().out)


def answer(capsys, *words):
    return document(capsys, *words)["games"]


def means_of(game, seed):
    return [student_mean(game, seed, 2000 * (k + 1), TOTAL) for k in range(NUM_TESTS)]


def normalized(game, score, high):
    random = get_game(game).random_score
    return (score - random) / (high - random)


def lines(capsys, *words):
    main([*map(str, words)])
    return capsys.readouterr().out.splitlines()


def table(text):
    """Rows of a printed table by game, its cells by their headings; two spaces part columns."""
    head, *rows = [
        re.split(r"\s{2,}", line) for line in text if not re.match(r"\S+( \S+)*: |\*", line)
    ]
    assert all(len(row) == len(head) for row in rows)
    return {row[0]: dict(zip(head, row, strict=True)) for row in rows}


# Recorded tests


def test_recorded_tests_give_the_papers_statistics(run, capsys):
    rows = answer(capsys, run.path, "--recorded", "--last", 3)
    for game, row in rows.items():
        means = means_of(game, seed=2)
        assert row["mean"] == pytest.approx(sum(means[-3:]) / 3, rel=1e-5)
        assert row["best_of_last"] == pytest.approx(max(means[-3:]), rel=1e-6)
        assert row["best"] == pytest.approx(max(means), rel=1e-6)
        assert (row["averaged"], row["tests"], row["runs"]) == (3, NUM_TESTS, 1)


def test_several_seeds_give_means_over_runs_and_intervals_over_all_games(seeds, capsys):
    told = document(capsys, *seeds, "--recorded")
    scores = {}
    for game in GAMES:
        ends = [sum(means_of(game, seed)[-10:]) / 10 for seed in (1, 2, 3)]
        bests = [max(means_of(game, seed)) for seed in (1, 2, 3)]
        row = told["games"][game]
        assert row["mean"] == pytest.approx(sum(ends) / 3, rel=1e-5)
        assert row["best"] == pytest.approx(sum(bests) / 3, rel=1e-5)
        assert row["runs"] == 3
        scores[game] = [normalized(game, end, TEACHER_MEANS[game]) for end in ends]
    expected = estimate(scores, "iqm")
    found = told["aggregate"]["teacher_normalized"]
    assert found["iqm"] == pytest.approx(expected.value, rel=1e-5)
    assert found["low"] == pytest.approx(expected.low, rel=1e-5)
    assert found["high"] == pytest.approx(expected.high, rel=1e-5)
    assert found["runs"] == 3
    printed = lines(capsys, *seeds, "--recorded")
    over_games = printed[4:]
    assert table(printed)["pong"]["tests"] == "10 of 12"
    assert table(printed)["pong"]["runs"] == "3"
    pattern = r"interquartile mean, .*: \d+\.\d% \[\d+\.\d%, \d+\.\d%\], 95% interval over 3 runs"
    assert len(over_games) == 3
    assert all(re.match(pattern, line) for line in over_games)


# Tests by steps


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, "125,000 steps as in the paper"),
        ({"test_steps": 900}, "900 steps (the paper's: 125,000 steps)"),
        (
            {"num_envs": 3},
            "125,000 steps by 3 environments (the paper's: one environment)",
        ),
        (
            {"protocol": "modern"},
            "125,000 steps, protocol modern (the paper's: protocol classic)",
        ),
        ({"epsilon": 0.2}, "125,000 steps, epsilon 0.2 (the paper's: epsilon 0.05)"),
        (
            {"protocol": "modern", "epsilon": 0.0},
            "125,000 steps, protocol modern, epsilon 0 (the paper's: protocol classic, epsilon "
            "0.05)",
        ),
    ],
)
def test_a_test_is_the_papers_only_if_nothing_of_it_differs(changed, expected):
    paper = {"test_steps": 125_000, "num_envs": 1, "protocol": "classic", "epsilon": 0.05}
    assert describe_epoch(paper | changed) == expected


# Whole episodes


def test_a_student_is_compared_with_its_teacher(run, capsys):
    rows = answer(capsys, run.path, "--games", "pong", "--episodes", 1)
    row = rows["pong"]
    assert (row["episodes"], row["test_steps"], row["protocol"]) == (1, None, "classic")
    assert row["teacher"] == 16.32
    assert 0 <= row["agreement"] <= 1
    assert row["teacher_ratio"] == pytest.approx(row["mean"] / 16.32)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"test_steps": 0}, "test_steps must be at least 1, got 0"),
        ({"test_steps": 5, "episodes": 5}, "exclude each other"),
        ({"recorded": True, "episodes": 5}, "recorded plays nothing"),
        ({"last": 0}, "last must be at least 1"),
        ({"seed": -1}, "seed must not be negative"),
        ({"protocol": "moden"}, "unknown protocol 'moden'"),
    ],
)
def test_options_that_make_no_sense_are_refused(changed, expected):
    with pytest.raises(ValueError, match=expected):
        check_ranges(EvaluateOptions(targets=("x",), **changed))
