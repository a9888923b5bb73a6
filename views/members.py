"""What people see of the members of a population: a line for what matters, and no live display."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

from engines.display import Display
from recipes.config import RunConfig
from records.run_dir import RunDir


class MemberScreens:
    """The screens of one member (engines.carrying.Screens)."""

    def __init__(self, number: int) -> None:
        """Nothing is shown yet; members are counted from 0."""
        self._number = number

    def open_display(self, config: RunConfig, stack: ExitStack) -> Display:
        """Lines on standard output."""
        return _Lines(self._number)

    def open_page(
        self, run_dir: RunDir, config: RunConfig, stack: ExitStack, note: Callable[[str], None]
    ) -> None:
        """No page of its own: launch/dashboard.py shows any member."""

    def report(self, run_dir: RunDir) -> None:
        """No report of its own: the population has one."""


class _Lines:
    """Shows what a member says, but not how it goes on."""

    def __init__(self, number: int) -> None:
        self._number = number

    def show(self, latest: Mapping[str, float]) -> None:
        """Nothing: members have many looks, and are compared at few."""

    def note(self, text: str) -> None:
        """One line, flushed, so that a population in the background can be followed in its log."""
        print(f"member {self._number}: {text}", flush=True)

    def warn(self, text: str) -> None:
        """One line that must not be overlooked."""
        self.note(f"warning: {text}")

    def finish(self, summary: Mapping[str, Any]) -> None:
        """How far the member has come; its games stand in the population's report."""
        self.note(f"ended after {sum(summary['steps'].values()):,} steps")
