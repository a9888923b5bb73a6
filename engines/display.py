"""What a run tells whoever started it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class Display(Protocol):
    """Shows a run to whoever started it."""

    def show(self, latest: Mapping[str, float]) -> None:
        """Show how far the run has come; `latest` is the recorder's."""
        ...

    def note(self, text: str) -> None:
        """Show one line."""
        ...

    def warn(self, text: str) -> None:
        """Show one line that must not be overlooked."""
        ...

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Show the result of the run."""
        ...
