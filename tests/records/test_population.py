"""Records of a population: lines of ancestors, their metrics, and files that are replaced whole."""

import json

import pytest

from records.population import (
    Boundary,
    Incarnation,
    MemberRecord,
    Parent,
    PopulationFiles,
    ancestral_rows,
    ancestry,
    replace_by_link,
)


def incarnation(number, updates, parent=None):
    return Incarnation(
        number=number,
        parent=Parent(member=parent[0], incarnation=parent[1], updates=parent[2])
        if parent
        else None,
        steps=10 * updates,
        updates=updates,
        settings={"learner.learning_rate": 0.1 * (number + 1)},
    )


def boundary(number, updates, of, score):
    return Boundary(
        number=number,
        steps=10 * updates,
        updates=updates,
        incarnation=of,
        score=score,
        means={"pong": score},
        episodes=1,
        digest="",
    )


@pytest.fixture
def files(tmp_path):
    """Member 0 copies 1 at 20 updates and changes at 40; 1 was copied at 25, then changed."""
    files = PopulationFiles(tmp_path)
    for number in (0, 1):
        files.member(number).mkdir(parents=True)
        rows = [
            {"seconds": 100.0 * number + n, "steps": 100 * n, "updates": 10 * n, "member": number}
            for n in range(1, 7)
        ]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (files.member(number) / "metrics.jsonl").write_text(text)
    first = incarnation(0, 0)
    files.write_record(
        MemberRecord(
            member=0,
            incarnations=(first, incarnation(1, 20, (1, 0, 25)), incarnation(2, 40, (0, 1, 40))),
            boundaries=(boundary(1, 20, 0, 0.1), boundary(2, 40, 1, 0.9)),
        )
    )
    files.write_record(
        MemberRecord(
            member=1,
            incarnations=(first, incarnation(1, 25, (1, 0, 25))),
            boundaries=(boundary(1, 25, 0, 0.5),),
        )
    )
    return files


def test_a_line_of_ancestors_ends_each_part_where_the_next_went_on_from_it(files):
    line = ancestry(files.read_records(), 0)
    assert [(s.member, s.incarnation.number, s.end) for s in line] == [
        (1, 0, 25),
        (0, 1, 40),
        (0, 2, None),
    ]


def test_metrics_along_a_line_are_those_of_each_ancestor_with_one_clock(files):
    rows = list(ancestral_rows(files, ancestry(files.read_records(), 0)))
    assert [(row["member"], row["updates"]) for row in rows] == [
        (1, 10), (1, 20), (0, 30), (0, 40), (0, 50), (0, 60),
    ]  # fmt: skip
    seconds = [row["seconds"] for row in rows]
    assert seconds == sorted(seconds)
    assert seconds[-1] == seconds[1] + 3.0


def test_a_line_whose_ancestor_is_missing_begins_later(files):
    files.record(1).unlink()
    line = ancestry(files.read_records(), 0)
    assert [(s.member, s.incarnation.number) for s in line] == [(0, 1), (0, 2)]


def test_a_damaged_record_is_left_out_by_others_and_told_to_its_owner(files):
    files.record(1).write_text('{"member": 1, "incarna')
    assert list(files.read_records()) == [0]
    with pytest.raises(ValueError, match=r"1\.json"):
        files.read_record(1)


def test_a_file_that_is_kept_stays_as_it_was_when_the_original_is_replaced(tmp_path):
    source, kept = tmp_path / "source", tmp_path / "kept"
    source.write_text("old")
    replace_by_link(source, kept)
    newer = tmp_path / "newer"
    newer.write_text("new")
    newer.replace(source)
    assert kept.read_text() == "old"
    replace_by_link(source, kept)
    assert kept.read_text() == "new"
    assert {path.name for path in tmp_path.iterdir()} == {"source", "kept"}


def test_a_member_without_a_record_has_no_ancestors():
    assert ancestry({}, 0) == []


def test_a_record_of_nothing_is_damaged(tmp_path):
    files = PopulationFiles(tmp_path)
    files.record(0).parent.mkdir()
    files.record(0).write_text('{"member": 0, "incarnations": []}')
    with pytest.raises(ValueError, match=r"0\.json"):
        files.read_record(0)
    assert files.read_records() == {}
