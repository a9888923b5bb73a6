"""What people see of a run: a console, a live page beside it, a report when it has ended."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from engines.supervisor import Display
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
