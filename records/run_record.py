"""Reads the folder of a run back, finished or not: what was asked for and what was measured.

For reports: it takes what is there, whatever version of this program wrote it, and notes what is
missing or damaged instead of failing. docs/metrics.md explains the keys.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from games.registry import get_game
from records.run_dir import RunDir

Row: TypeAlias = dict[str, float]
Document: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class RecordedTest:
    """One test of one game: figures of the weights that had seen so many steps."""

    # Since the run began, when the test was written down.
    seconds: float | None
    # Of the run, all games together, when the weights were taken.
    steps: float | None
    updates: float | None
    # By the last part of their keys: mean, std, max, episodes, agreement, ...
    figures: Row


@dataclass(frozen=True, slots=True)
class Scores:
    """Raw scores of a network's episodes; None for what is not known."""

    mean: float | None = None
    std: float | None = None
    max: float | None = None
    episodes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """What is known of one run."""

    path: Path
    meta: Document
    # As in config.yaml, not checked.
    config: Document
    games: tuple[str, ...]
    # None for a run that has not reached its end.
    summary: Document | None
    # Oldest first; finite numbers only.
    looks: tuple[Row, ...]
    # By game, oldest first; a game that the run does not have is not in it.
    tests: Mapping[str, tuple[RecordedTest, ...]]
    # Of the teachers, when the run tried them by its own protocol.
    teacher_tests: Mapping[str, tuple[RecordedTest, ...]]
    # What could not be read.
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Name of the run's folder."""
        return self.path.name

    @property
    def seed(self) -> int | None:
        """None if neither file says."""
        for document in (self.config, self.meta):
            if isinstance(seed := document.get("seed"), int):
                return seed
        return None

    @property
    def is_finished(self) -> bool:
        """Whether there is a summary; an interrupted run has one, too."""
        return self.summary is not None

    def setting(self, *path: str) -> Any:
        """A value of config.yaml, None where there is none."""
        return _dig(self.config, path)

    def student(self, game: str) -> Scores:
        """The last test's scores."""
        found = _scores(_dig(self.summary, ("games", game, "student")))
        return found or _newest_scores(self.tests.get(game, ()))

    def teacher(self, game: str) -> Scores:
        """From the teacher's card, as the summary or the tests have it."""
        if scores := _scores(_dig(self.summary, ("games", game, "teacher"))):
            return scores
        tests = reversed(self.tests.get(game, ()))
        means = (test.figures["teacher_mean"] for test in tests if "teacher_mean" in test.figures)
        return Scores(mean=next(means, None))

    def tried_teacher(self, game: str) -> Scores:
        """What the run itself saw the teacher score, newest try."""
        return _newest_scores(self.teacher_tests.get(game, ()))

    def figure(self, game: str, name: str) -> float | None:
        """Agreement or KL of the last test."""
        found = number(_dig(self.summary, ("games", game, name)))
        tests = self.tests.get(game, ())
        return tests[-1].figures.get(name) if found is None and tests else found

    def reference(self, game: str, kind: str) -> float | None:
        """Published score of "random" or "human" play."""
        if (found := number(_dig(self.summary, ("games", game, kind)))) is not None:
            return found
        try:
            spec = get_game(game)
        except ValueError:  # Registered in another process only.
            return None
        return spec.random_score if kind == "random" else spec.human_score

    def series(self, x: str, y: str) -> list[tuple[float, float]]:
        """(x, y) of the looks that have both keys."""
        return [(row[x], row[y]) for row in self.looks if x in row and y in row]

    @property
    def last(self) -> Row:
        """Newest value of every key of the looks."""
        newest: Row = {}
        for row in self.looks:
            newest |= row
        return newest


def read_runs(path: str | Path) -> list[RunRecord]:
    """The run in a folder, or one for each game of a folder that `launch/experts.py` has made.

    ValueError if there is no run, or its configuration names no games.
    """
    runs = RunDir.open_existing(path).parts()
    if not runs:
        raise ValueError(f"no run has begun in {path} yet")
    return [read_run(run.path) for run in runs]


def read_run(path: str | Path) -> RunRecord:
    """The run in a folder, as for `read_runs`; it goes on undisturbed if it is not finished."""
    run = RunDir.open_existing(path)
    notes: list[str] = []
    config = read_config(run.config_path)
    games = config["games"]
    rows = read_rows(run.metrics_path, notes)
    return RunRecord(
        path=run.path,
        meta=read_document(run.path / "meta.json", notes) or {},
        config=config,
        games=tuple(games),
        summary=read_document(run.summary_path, notes),
        looks=tuple(row for row in rows if not is_test_row(row)),
        tests={game: tuple(_tests_of(f"test/{game}/", rows)) for game in games},
        teacher_tests={game: tuple(_tests_of(f"teacher/{game}/", rows)) for game in games},
        notes=tuple(notes),
    )


def read_tests(metrics_path: Path) -> dict[str, tuple[RecordedTest, ...]]:
    """Tests of the trained network in a file of metrics, by game, oldest first.

    Damaged lines are left out. Runs of experts record their tests in the same form.
    """
    rows = read_rows(metrics_path, [])
    games = {key.split("/")[1]: None for row in rows for key in row if key.startswith("test/")}
    return {game: tuple(_tests_of(f"test/{game}/", rows)) for game in games}


def number(value: object) -> float | None:
    """A finite number as float, None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        converted = float(value)
    except OverflowError:
        return None
    return converted if math.isfinite(converted) else None


def _dig(document: object, path: Sequence[str]) -> Any:
    for key in path:
        document = document.get(key) if isinstance(document, Mapping) else None
    return document


def _scores(figures: object) -> Scores | None:
    """None where there is not even a mean."""
    if not isinstance(figures, Mapping) or (mean := number(figures.get("mean"))) is None:
        return None
    return Scores(
        mean=mean,
        std=number(figures.get("std")),
        max=number(figures.get("max")),
        episodes=int(number(figures.get("episodes")) or 0),
    )


def _newest_scores(tests: Sequence[RecordedTest]) -> Scores:
    return (_scores(tests[-1].figures) if tests else None) or Scores()


def read_config(path: Path) -> Document:
    """The settings in a config.yaml, checked for nothing (ValueError) but YAML and games."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(document, dict):
        raise ValueError(f"{path} is not a run's configuration")
    games = document.get("games")
    if not isinstance(games, list) or not games or not all(isinstance(g, str) for g in games):
        raise ValueError(f"{path} names no games")
    return document


def read_document(path: Path, notes: list[str] | None = None) -> Document | None:
    """A JSON object in a file; None where there is no file or a damaged one, which is noted."""
    if not path.is_file():
        return None
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        if notes is not None:
            notes.append(f"{path.name} is damaged and was left out")
        return None
    return document


def read_rows(path: Path, notes: list[str]) -> list[Row]:
    """All rows of metrics.jsonl that still count, oldest first."""
    if not path.is_file():
        notes.append(f"{path.name} is missing: there are no curves")
        return []
    rows, damaged = [], 0
    with path.open("rb") as file:
        for line in file:
            row = parse_row(line)
            # What a program is writing at this moment, or was when it died, is no damage.
            damaged += row is None and line.endswith(b"\n")
            rows.append(row or {})
    if damaged:
        notes.append(f"{damaged} lines of {path.name} are damaged and were left out")
    return list(reversed(list(_newest_first(rows))))


def parse_row(line: bytes) -> Row | None:
    """The finite numbers of a line of metrics.jsonl; None for a damaged line."""
    try:
        return as_row(json.loads(line))
    except (ValueError, RecursionError):
        return None


def as_row(document: object) -> Row | None:
    """The finite numbers of a map; None for what is no map."""
    if not isinstance(document, dict):
        return None
    return {str(key): value for key, x in document.items() if (value := number(x)) is not None}


def _newest_first(rows: Sequence[Row]) -> Iterator[Row]:
    """Without what a resumed run did again: it goes on from its checkpoint, and time with it."""
    limit = math.inf
    for row in reversed(rows):
        seconds = row.get("seconds")
        if seconds is not None and seconds <= limit:
            limit = seconds
            yield row


def is_test_row(row: Row) -> bool:
    """Whether a row has the results of a test, or of a teacher that was tried."""
    return any(key.startswith(("test/", "teacher/")) for key in row)


def _tests_of(prefix: str, rows: Sequence[Row]) -> Iterator[RecordedTest]:
    """One for each version of the weights: the last test of a run may repeat the one before it."""
    tests: dict[object, RecordedTest] = {}
    for row in rows:
        figures = {key.removeprefix(prefix): x for key, x in row.items() if key.startswith(prefix)}
        if figures:
            steps, updates = row.get("steps"), row.get("updates")
            version = (steps, updates) if updates is not None else len(tests)
            tests.pop(version, None)
            tests[version] = RecordedTest(row.get("seconds"), steps, updates, figures)
    yield from tests.values()
