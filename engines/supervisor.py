"""Watches over a run from start to summary, whichever engine carries it.

advance -> look (metrics, console) -> maybe test -> maybe checkpoint -> ... -> test -> summary
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from pathlib import Path
from typing import Any

from actors.evaluator import EvaluationResult
from engines.display import Display
from engines.engine import Engine
from engines.keeping import Keeper, keep_student
from engines.live_control import Board, LiveControl, describe_restarts
from engines.membership import Membership
from engines.slices import Position, run_through
from games.registry import get_game
from learner.checkpoint import save_checkpoint
from networks.weights import WeightSnapshot
from recipes.evaluation import StudentTest, TeacherTest, Test, Tester
from recipes.gaps import ScoreGaps
from recipes.recipe import Recipe
from recipes.teacher_check import find_alarm
from records.progress import Progress
from records.recorder import Recorder
from records.run_dir import RunDir
from records.safe_writing import SafeWriting
from records.session_clock import SessionClock
from records.summary import build_summary


def time_to_next_look(period_s: float, *, taken_s: float) -> float:
    """Seconds that a run goes on by itself after a look that has taken `taken_s`.

    Looks begin once in a period. Only one that takes more than half of it puts the next one off:
    in between, the launcher hears of roles that have ended.
    """
    return max(period_s - taken_s, period_s / 2)


# Longest wait for the roles when a run is interrupted; batch systems kill after 20 to 60 s.
_LAST_SAVE_S = 12.0


class Supervisor:
    """Drives an engine and keeps the run's record."""

    def __init__(
        self,
        recipe: Recipe,
        *,
        engine: Engine,
        tester: Tester,
        keeper: Keeper,
        run_dir: RunDir,
        recorder: Recorder,
        display: Display,
        board: Board | None = None,
        session: SessionClock,
        writing: SafeWriting,
        member: Membership | None = None,
        steps_before: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take over an engine that has been started.

        Args:
            recipe: what is trained.
            engine: closed by `run`.
            tester: plays the tests.
            keeper: takes the weights that are to lie on disk at the end.
            run_dir: takes checkpoints and the summary.
            recorder: takes metrics.
            display: shows them.
            board: where the run is seen, and asked, from outside; None for nowhere.
            session: time of the run.
            writing: has the run go on when a file cannot be written.
            member: what the run is in a population; None for a run by itself.
            steps_before: steps of the run, all games together, that earlier sessions have played.
            clock: seconds.
        """
        self._recipe = recipe
        self._config = recipe.config
        self._engine = engine
        self._tester = tester
        self._run_dir = run_dir
        self._recorder = recorder
        self._keeper = keeper
        self._display = display
        self._session = session
        self._writing = writing
        self._member = member
        self._clock = clock
        self._saved = clock()
        # None after one that could not be written.
        self._checkpoint: Path | None = None
        self._next_test_steps = self._config.evaluation.period_steps
        # Points of earlier sessions are over: today's weights are not those of so many steps.
        self._kept_points = sorted(
            steps for steps in self._config.checkpoint.keep_at_steps if steps > steps_before
        )
        self._results: dict[str, EvaluationResult] = {}
        # Weights whose tests are under way, by their number of updates.
        self._tested: dict[int, WeightSnapshot] = {}
        self._progress: Progress | None = None
        self._gaps = ScoreGaps(recipe)
        self._control = LiveControl(
            recipe, engine=engine, board=board, tell=self._tell_event, clock=clock
        )
        self._control.show("starting", None)

    def _tell_event(self, event: str, progress: Progress) -> None:
        self._display.note(event)
        self._recorder.record_event(event, progress)

    def _log_event(self, event: str, progress: Progress | None) -> None:
        """One that the console needs no line for, or has one already."""
        if progress is not None:
            self._recorder.record_event(event, progress)
            self._control.add_event(event, progress)

    def run(self) -> dict[str, Any]:
        """Carry the run to its end and write its summary.

        When interrupted, a checkpoint and a summary of what was reached are written before
        KeyboardInterrupt goes on. ValueError with what could not be written by the end.
        """
        return run_through(self.slices())

    def slices(self) -> Generator[Position, None, dict[str, Any]]:
        """Do the same in slices, between which the members of a population wait for each other.

        Gives the run's position in its population, and goes on when it is asked to; a run by itself
        is one slice. What is thrown into it, KeyboardInterrupt above all, ends it as if it came
        from within.
        """
        try:
            snapshot = yield from self._carry()
            self._engine.close()
            self._control.show("testing", self._progress)
            self._display.note("the run has reached its end; playing the last test")
            self._start_test(snapshot, self._config.evaluation.num_episodes)
            self._take(self._tester.wait())
            self._conclude()
        except KeyboardInterrupt:
            self._write_summary()
            for line in self._writing.unwritten():
                self._display.warn(line)
            self._display.note(f"interrupted; what was reached is in {self._run_dir.path}")
            raise
        finally:
            self._control.show("ended", self._progress)
            self._engine.close()
        summary = self._write_summary()
        if unwritten := self._writing.unwritten():
            raise ValueError(f"the run has reached its end, but {'; '.join(unwritten)}")
        return summary

    def _conclude(self) -> None:
        """Finish what is kept; a full disk or a damaged file never costs the summary."""
        try:
            self._results |= self._keeper.conclude()
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())
            self._display.warn(f"the weights on disk could not be tested: {reason}")

    def _carry(self) -> Generator[Position, None, WeightSnapshot]:
        """Go on to the end and save; whatever ends it, what was learned is saved before."""
        try:
            yield from self._wait_for_others()
            self._try_teachers()
            yield from self._maybe_change()
            pause_s = self._config.report_period_s
            while self._engine.advance(pause_s, until_updates=self._slice_end):
                began = self._clock()
                self._look()
                yield from self._maybe_change()
                pause_s = time_to_next_look(
                    self._config.report_period_s, taken_s=self._clock() - began
                )
            self._look()
        except Exception:
            # Without hiding the cause: a learner that has failed may have nothing to save.
            with suppress(Exception):
                self._save()
            raise
        except KeyboardInterrupt:
            self._save_what_answers()
            raise
        return self._save()

    @property
    def _slice_end(self) -> int | None:
        return self._member.slice_end if self._member else None

    def _wait_for_others(self) -> Generator[Position, None, None]:
        """Let the other members of a population come to where this one is."""
        if self._member is not None:
            with self._recorder.paused(), self._session.stands():
                yield self._member.position

    def _maybe_compare(self, progress: Progress) -> None:
        """At the end of a slice, save and test what the members are compared by."""
        member = self._member
        if member is None or not member.is_due(progress.updates):
            return
        with self._recorder.paused():  # A test in this process stops the training meanwhile.
            snapshot = self._save()
            if self._checkpoint is not None:
                member.begin_test(self._checkpoint, updates=snapshot.version.updates)
                self._start_test(snapshot, self._config.evaluation.episodes_meanwhile)
                self._take(self._tester.finished())

    def _maybe_change(self) -> Generator[Position, None, None]:
        """Once it is scored, compare the run with others and change it; the checkpoint commits."""
        member = self._member
        if member is None or not member.is_scored:
            return
        yield from self._wait_for_others()
        try:
            change = member.decide()
            if change is not None:
                self._engine.change_learner(change.recipe, state=change.state)
        except TimeoutError:
            self._display.note("the learner does not answer; it is changed later")
            return
        updates = self._progress.updates if self._progress else 0
        member.adopt(change, steps=self._steps, updates=updates)
        with suppress(TimeoutError):  # The next checkpoint commits it then.
            self._save()
        self._log_event(member.commit(), self._progress)
        yield from self._wait_for_others()

    def _save_what_answers(self) -> None:
        """Save before an interrupted run ends, within `_LAST_SAVE_S`, whatever has died by now.

        A batch system signals every process of a job: the roles may have gone before this one
        hears of it, and it kills what has not ended some seconds later.
        """
        failure: list[BaseException] = []

        def save() -> None:
            try:
                with suppress(Exception):  # Faults since the last look.
                    self._progress = self._engine.progress()
                # After it, so that the checkpoint is at least as far as the summary says.
                self._save()
            except Exception as error:
                failure.append(error)

        saving = threading.Thread(target=save, name="last-save", daemon=True)
        saving.start()
        saving.join(_LAST_SAVE_S)
        if saving.is_alive() or failure:
            reason = " ".join(str(failure[0]).split())[:200] if failure else "it does not answer"
            self._display.note(f"no newer checkpoint can be had of the learner: {reason}")

    @property
    def _steps(self) -> int:
        return self._progress.steps if self._progress else 0

    def _look(self) -> None:
        """One report; every now and then a test and a checkpoint."""
        progress = self._engine.progress()
        before, self._progress = self._progress, progress
        row = self._recorder.record(progress)
        if gaps := self._gaps.of(row):
            self._engine.follow_gaps(gaps)
        for event in describe_restarts(before, progress):
            self._log_event(event, progress)
        self._display.show(self._recorder.latest)
        self._control.look(progress, row)
        self._take(self._tester.finished())
        try:
            self._maybe_compare(progress)
            self._maybe_test_and_save(progress)
        except TimeoutError:
            # A learner that is being replaced, for example; the next look tries again.
            self._display.note("the learner does not answer; its weights are saved later")

    def _maybe_test_and_save(self, progress: Progress) -> None:
        period = self._config.evaluation.period_steps
        if period and progress.steps >= self._next_test_steps:
            self._next_test_steps = progress.steps + period
            snapshot = self._engine.snapshot()
            with self._recorder.paused():  # A test in this process stops the training meanwhile.
                self._start_test(snapshot, self._config.evaluation.episodes_meanwhile)
        if self._clock() - self._saved >= self._config.checkpoint.period_s:
            self._save()
        self._maybe_keep_student(progress)

    def _maybe_keep_student(self, progress: Progress) -> None:
        """Keep a student for good at each of the set points that have been passed."""
        for steps in self._kept_points:
            folder = self._run_dir.student_at(steps)
            if steps <= progress.steps and not folder.exists():
                snapshot = self._engine.snapshot()
                with self._writing.attempt("a student that is kept for good"):
                    keep_student(self._recipe, folder, snapshot)

    def _start_test(self, snapshot: WeightSnapshot, num_episodes: int) -> None:
        self._tested[snapshot.version.updates] = snapshot
        self._tester.start(
            snapshot, self._config.games, steps=self._steps, num_episodes=num_episodes
        )

    def _try_teachers(self) -> None:
        """Have the teachers play, beside the run where it has processes for that."""
        episodes = self._config.evaluation.check_teachers
        taught = [game for game in self._config.games if self._recipe.is_taught(game)]
        if episodes and taught:
            whole = "one episode" if episodes == 1 else f"{episodes} episodes"
            self._display.note(f"trying every teacher in {whole} of its game")
            with self._recorder.paused():
                self._tester.start_teachers(taught)
            self._take(self._tester.finished())

    def _take(self, tests: list[Test]) -> None:
        for test in tests:
            if isinstance(test, TeacherTest):
                self._judge(test)
                continue
            self._results[test.game] = test.result
            row = self._recorder.record_evaluation(
                test.game, steps=test.steps, updates=test.updates, result=test.result
            )
            self._control.observe_test(row)
            self._keep(test)
            if self._member is not None:
                self._member.take(test)

    def _keep(self, test: StudentTest) -> None:
        with self._writing.attempt("the tested weights"):
            self._keeper.keep_tested(
                test, self._tested[test.updates], wall_seconds=self._session.wall_seconds
            )
        # Tests end in the order in which they were begun: older weights are not asked for again.
        self._tested = {n: kept for n, kept in self._tested.items() if n >= test.updates}

    def _judge(self, test: TeacherTest) -> None:
        updates = self._progress.updates if self._progress else 0
        self._recorder.record_teacher(
            test.game, steps=self._steps, updates=updates, result=test.result
        )
        if alarm := find_alarm(self._recipe, test):
            self._display.warn(alarm)
            with self._writing.attempt("meta.json"):
                self._run_dir.add_warning(alarm)

    def _save(self) -> WeightSnapshot:
        """Checkpoint the run and write the student; ValueError for weights that are not finite."""
        # The snapshot first: it is refused when training has diverged, and the checkpoint before
        # that stays the newest.
        snapshot = self._engine.snapshot()
        state = self._engine.state()
        state["seconds"] = self._session.seconds
        if self._member is not None:
            state["member"] = self._member.state()
        self._checkpoint = None
        with self._writing.attempt("the checkpoint"):
            self._checkpoint = save_checkpoint(
                self._run_dir.checkpoints,
                state,
                num_updates=state["learner"]["num_updates"],
                keep=self._config.checkpoint.keep,
            )
        with self._writing.attempt("the student"):
            self._keeper.keep_newest(snapshot)
        self._saved = self._clock()
        self._log_event(f"checkpoint of update {snapshot.version.updates:,}", self._progress)
        return snapshot

    def _write_summary(self) -> dict[str, Any]:
        games = self._config.games
        summary = build_summary(
            preset=self._run_dir.preset,
            seed=self._config.seed,
            games=[get_game(game) for game in games],
            wall_seconds=self._session.wall_seconds,
            progress=self._progress,
            throughput=self._recorder.overall(),
            students=self._results,
            teachers={game: self._recipe.teacher_score(game) for game in games},
            tried_teachers=self._recorder.tried_teachers,
            learned=self._recorder.learned,
        )
        with self._writing.attempt("summary.json"):
            self._run_dir.write_summary(summary)
        self._display.finish(summary)
        return summary
