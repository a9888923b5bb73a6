"""What a user sees, on a terminal and in a log file, and that no terminal ends a run."""

import io
import os
import pty
import re
import sys
import threading
from contextlib import suppress

import pytest

from actors.actor import ActorCounts
from actors.evaluator import EvaluationResult
from games.registry import get_game
from recipes.config import RunConfig
from records.progress import GameProgress, Progress
from records.recorder import Recorder
from records.session_clock import SessionClock
from records.summary import Throughput, build_summary
from replay.config import ReplayConfig
from replay.stats import TableStats
from replay.storage.table import TableCounts
from teachers.card import ScoreRecord
from views.console import Console
from views.console_tables import result_lines

GAMES = ("pong", "boxing")
CONFIG = RunConfig(
    games=GAMES,
    num_steps=6400,
    replay=ReplayConfig(
        batch_size=128,
        samples_per_insert=2.0,
        capacity_per_game=1000,
        min_size_per_game=100,
    ),
)
TEACHER = ScoreRecord(
    mean=20.0, std=1.0, max=21.0, episodes=30, protocol="classic", epsilon=0.05, precision="half"
)
RESULT = EvaluationResult(returns=(14.0, 16.0), steps=50, agreement=0.87, kl=0.25)
HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"


def recorded(tmp_path):
    """What a recorder has to say after two looks and, in pong, a test."""
    now = [0.0]
    with Recorder(
        tmp_path / "metrics.jsonl",
        tmp_path / "tensorboard",
        [get_game(game) for game in GAMES],
        teachers={"pong": TEACHER},
        clock=SessionClock(clock=lambda: now[0]),
    ) as recorder:
        for updates in (0, 1):
            recorder.record(progress(updates))
            now[0] += 10.0
        before_test = dict(recorder.latest)
        recorder.record_evaluation("pong", steps=10, updates=10, result=RESULT)
        return before_test, recorder.latest


def progress(looks):
    return Progress(
        updates=25 * looks,
        games={
            "pong": GameProgress(
                actors=3,
                played=ActorCounts(steps=12_340 * looks, episodes=77 * looks),
                returns=((12.5, 0.1),),
                replay=TableStats(
                    size=250, counts=TableCounts(sampled=3 * looks, inserted=2 * looks)
                ),
            ),
            "boxing": GameProgress(actors=1),
        },
        metrics={"policy_lag": 37.0},
        faults={"actor_restarts": 2} if looks else {},
    )


def summary():
    return build_summary(
        preset="smoke",
        seed=1,
        games=[get_game(game) for game in GAMES],
        wall_seconds=3723.4,
        progress=progress(1),
        throughput=Throughput(),
        students={"pong": RESULT},
        teachers={"pong": TEACHER},
    )


class Terminal:
    """A pseudo-terminal, and what was written to it."""

    def __init__(self):
        self._reading_end, writing_end = pty.openpty()
        self.file = os.fdopen(writing_end, "w")
        self._text = b""
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self):
        while True:
            try:
                data = os.read(self._reading_end, 65_536)
            except OSError:
                # Linux answers so when the other end is closed.
                return
            self._text += data

    def hang_up(self):
        """What a closed window does to a program that ignores SIGHUP."""
        self.file.flush()
        null = os.open(os.devnull, os.O_RDONLY)
        # Writing to what was opened for reading fails, as writing to a lost terminal does.
        os.dup2(null, self.file.fileno())
        os.close(null)

    def close(self):
        """Everything that was written."""
        if not self.file.closed:
            with suppress(OSError):
                self.file.close()
            self._thread.join()
            os.close(self._reading_end)
        return self._text.decode()


@pytest.fixture
def terminal(monkeypatch):
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("LINES", "40")
    terminal = Terminal()
    yield terminal
    terminal.close()


def without_escapes(text):
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)


def line_of(text, game):
    """The last line that begins with this word, its words one space apart."""
    lines = [line.split() for line in without_escapes(text).splitlines()]
    return " ".join([line for line in lines if line[:1] == [game]][-1])


def test_eighty_columns_are_enough_for_every_figure_of_most_games(terminal, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    figures = {
        "actors": 12, "steps_per_second": 1234.5, "episodes": 98_765, "return": 12_345.6,
        "replay_size": 1000, "samples_per_insert": 12.34,
    }  # fmt: skip
    tests = {"mean": 123_456.7, "teacher_mean": 234_567.8, "agreement": 1.0}
    latest = {f"game/pong/{key}": value for key, value in figures.items()}
    latest |= {f"test/pong/{key}": value for key, value in tests.items()}
    latest |= {"wall_seconds": 360_000.0, "updates": 100, "steps": 10_000_000}
    with Console(CONFIG, games=("pong", "space_invaders"), file=terminal.file) as console:
        console.show(latest)
    text = terminal.close()
    assert "100/100 updates (100%)  100:00:00, - left" in without_escapes(text)
    expected = "pong 12 1,234 98,765 12,346 100% 12.34 123,457 234,568 100%"
    assert line_of(text, "pong") == expected
    assert line_of(text, "space_invaders") == "space_invaders - - - - 0% - - - -"


def test_a_terminal_shows_a_row_for_each_game_and_is_restored(tmp_path, terminal):
    _, latest = recorded(tmp_path)
    stdout, stderr = sys.stdout, sys.stderr
    with Console(CONFIG, file=terminal.file) as console:
        console.show(latest)
        console.note("actor of [bold]pong[/bold] restarted")
        console.show(latest)
    assert (sys.stdout, sys.stderr) == (stdout, stderr)
    text = terminal.close()
    assert text.count(HIDE_CURSOR) == text.count(SHOW_CURSOR) == 1
    assert text.index(HIDE_CURSOR) < text.index(SHOW_CURSOR)
    assert "actor of [bold]pong[/bold] restarted" in without_escapes(text)
    assert "25/100 updates (25%)  0:00:10, - left" in without_escapes(text)
    assert "1,234 steps/s" in without_escapes(text)
    assert line_of(text, "pong") == "pong 3 1,234 77 12.5 25% 1.50 15.0 20.0 87%"
    assert line_of(text, "boxing") == "boxing 1 0 0 - 0% - - - -"


def interrupted_run(console):
    with console:
        console.show({})
        raise KeyboardInterrupt


def test_the_terminal_is_restored_when_the_run_fails(terminal):
    stdout = sys.stdout
    console = Console(CONFIG, file=terminal.file)

    with pytest.raises(KeyboardInterrupt):
        interrupted_run(console)
    assert sys.stdout is stdout
    assert terminal.close().count(SHOW_CURSOR) == 1


def test_a_log_file_gets_no_escape_sequences_even_where_colours_are_forced(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    file = io.StringIO()
    with Console(CONFIG, file=file) as console:
        console.show({})
        console.finish(summary())
    assert "\x1b" not in file.getvalue()


def test_a_terminal_that_goes_away_does_not_end_the_run(terminal):
    stdout = sys.stdout
    with Console(CONFIG, file=terminal.file) as console:
        console.show({"updates": 1})
        terminal.hang_up()
        for _ in range(2):
            console.show({"updates": 2})
            console.note("still here")
        console.finish(summary())
    assert sys.stdout is stdout
    with pytest.raises(OSError, match="Bad file descriptor"):
        terminal.file.flush()


def test_a_reader_of_a_pipe_that_goes_away_does_not_end_the_run():
    reading_end, writing_end = os.pipe()
    os.close(reading_end)
    with os.fdopen(writing_end, "w") as file:
        console = Console(CONFIG, file=file)
        console.show({})
        console.note("still here")
        console.finish(summary())
        console.close()
        # So that closing the file does not fail as well.
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, writing_end)
        os.close(null)


def test_a_run_that_has_learned_nothing_yet_shows_no_percentage_below_zero():
    result = summary()
    nothing = dict.fromkeys(("capped_mean", "geometric_mean", "median"), -1.33)
    result["aggregate"] = dict.fromkeys(("teacher_normalized", "teacher_ratio"), nothing)
    assert result_lines(result)[:-1] == ["not above random play yet: it has learned too little"]


@pytest.mark.parametrize("kind", ["terminal", "file"])
def test_the_result_compares_every_student_with_its_teacher(kind, terminal):
    file = terminal.file if kind == "terminal" else io.StringIO()
    with Console(CONFIG, file=file) as console:
        console.show({"updates": 100})
        console.finish(summary())
    written = terminal.close()
    text = written if kind == "terminal" else file.getvalue()
    # Random play scores -20.7 in Pong: (15 + 20.7) / (20 + 20.7).
    sign = "\u00b1" if kind == "terminal" else "+-"
    assert line_of(text, "pong") == f"pong 15.0 {sign} 1.0 20.0 {sign} 1.0 88% 87%"
    assert line_of(text, "boxing") == "boxing - - - -"
    assert "teacher-normalized: capped mean 88%, geometric mean 88%, median 88%" in without_escapes(
        text
    )
    assert "student / teacher: capped mean 75%" in without_escapes(text)
    assert "1:02:03: 12,340 steps (49,360 frames), 25 updates" in without_escapes(text)
    if kind == "terminal":
        assert text.rindex(SHOW_CURSOR) < text.rindex("teacher-normalized: capped")
