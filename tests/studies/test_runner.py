"""Units as processes: cut off and gone on with, failing, shared by two launchers."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from studies.records import UnitFiles, check_unchanged
from studies.runner import Runner
from studies.study import Unit

PROGRAM = Path(__file__).parents[1] / "support" / "unit_program.py"
STEPS = 6


def program(unit: Unit, arguments: Sequence[str]) -> list[str]:
    return [sys.executable, str(PROGRAM), *arguments]


def unit(arm: str, *words: str, seed: int = 1) -> Unit:
    return Unit("multitask", arm, "all", seed, ("--num-steps", str(STEPS), *words))


@pytest.fixture(autouse=True)
def _any_options(monkeypatch: pytest.MonkeyPatch) -> None:
    """The small program has options of its own, which no command's parser knows."""
    monkeypatch.setattr(Unit, "num_steps", lambda self: STEPS)


def runner(units: Sequence[Unit], folder: Path, lines: list[str], *, jobs: int = 2) -> Runner:
    return Runner(units, folder, jobs=jobs, command_line=program, tell=lines.append)


def played(unit: Unit, folder: Path) -> list[int]:
    return [int(line) for line in (UnitFiles.of(unit, folder).run / "steps").read_text().split()]


def wait_for(condition: Callable[[], bool]) -> None:
    """Bounded by a minute, which only a hanging test takes."""
    for _ in range(6000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it never happened")


@contextlib.contextmanager
def in_thread(work: Callable[[], object]) -> Iterator[None]:
    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def test_a_unit_that_fails_is_reported_with_its_log_and_stops_nobody(tmp_path: Path) -> None:
    units, lines = [unit("bad", "--fail"), unit("good"), unit("last")], list[str]()

    failed = runner(units, tmp_path, lines, jobs=1).run()

    assert failed == [units[0]]
    log = UnitFiles.of(units[0], tmp_path).log
    assert log.read_text() == "ended\n"
    assert any(f"bad/all/1: FAILED with status 3, see {log}" in line for line in lines)
    assert any(line.startswith("[2/3] last/all/1: done") for line in lines)


def test_units_that_are_done_are_not_run_again_and_failed_ones_are(tmp_path: Path) -> None:
    units, lines = [unit("bad", "--fail"), unit("good")], list[str]()
    runner(units, tmp_path, lines).run()
    lines.clear()

    runner(units, tmp_path, lines).run()

    assert lines[0] == "bad/all/1: goes on"
    assert not any("good" in line for line in lines)
    assert played(units[1], tmp_path) == list(range(STEPS))


def test_a_unit_that_is_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    own, lines = unit("slow", "--hold", str(gate)), list[str]()
    first = runner([own], tmp_path, lines)
    failed: list[Unit] = []
    with in_thread(lambda: failed.extend(first.run())):
        wait_for(lambda: len(_played_or_none(own, tmp_path)) > STEPS // 2)
        os.kill(first._running[0].process.pid, signal.SIGKILL)
    assert failed == [own]
    gate.touch()

    assert runner([own], tmp_path, lines).run() == []

    assert lines[-2] == "slow/all/1: goes on"
    assert played(own, tmp_path) == list(range(STEPS))


def _played_or_none(unit: Unit, folder: Path) -> list[int]:
    with contextlib.suppress(FileNotFoundError):
        return played(unit, folder)
    return []


def test_a_killed_launcher_leaves_its_unit_alone_and_the_next_one_waits_for_it(
    tmp_path: Path,
) -> None:
    gate = tmp_path / "gate"
    own, lines = unit("slow", "--hold", str(gate)), list[str]()
    script = f"""
import sys
from pathlib import Path
from studies.runner import Runner
from studies.study import Unit
Unit.num_steps = lambda self: {STEPS}
own = Unit("multitask", "slow", "all", 1, {own.options!r})
line = lambda unit, words: [sys.executable, {str(PROGRAM)!r}, *words]
Runner([own], Path({str(tmp_path)!r}), jobs=1, command_line=line).run()
"""
    launcher = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.DEVNULL)
    wait_for(lambda: len(_played_or_none(own, tmp_path)) > STEPS // 2)
    launcher.kill()
    launcher.wait()
    next_one = runner([own], tmp_path, lines)
    with in_thread(next_one.run):
        wait_for(lambda: bool(lines))
        assert lines == ["waiting for units of another launcher: slow/all/1"]
        gate.touch()

    # Nobody saw how the orphan ended; its run is asked once more and has nothing left to do.
    assert lines[1] == "slow/all/1: goes on"
    assert played(own, tmp_path) == list(range(STEPS))


def test_two_launchers_share_a_study_without_running_a_unit_twice(tmp_path: Path) -> None:
    units = [unit("a", seed=seed) for seed in range(6)]
    first, second = list[str](), list[str]()
    with in_thread(runner(units, tmp_path, first, jobs=1).run):
        assert runner(units, tmp_path, second, jobs=1).run() == []

    begun = [line for line in (*first, *second) if line.endswith(": begins")]
    assert sorted(begun) == [f"a/all/{seed}: begins" for seed in range(6)]
    for own in units:
        assert played(own, tmp_path) == list(range(STEPS))


def test_an_interrupted_launcher_ends_its_units_and_marks_none(tmp_path: Path) -> None:
    own = unit("slow", "--hold", str(tmp_path / "gate"))

    def stop_when_begun(line: str) -> None:
        if line.endswith("begins"):
            threading.Thread(target=interrupt).start()

    def interrupt() -> None:
        wait_for(lambda: len(_played_or_none(own, tmp_path)) > STEPS // 2)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        Runner([own], tmp_path, jobs=1, command_line=program, tell=stop_when_begun).run()

    record = UnitFiles.of(own, tmp_path).read()
    assert record is not None
    assert record.status is None
    lock = UnitFiles.of(own, tmp_path).try_lock()
    assert lock is not None
    lock.close()


def test_a_study_that_changed_since_its_units_ran_is_refused(tmp_path: Path) -> None:
    before, now = Unit("multitask", "a", "all", 1, ("--games", "pong")), unit("a")
    files = UnitFiles.of(before, tmp_path)
    assert runner([unit("a", "--games", "pong")], tmp_path, []).run() == []
    with pytest.raises(ValueError, match=r"the study has changed since a/all/1 ran in .*--games"):
        check_unchanged([now], tmp_path)
    check_unchanged([unit("another")], tmp_path)
    assert files.read() is not None
