"""Curves of a run: what is written while it goes on, and what a resumed run did again."""

import json

import pytest

from views.live import history as page_history
from views.live.history import History


def row(seconds, **values):
    return {"seconds": float(seconds), "steps": 10.0 * seconds, **values}


def write(path, rows, mode="a"):
    with path.open(mode) as file:
        for entry in rows:
            file.write(json.dumps(entry) + "\n")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "metrics.jsonl"


def test_only_what_is_new_is_read_and_a_half_written_line_waits(path):
    write(path, [row(1), row(2)])
    history = History(path)
    history.read_file()
    with path.open("a") as file:
        file.write('{"seconds": 3.0, "st')
    history.read_file()
    assert [look["seconds"] for look in history.looks] == [1, 2]
    with path.open("a") as file:
        file.write('eps": 30.0}\n')
    history.read_file()
    assert [look["seconds"] for look in history.looks] == [1, 2, 3]


def test_what_a_resumed_run_does_again_replaces_what_it_did_before(path):
    write(path, [row(1), row(2), row(3), row(2.5, again=1.0), row(4)])
    history = History(path)
    history.read_file()
    assert [look["seconds"] for look in history.looks] == [1, 2, 2.5, 4]
    assert history.latest["again"] == 1.0


def test_a_resumed_run_does_not_show_the_speed_of_its_earlier_session():
    history = History(None)
    fast = {"updates_per_second": 9.0, "seconds_left": 60.0, "game/pong/steps_per_second": 7.0}
    history.add([row(1), row(2, td_loss=0.5, **fast), row(1.5)])
    assert history.latest == row(1.5, td_loss=0.5)


def test_memory_is_bounded_and_the_newest_rows_stay_whole():
    history = History(None, max_rows=100)
    history.add(row(second) for second in range(5_000))
    history.add([row(5_000)])
    assert len(history.looks) <= 101
    seconds = [look["seconds"] for look in history.looks]
    assert seconds == sorted(seconds)
    assert seconds[-1] == 5_000


def test_a_long_file_is_read_at_places_over_all_of_it_with_every_test(path, monkeypatch):
    monkeypatch.setattr(page_history, "_READ_WHOLE_BYTES", 100_000)
    monkeypatch.setattr(page_history, "_NUM_SAMPLES", 50)
    monkeypatch.setattr(page_history, "_TAIL_BYTES", 1_000)
    rows = [row(second, padding=1.0) for second in range(5_000)]
    rows.insert(1234, row(1233.5) | {"test/pong/mean": 7.0})
    write(path, rows)
    history = History(path)
    history.read_file()
    seconds = [look["seconds"] for look in history.looks]
    assert 40 <= len(seconds) <= 90
    assert seconds == sorted(seconds)
    assert seconds[0] < 200
    assert seconds[-1] == 4_999
    assert [test["test/pong/mean"] for test in history.tests] == [7.0]
    write(path, [row(5_000)])
    history.read_file()
    assert history.looks[-1]["seconds"] == 5_000
