"""A real run, and what its user does with it: report, film, export, tests; each a real command."""

import json

import pytest
from runs import command, run_command

from records.run_record import read_run

pytestmark = pytest.mark.slow

TIMEOUT_S = 240.0


@pytest.fixture(scope="module")
def finished(smoke_options, tmp_path_factory):
    """The smoke preset in one process, with a test now and then; its folder and what it said."""
    pytest.importorskip("matplotlib")
    folder = tmp_path_factory.mktemp("after")
    words = [*smoke_options, "--engine", "local", "--evaluation.period-steps", "600"]
    answer = run_command(
        "multitask.py", *words, "--run-dir", "run", cwd=folder, timeout_s=TIMEOUT_S
    )
    assert (answer.status, answer.errors) == (0, "")
    return folder / "run", answer


def do(script, *words, cwd):
    answer = run_command(script, *words, cwd=cwd, timeout_s=TIMEOUT_S)
    assert answer.status == 0, answer.errors
    return answer


def test_a_run_ends_with_its_report(finished):
    run, answer = finished
    assert f"report: {run / 'report.html'}" in answer.output.splitlines()[-2:]
    page = (run / "report.html").read_text()
    assert page.count("data:image/webp") == 2
    assert "Not finished" not in page
    names = {path.name for path in (run / "report_files").iterdir()}
    assert {"figure_1_pong.png", "figure_6.csv", "film_boxing.webp", "table_1.csv"} <= names


def test_its_record_is_whole(finished):
    run, _ = finished
    record = read_run(run)
    assert record.notes == ()
    assert record.is_finished
    assert len(record.tests["pong"]) >= 2
    assert len({test.updates for test in record.tests["pong"]}) == len(record.tests["pong"])


def test_its_student_is_exported_played_and_tested(finished, tmp_path):
    run, _ = finished
    do("export.py", run, "--out", "exported", cwd=tmp_path)
    card = json.loads((tmp_path / "exported" / "card.json").read_text())
    assert card["games"] == ["pong", "boxing"]
    words = ["--game", "pong", "--steps", "10", "--scale", "1"]
    do("play.py", "exported", *words, cwd=tmp_path)
    assert (tmp_path / "pong.webp").is_file()
    words = ["--games", "pong", "--test-steps", "20", "--json"]
    said = do("evaluate.py", "exported", *words, cwd=tmp_path)
    assert json.loads(said.output)["games"]["pong"]["steps"] == 20
    said = do("evaluate.py", run, "--recorded", cwd=tmp_path)
    assert [line.split()[0] for line in said.output.splitlines()[1:3]] == ["pong", "boxing"]


@pytest.mark.parametrize(
    ("script", "words", "expected"),
    [
        ("multitask.py", ["--games", "pnog"], "unknown game 'pnog'; did you mean 'pong'?"),
        ("multitask.py", ["--resume", "."], "is not the folder of a run"),
        ("report.py", [], "no run is named"),
        ("play.py", ["nowhere", "--game", "pong"], "there is no folder nowhere"),
        ("export.py", [".", "--out", "x"], "nor that of a student"),
        ("evaluate.py", ["nowhere", "--recorded"], "there is no run in nowhere"),
    ],
)
def test_what_a_user_gets_wrong_is_one_line(tmp_path, script, words, expected):
    with command(script, *words, cwd=tmp_path) as running:
        answer = running.wait(120.0)
    assert answer.status == 2
    (line,) = answer.errors.splitlines()
    assert line.startswith("error: ")
    assert expected in line
    assert list(tmp_path.iterdir()) == []
