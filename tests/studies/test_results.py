"""Figures of a study, by hand from a few recorded tests; and the report that shows them."""

import csv
import json
from pathlib import Path

import pytest

from studies.records import UnitFiles
from studies.report import write_report
from studies.results import Results, read_results
from studies.study import Study

STEPS = (0, 100, 200)


def record(study: Study, folder: Path, scores: dict[tuple[str, int], tuple[float, ...]]) -> Results:
    """Results of a study whose units have recorded these scores of Pong at STEPS."""
    for unit in study.units():
        run = UnitFiles.of(unit, folder).run
        run.mkdir(parents=True, exist_ok=True)
        rows = [
            {
                "seconds": x,
                "steps": x,
                "updates": x,
                "test/pong/mean": y,
                "test/pong/kl": 1 / (x + 1),
            }
            for x, y in zip(STEPS, scores[unit.arm, unit.seed], strict=True)
        ]
        (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_results(study, folder)


@pytest.fixture
def study() -> Study:
    return Study(
        arms={"base": {}, "better": {}}, seeds=[1, 2], measures=["score", "kl"], normalize="none"
    )


SCORES = {
    ("base", 1): (0.0, 2.0, 4.0),
    ("base", 2): (0.0, 4.0, 8.0),
    ("better", 1): (1.0, 9.0, 9.0),
    ("better", 2): (3.0, 3.0, 5.0),
}


def test_figures_of_each_unit_are_those_counted_by_hand(study: Study, tmp_path: Path) -> None:
    results = record(study, tmp_path, SCORES)
    by_unit = {(f.arm, f.seed): f for f in results.figures}

    assert by_unit["better", 1].area == pytest.approx((5.0 + 9.0) / 2)
    assert by_unit["better", 1].jump_start == 1.0
    assert by_unit["base", 2].final == 8.0
    # The base arm ends at (4 + 8) / 2 = 6.
    assert results.thresholds == {"pong": 6.0}
    assert by_unit["base", 1].steps_to_threshold is None
    assert by_unit["base", 2].steps_to_threshold == pytest.approx(150.0)
    assert by_unit["better", 1].steps_to_threshold == pytest.approx(100 * 5 / 8)


def test_differences_are_paired_by_seed_and_pairs_count_wins(study: Study, tmp_path: Path) -> None:
    results = record(study, tmp_path, SCORES)

    difference = results.difference("better", "pong")
    assert difference is not None
    assert difference.value == pytest.approx(((9 - 4) + (5 - 8)) / 2)
    (pair,) = results.improvements()
    assert (pair.arm, pair.other) == ("base", "better")
    # base 4 beats none, 8 beats 5: one of four pairs.
    assert pair.probability.value == pytest.approx(0.25)


def test_arms_without_teachers_are_measured_by_the_teacher_of_the_others(tmp_path: Path) -> None:
    study = Study(
        arms={"scratch": {}, "taught": {}},
        seeds=[1],
        normalize="teacher",
        threshold_of_teacher=0.5,
        thresholds={"breakout": 1.0},
    )
    record(study, tmp_path, {("scratch", 1): (0.0, 4.0, 8.0), ("taught", 1): (0.0, 10.0, 10.0)})
    path = UnitFiles.of(study.units()[1], tmp_path).run / "metrics.jsonl"
    row = {"seconds": 201, "steps": 201, "updates": 201, "test/pong/mean": 10.0}
    with path.open("a") as file:
        file.write(json.dumps(row | {"test/pong/teacher_mean": 12.0}) + "\n")

    results = read_results(study, tmp_path)

    assert results.thresholds == {"pong": 6.0}
    scratch, taught = results.figures
    assert scratch.normalized == pytest.approx((8.0 + 20.7) / (12.0 + 20.7))
    assert scratch.steps_to_threshold == pytest.approx(150.0)
    assert taught.steps_to_threshold == pytest.approx(60.0)


def test_the_report_shows_arms_pairs_and_curves_and_writes_them_as_csv(
    study: Study, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    results = record(study, tmp_path, SCORES)

    page = write_report(results, tmp_path, name="mine").read_text()

    assert "| better | 7.0 [" in page
    assert "| base > better | 25% [" in page
    assert "![score over steps](figures/score.png)" in page
    assert (tmp_path / "figures" / "kl.png").read_bytes().startswith(b"\x89PNG")
    with (tmp_path / "curves.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12
    assert rows[1]["mean"] == "2.0"
    with (tmp_path / "units.csv").open() as file:
        assert {row["final"] for row in csv.DictReader(file)} == {"4.0", "8.0", "9.0", "5.0"}
