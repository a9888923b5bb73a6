"""Runs side by side at the terminal: the same figures as in a report, and as data."""

import csv
import io
import json

import pytest
from recorded_runs import make_run

from launch.compare import CompareOptions, main
from records.run_record import read_run


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Three seeds of one setting, and one run of another."""
    root = tmp_path_factory.mktemp("runs")
    usual = {"num_tests": 3, "num_looks": 4, "with_student": False}
    for seed in (1, 2, 3):
        make_run(root / f"seed{seed}", seed=seed, **usual)
    make_run(root / "sharp", seed=4, options=["--mimic.temperature", "0.5"], **usual)
    return [str(root / name) for name in ("seed1", "seed2", "seed3", "sharp")]


def test_seeds_are_taken_together_and_settings_set_apart(folders, capsys):
    main(folders)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["seed", "sharp"]
    rows = {line.split()[0]: line.split()[1:] for line in lines[1:-1]}
    assert rows["runs"] == ["3", "1"]
    assert rows["mimic.temperature"] == ["0.05", "0.5"]
    assert not [name for name in rows if name.startswith(("seed", "run_dir"))]
    # An interval over seeds, and the spread over the episodes of a single run.
    assert rows["pong"][1].startswith("[")
    assert "+-" in rows["pong"]


def test_json_and_csv_have_the_same_figures(folders, capsys):
    main([*folders, "--json"])
    seeds, sharp = json.loads(capsys.readouterr().out)
    expected = sum(read_run(folder).student("pong").mean for folder in folders[:3]) / 3
    assert seeds["games"]["pong"]["mean"] == pytest.approx(expected)
    assert seeds["games"]["pong"]["low"] <= expected <= seeds["games"]["pong"]["high"]
    assert sharp["games"]["pong"]["low"] is None
    main([*folders, "--csv"])
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    found = {(row["name"], row["game"]): row for row in rows}
    assert float(found["seed", "pong"]["mean"]) == pytest.approx(expected)
    assert found["sharp", "pong"]["mimic.temperature"] == "0.5"


def test_what_cannot_be_compared_is_refused(folders, tmp_path):
    with pytest.raises(ValueError, match="nothing to be compared with"):
        main([folders[0], folders[0]])
    with pytest.raises(ValueError, match="two forms"):
        CompareOptions(runs=("a",), json=True, csv=True)
    with pytest.raises(ValueError, match="no run is named"):
        CompareOptions(runs=())
