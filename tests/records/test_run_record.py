"""Reading a run back: what counts after a resume, and what happens to what is damaged."""

import json

import pytest
from recorded_runs import TEACHER_MEANS, make_run, student_mean, teacher_score

from records.run_dir import RunDir
from records.run_record import read_run


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> RunDir:
    return make_run(tmp_path_factory.mktemp("runs") / "whole", num_tests=3, num_looks=9, seed=4)


def write_rows(run, *rows):
    run.metrics_path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def bare(tmp_path) -> RunDir:
    """A run that has only just begun."""
    return make_run(tmp_path / "bare", num_tests=0, num_looks=0, finish=False, with_student=False)


def test_a_whole_run_is_read_as_it_was_written(run):
    record = read_run(run.path)
    assert (record.games, record.seed, record.notes) == (("pong", "boxing"), 4, ())
    assert record.is_finished
    assert len(record.looks) == 9
    assert [test.steps for test in record.tests["boxing"]] == [6000, 12000, 18000]
    assert record.tests["pong"][-1].figures["mean"] == pytest.approx(
        student_mean("pong", 4, 18000, 18000), rel=1e-6
    )
    assert record.setting("evaluation", "epsilon") == 0.05
    assert record.setting("evaluation", "nonsense") is None


def test_scores_come_from_the_summary(run):
    record = read_run(run.path)
    assert record.student("pong").mean == pytest.approx(student_mean("pong", 4, 18000, 18000))
    assert record.student("pong").episodes == 4
    assert record.teacher("pong").mean == TEACHER_MEANS["pong"]
    assert record.teacher("pong").max == teacher_score("pong").max
    assert record.reference("pong", "random") == -20.7
    assert record.figure("pong", "agreement") == 0.7


def test_without_a_summary_scores_come_from_the_tests(tmp_path):
    run = make_run(tmp_path / "run", num_tests=2, num_looks=4, finish=False, with_student=False)
    record = read_run(run.path)
    assert not record.is_finished
    assert record.student("boxing").mean == pytest.approx(
        student_mean("boxing", 1, 8000, 8000), rel=1e-6
    )
    assert record.teacher("boxing").mean == TEACHER_MEANS["boxing"]
    assert record.teacher("boxing").max is None


def test_what_a_resumed_run_did_again_counts_once(bare):
    write_rows(
        bare,
        {"seconds": 1.0, "steps": 10, "updates": 1},
        {"seconds": 2.0, "steps": 20, "updates": 2},
        {"seconds": 2.5, "steps": 20, "updates": 2, "test/pong/mean": 5.0},
        {"seconds": 3.0, "steps": 30, "updates": 3},
        # The session ended; its checkpoint was from second 1.5.
        {"seconds": 1.6, "steps": 16, "updates": 2},
        {"seconds": 2.6, "steps": 26, "updates": 3, "test/pong/mean": 7.0},
    )
    record = read_run(bare.path)
    assert [row["steps"] for row in record.looks] == [10, 16]
    assert [test.figures["mean"] for test in record.tests["pong"]] == [7.0]


def test_tries_of_a_teacher_are_no_looks_and_no_tests_of_the_student(bare):
    write_rows(
        bare,
        {"seconds": 1.0, "steps": 0, "updates": 0, "teacher/pong/mean": 12.0},
        {"seconds": 2.0, "steps": 10, "updates": 1},
    )
    record = read_run(bare.path)
    assert len(record.looks) == 1
    assert record.tests["pong"] == ()
    assert record.tried_teacher("pong").mean == 12.0
    assert record.tried_teacher("boxing").mean is None


def test_damaged_lines_are_left_out_and_counted(bare):
    good = json.dumps({"seconds": 1.0, "steps": 10, "updates": 1})
    bare.metrics_path.write_text(f"{good}\nnonsense\n[1, 2]\n\xff\n{good}\n", encoding="latin-1")
    record = read_run(bare.path)
    assert len(record.looks) == 2
    assert record.notes == ("3 lines of metrics.jsonl are damaged and were left out",)


def test_values_that_are_no_finite_numbers_are_left_out(bare):
    bare.metrics_path.write_text(
        '{"seconds": 1.0, "steps": 10, "a": null, "b": NaN, "c": Infinity, "d": "x", "e": true, '
        f'"f": 1{"0" * 400}, "g": [1]}}\n'
    )
    assert read_run(bare.path).looks == ({"seconds": 1.0, "steps": 10.0},)


def test_a_damaged_summary_is_noted_and_the_tests_are_used(run, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(run.path, copy)
    (copy / "summary.json").write_text('{"games": ')
    record = read_run(copy)
    assert record.notes == ("summary.json is damaged and was left out",)
    assert record.student("pong").mean is not None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("games: [pong", "is not valid YAML"),
        ("[1, 2]", "is not a run's configuration"),
        ("seed: 1", "names no games"),
        ("games: pong", "names no games"),
    ],
)
def test_a_configuration_that_is_none_is_refused(bare, text, expected):
    bare.config_path.write_text(text)
    with pytest.raises(ValueError, match=expected):
        read_run(bare.path)
