"""What the live page knows of a population: members, settings, the best one's ancestors."""

import pytest
from recorded_runs import make_run

from records.population import (
    Boundary,
    Ending,
    Incarnation,
    MemberRecord,
    Parent,
    PopulationFiles,
    PopulationSummary,
)
from records.run_dir import RunDir
from views.live.source import RunSource
from views.live.view import describe

RATE = "learner.learning_rate"


def member(number, score, *, parent=None):
    settings = {RATE: 0.1 * (number + 1)}
    first = Incarnation(number=0, parent=None, steps=0, updates=0, settings=settings)
    later = Incarnation(number=1, parent=parent, steps=90, updates=9, settings=settings)
    boundary = Boundary(
        number=1, steps=90, updates=9, incarnation=0, score=score, means={}, episodes=1, digest=""
    )
    return MemberRecord(
        member=number, incarnations=(first, later) if parent else (first,), boundaries=(boundary,)
    )


@pytest.fixture
def files(tmp_path):
    run = RunDir.create(tmp_path / "run", preset="", config_text="games: [pong]\n", seed=1)
    files = PopulationFiles(run.path)
    files.settings.write_text("members: 2\n")
    make_run(files.member(0), finish=False)
    return files


def seen(path):
    return describe(RunSource(RunDir.open_existing(path)).look())


def test_a_population_is_seen_from_its_folder_and_from_its_members(files):
    assert seen(files.run)["population"] is None  # Nothing is recorded yet.
    parent = Parent(member=0, incarnation=0, updates=9)
    files.write_record(member(0, 0.25))
    files.write_record(member(1, 0.5, parent=parent))
    for path in (files.run, files.member(0)):
        population = seen(path)["population"]
        assert [m["score"] for m in population["members"]] == [0.25, 0.5]
        assert [m["copies"] for m in population["members"]] == [0, 1]
        assert [m["is_best"] for m in population["members"]] == [False, True]
        assert population["members"][1]["settings"] == {RATE: 0.2}
        assert population["line"] == [{"member": 0, "steps": 0}, {"member": 1, "steps": 90}]


def test_an_ended_population_is_shown_as_it_ended(files):
    files.write_record(member(0, 0.25))
    files.write_record(member(1, 0.5))
    ends = {"0": Ending(score=0.75, steps=90), "1": Ending(score=None, steps=90, lost="diverged")}
    files.write_summary(
        PopulationSummary(
            members=ends, normalize="teacher", student_of=0, picked="best", picked_score=0.75,
            confirmed_score=0.7, ancestry=(), steps=180, wall_seconds=1.0, tuned=(RATE,),
        )
    )  # fmt: skip
    population = seen(files.run)["population"]
    assert [m["score"] for m in population["members"]] == [0.75, None]
    assert [m["is_best"] for m in population["members"]] == [True, False]
    assert population["line"] == [{"member": 0, "steps": 0}]


def test_a_population_goes_on_while_its_members_write(files):
    assert seen(files.run)["state"] == "training"


def test_a_run_by_itself_is_no_population(tmp_path):
    assert seen(make_run(tmp_path / "alone").path)["population"] is None
