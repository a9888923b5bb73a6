"""The report of a population: lineage, settings over steps, scores of members and of the line."""

import json

import pytest
import signals
from runs import save_random_expert, teacher_options

from launch.population import main
from records.population import PopulationFiles
from records.run_dir import RunDir
from views.report.population import read_population_view
from views.report.writing import write_report

GAME = signals.GAMES[0].name


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("population")
    save_random_expert(folder, GAME, torso="minatar")
    words = [
        *("--preset", "smoke", "--engine", "local", "--objective", "joint", "--members", "3"),
        *("--games", GAME, "--slice-steps", "64", "--network.torso", "minatar"),
        *("--num-steps", "250", "--actor.num-envs", "2", "--actor.chunk-steps", "8"),
        *("--replay.batch-size", "16", "--replay.min-size-per-game", "40"),
        *("--replay.capacity-per-game", "400", "--evaluation.check-teachers", "0"),
        *("--report-at-end", "False", "--exploit.margin", "0.2"),
    ]
    main([*words, *teacher_options(folder, [GAME]), "--run-dir", str(folder / "run")])
    return folder / "run"


def test_charts_have_every_member_and_the_line_to_the_students_score(run):
    view = read_population_view(run)
    outcome = PopulationFiles(run).read_summary()
    scores, weight, rate = view.charts()
    assert weight.title == "distillation.weight"
    assert rate.title == "learner.learning_rate"
    labels = ["member 0", "member 1", "member 2", "the student's ancestors"]
    for chart in (scores, weight, rate):
        assert [curve.label for curve in chart.curves] == labels
    line = scores.curves[-1]
    assert line.y[-1] == outcome.picked_score
    assert line.x[-1] == outcome.members[str(outcome.student_of)].steps / 1e3
    # Its settings end with those that the student was trained by.
    own = view.records[outcome.student_of].incarnations[-1].settings
    assert rate.curves[-1].y[-1] == own["learner.learning_rate"]
    assert list(line.x) == sorted(line.x)


def test_tables_tell_the_lineage_and_who_was_copied(run):
    view = read_population_view(run)
    lineage, members = view.lineage_table(), view.members_table()
    assert len(lineage.rows) == len(view.line)
    assert lineage.rows[0][1] == "0"
    made = sum(int(row[2]) for row in members.rows)
    assert made == sum(int(row[3]) for row in members.rows)
    assert made > 0
    assert [row[0] for row in members.rows if row[-1] == "the student's"] == [
        f"member {view.student_of}"
    ]


def test_the_page_shows_the_population_and_its_figures_lie_beside_it(run):
    page = write_report([run], film_steps=0)
    text = page.read_text()
    assert 'id="population"' in text
    assert "ancestors" in text
    names = {path.name for path in page.with_name("report_files").iterdir()}
    assert {"population_score.csv", "population_learner.learning_rate.png"} <= names


def test_a_population_that_goes_on_or_has_nothing_yet_is_shown_as_far_as_it_is(run, tmp_path):
    unfinished = tmp_path / "unfinished"
    members = unfinished / "members"
    members.mkdir(parents=True)
    source = RunDir.open_existing(run)
    for name in ("population.yaml", "config.yaml", "meta.json"):
        (unfinished / name).write_bytes((source.path / name).read_bytes())
    assert read_population_view(unfinished) is None
    assert write_report([unfinished], film_steps=0).is_file()
    for number in range(3):
        record = json.loads(PopulationFiles(run).record(number).read_text())
        (members / f"{number}.json").write_text(json.dumps(record))
    view = read_population_view(unfinished)
    best = max(view.records.values(), key=lambda record: record.boundaries[-1].score)
    assert view.student_of == best.member
    assert 'id="population"' in write_report([unfinished], film_steps=0).read_text()
