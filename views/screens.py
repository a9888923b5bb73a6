"""What people see of a run: a console, a live page, a report when it has ended; or nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

from engines.display import Display
from recipes.config import RunConfig
from recipes.recipe import Recipe
from records.run_dir import RunDir
from views.console import Console
from views.live.process import open_page
from views.report.writing import write_report_of_run


class TerminalAndPage:
    """The screens of a command (engines.carrying.Screens)."""

    def open_display(self, config: RunConfig, stack: ExitStack) -> Display:
        """A console on standard output until `stack` is closed."""
        recipe = Recipe(config)
        scores = {game: recipe.teacher_score(game) for game in recipe.games}
        known = {game: found.mean for game, found in scores.items() if found is not None}
        return stack.enter_context(Console(config, teachers=known))

    def open_page(
        self, run_dir: RunDir, config: RunConfig, stack: ExitStack, note: Callable[[str], None]
    ) -> None:
        """Serve the live page on this machine's loopback until `stack` is closed."""
        open_page(run_dir, config.dashboard, stack=stack, note=note)

    def report(self, run_dir: RunDir) -> None:
        """Write report.html into the run's folder, or print one line that says why not."""
        write_report_of_run(run_dir.path, print)


class NoScreens:
    """Nothing to see (engines.carrying.Screens), for a run that a program carries."""

    def open_display(self, config: RunConfig, stack: ExitStack) -> Display:
        """A display that hands warnings to Python's logging."""
        del config, stack
        return _Warnings()

    def open_page(
        self, run_dir: RunDir, config: RunConfig, stack: ExitStack, note: Callable[[str], None]
    ) -> None:
        """No page."""

    def report(self, run_dir: RunDir) -> None:
        """No report."""


class _Warnings:
    """The display of a run that nobody watches."""

    def show(self, latest: Mapping[str, float]) -> None:
        pass

    def note(self, text: str) -> None:
        pass

    def warn(self, text: str) -> None:
        logging.getLogger("actor_mimic").warning(text)

    def finish(self, summary: Mapping[str, Any]) -> None:
        pass
