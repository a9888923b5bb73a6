"""launch/evaluate.py: tests by episodes and by steps, and the statistics of recorded tests."""

import json

import pytest
from recorded_runs import TEACHER_MEANS, make_run, student_mean

from launch.evaluate import PAPER_TEST_STEPS, EvaluateOptions, main

NUM_TESTS, NUM_LOOKS = 12, 12
TOTAL = NUM_LOOKS * 2000


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(
        tmp_path_factory.mktemp("runs") / "run", num_tests=NUM_TESTS, num_looks=NUM_LOOKS, seed=2
    )


def answer(capsys, *words):
    main([*map(str, words), "--json"])
    return json.loads(capsys.readouterr().out)["games"]


def lines(capsys, *words):
    main([*map(str, words)])
    return capsys.readouterr().out.splitlines()


# Recorded tests


def test_recorded_tests_give_the_papers_statistics(run, capsys):
    rows = answer(capsys, run.path, "--recorded")
    for game, row in rows.items():
        means = [student_mean(game, 2, 2000 * (k + 1), TOTAL) for k in range(NUM_TESTS)]
        assert row["mean"] == pytest.approx(sum(means[-10:]) / 10, rel=1e-5)
        assert row["best"] == pytest.approx(max(means), rel=1e-6)
        assert (row["averaged"], row["tests"]) == (10, NUM_TESTS)
        assert row["teacher_ratio"] == pytest.approx(row["mean"] / TEACHER_MEANS[game])


def test_the_number_of_recorded_tests_that_are_averaged_can_be_set(run, capsys):
    (line,) = lines(capsys, run.path, "--recorded", "--last", "3", "--games", "boxing")
    assert line.startswith("boxing: ")
    assert "over the last 3 of 12 tests" in line
    assert "% of the teacher's 23.40" in line


def test_a_run_without_recorded_tests_is_refused(tmp_path):
    run = make_run(tmp_path / "run", num_tests=0, num_looks=1, with_student=False)
    with pytest.raises(ValueError, match="has recorded no test yet"):
        main([str(run.path), "--recorded"])


def test_only_a_run_has_recorded_tests(tmp_path):
    with pytest.raises(ValueError, match="not the folder of a run"):
        main([str(tmp_path), "--recorded"])


# Tests by steps


def test_a_test_of_so_many_steps_plays_one_environment_as_in_the_paper(capsys):
    row = answer(capsys, "breakout", "--test-steps", 1200)["breakout"]
    assert (row["test_steps"], row["steps"], row["num_envs"]) == (1200, 1200, 1)
    assert row["frames"] == 4800
    assert row["finished"]
    assert row["episodes"] >= 1


def test_a_smaller_test_than_the_papers_says_so(capsys):
    (line,) = lines(capsys, "breakout", "--test-steps", 900, "--num-envs", 3)
    assert "in a test of 900 steps by 3 environments" in line
    assert "(the paper's: 125,000 steps, one environment)" in line
    assert PAPER_TEST_STEPS == 125_000


def test_a_test_in_which_no_episode_ends_says_so(capsys):
    (line,) = lines(capsys, "pong", "--test-steps", 20)
    assert "over 1 unfinished episodes (none came to its end)" in line


# Whole episodes


def test_a_student_is_compared_with_its_teacher(run, capsys):
    rows = answer(capsys, run.path, "--games", "pong", "--episodes", 1)
    row = rows["pong"]
    assert (row["episodes"], row["test_steps"], row["protocol"]) == (1, None, "classic")
    assert row["teacher"] == 16.32
    assert 0 <= row["agreement"] <= 1
    assert row["teacher_ratio"] == pytest.approx(row["mean"] / 16.32)


def test_a_student_without_its_run_is_tested_too(run, capsys):
    (line,) = lines(capsys, run.student, "--games", "pong", "--test-steps", 30)
    assert line.startswith("pong: ")
    assert "agreement" in line


def test_games_that_a_student_does_not_play_are_refused_before_anything_is_played(run, capsys):
    with pytest.raises(ValueError, match="does not play 'qbert'; it has pong, boxing"):
        main([str(run.path), "--games", "pong", "qbert"])
    assert capsys.readouterr().out == ""


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
        EvaluateOptions(target="x", **changed)


def test_the_usual_test_is_thirty_episodes_in_ten_environments():
    options = EvaluateOptions(target="x")
    assert (options.num_episodes, options.width) == (30, 10)
    assert EvaluateOptions(target="x", episodes=4).width == 4
    assert EvaluateOptions(target="x", test_steps=100).width == 1
