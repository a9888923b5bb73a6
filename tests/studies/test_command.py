"""launch/study.py: mistakes, the plan, and one whole small study."""

import shutil
from pathlib import Path

import pytest

from launch import study as command
from studies.records import UnitFiles
from studies.study import read_study


def test_the_plan_names_units_options_and_cost_and_starts_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command.main(["smoke", "--dry-run", "--out", str(tmp_path / "out")])

    said = capsys.readouterr().out
    assert "uniform/all: seeds 1 (0 done), 1,000 steps each" in said
    assert "--replay.sampler proportional" in said
    assert "2 units, 2,000 steps in all" in said
    assert "at 100 steps/s a unit, about 0:00:20" in said
    assert not (tmp_path / "out").exists()


def test_a_wrong_option_in_the_last_arm_is_found_before_anything_runs(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("arms: {a: {}, b: {nmu-steps: 3}}\nseeds: [1]\n")
    with pytest.raises(ValueError, match=r"^arm b: .*nmu-steps"):
        command.main([str(path), "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot make the study's folder"):
        command.main(["smoke", "--out", str(tmp_path / "file")])


@pytest.mark.slow
def test_a_study_runs_to_its_report_and_has_nothing_left_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command.main(["smoke", "--out", str(out), "--jobs", "2"])

    page = (out / "report.md").read_text()
    assert "2 units of `multitask`: 2 done" in page
    assert "| boxing |" in page
    capsys.readouterr()

    command.main(["smoke", "--out", str(out)])
    assert "begins" not in capsys.readouterr().out

    # A unit whose record is lost is a run that was cut off: it goes on and ends at once.
    unit = read_study("smoke")[1].units()[0]
    files = UnitFiles.of(unit, out)
    files.run.with_name("1.json").unlink()
    shutil.rmtree(files.run / "tensorboard", ignore_errors=True)
    command.main(["smoke", "--out", str(out)])
    assert f"{unit.name}: goes on" in capsys.readouterr().out
