"""Renders the report as one HTML page that asks nothing of the network.

What the page shows is computed elsewhere: charts, tables and films come as arguments, and its text
stands in page.html.jinja. Every value is escaped there, so nothing that a run wrote becomes markup.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from itertools import count

from records.run_record import RunRecord
from views.report.charts import Chart
from views.report.films import Film
from views.report.groups import RunGroup
from views.report.paper import describe_tests
from views.report.population import PopulationView
from views.report.run_tables import run_details, runs_table, seconds_of
from views.report.scores import headline
from views.report.tables import aggregates_table, games_table, paper_table
from views.templates import render
from views.words import duration, plural

# Stands in the page's head, by which a page is known to be one of ours.
GENERATOR = "distributed-actor-mimic report"
_MAX_NAMES = 6


@dataclass(frozen=True, slots=True)
class DrawnChart:
    """A chart, and its picture for light and for dark pages, as PNG."""

    chart: Chart
    light: bytes
    dark: bytes

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels, so that the page does not jump while it loads."""
        width, height = struct.unpack(">II", self.light[16:24])  # In a PNG's first chunk.
        return width, height


def build_page(
    groups: Sequence[RunGroup],
    charts: Mapping[str, Sequence[DrawnChart]],
    films: Sequence[Film],
    notes: Sequence[str],
    populations: Sequence[PopulationView] = (),
) -> str:
    """The whole document."""
    runs = [run for group in groups for run in group.runs]
    is_alone = len(groups) == 1
    numbers = count()
    aggregates = [aggregates_table(group, is_alone=is_alone) for group in groups]
    games = list(dict.fromkeys(game for run in runs for game in run.games))
    return render(
        "views.report",
        "page.html.jinja",
        escape=True,
        filters={"data_url": _data_url},
        new_id=lambda: f"t{next(numbers)}",
        generator=GENERATOR,
        style=files("views.report").joinpath("style.css").read_text(encoding="utf-8"),
        title=_title(runs),
        headlines=[(group.label, headline(group), group.differences) for group in groups],
        is_alone=is_alone,
        has_teachers=any(run.teacher(game).mean is not None for run in runs for game in run.games),
        about=f"{', '.join(games)}. {plural(len(runs), 'run')}, {_total(runs)}.",
        warnings=[*_warnings(groups), *notes],
        charts=charts,
        films=films,
        filmed=runs[0].name,
        written=datetime.now().astimezone(),
        aggregates=[table for table in aggregates if not table.is_empty],
        games=[games_table(group) for group in groups],
        tests=[(group.label, describe_tests(group)) for group in groups],
        paper=[table for group in groups if (table := paper_table(group)) is not None],
        population=[
            table for view in populations for table in (view.members_table(), view.lineage_table())
        ],
        runs=runs_table(runs),
        details=[run_details(run) for run in runs],
    )


def _data_url(data: bytes, kind: str) -> str:
    """An image inside the page, of a kind such as "image/png"."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _title(runs: Sequence[RunRecord]) -> str:
    names = ", ".join(run.name for run in runs[:_MAX_NAMES])
    more = f" and {len(runs) - _MAX_NAMES} more" if len(runs) > _MAX_NAMES else ""
    return f"Actor-Mimic: {names}{more}"


def _total(runs: Sequence[RunRecord]) -> str:
    steps = sum(int(run.last.get("steps", 0)) for run in runs)
    seconds = sum(seconds_of(run) for run in runs)
    return f"{steps:,} steps, {duration(seconds)} (hours, minutes, seconds) in all"


def _warnings(groups: Sequence[RunGroup]) -> list[str]:
    runs = [run for group in groups for run in group.runs]
    warnings = []
    if unfinished := [run.name for run in runs if not run.is_finished]:
        warnings.append(
            f"Not finished: {', '.join(unfinished)}. The figures are of what is there by now."
        )
    for group in groups:
        for seed in group.repeated_seeds:
            warnings.append(
                f"Several runs of {group.label} have the seed {seed}: they are not independent, "
                "and intervals over them are too narrow."
            )
    if any(run.setting("protocol") == "modern" for run in runs):
        warnings.append(
            "Played by the protocol modern (sticky actions): scores are not comparable with the "
            "paper's."
        )
    for run in runs:
        said = run.meta.get("warnings")
        kept = map(str, said) if isinstance(said, list) else ()
        warnings += [f"{run.name}: {text}" for text in (*kept, *run.notes)]
    return warnings
