"""Time of a run that is stopped and goes on."""

from records.session_clock import SessionClock, last_wall_seconds


def session(started, now, **earlier):
    return SessionClock(started=started, clock=lambda: now, **earlier)


def test_wall_seconds_hold_what_was_lost_after_the_checkpoint():
    # Killed after 716 s, 58 s after its last checkpoint; the second session takes 93 s.
    again = session(1000.0, 1093.0, counted_s=658.0, wall_s=716.0)
    assert again.seconds == 751.0
    assert again.wall_seconds == 809.0


def test_a_checkpoint_that_is_newer_than_the_last_row_counts():
    again = session(0.0, 1.0, counted_s=60.0, wall_s=59.5)
    assert again.wall_seconds == 61.0


def test_the_time_of_all_sessions_is_read_back_whatever_else_the_file_holds(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert last_wall_seconds(path) == 0.0
    path.write_bytes(
        b'{"seconds": 700.0, "wall_seconds": 716.0}\n'
        b'{"seconds": 716.5, "steps": 3}\n\xff\n[]\n'
        b'{"seconds": 660.0, "wall_seconds": 720.0}\n{"seconds": 66'
    )
    assert last_wall_seconds(path) == 720.0


def test_the_last_summary_has_what_came_after_the_last_row(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"seconds": 700.0, "wall_seconds": 716.0}\n')
    assert last_wall_seconds(path, {"wall_seconds": 960.5}) == 960.5
    # Written by a session before the one that was killed.
    assert last_wall_seconds(path, {"wall_seconds": 300.0}) == 716.0


def test_of_a_long_file_only_the_end_is_read(tmp_path):
    path = tmp_path / "metrics.jsonl"
    row = b'{"seconds": %d, "wall_seconds": %d}\n'
    path.write_bytes(b"".join(row % (n, n) for n in range(60_000)))
    assert last_wall_seconds(path) == 59_999
