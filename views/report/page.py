"""The report as one HTML page that asks nothing of the network.

Everything it shows is computed elsewhere: charts, tables and films come as arguments. The page may
load nothing, which its own Content-Security-Policy says to the browser.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files

from records.run_record import RunRecord
from views.report.charts import Chart
from views.report.films import Film
from views.report.groups import RunGroup
from views.report.html import data_url, escape, figure, picture, section
from views.report.paper import describe_tests
from views.report.tables import (
    aggregate_tables,
    games_table,
    paper_table,
    plural,
    reading_table,
    run_details,
    runs_table,
    seconds_of,
)
from views.words import duration

GENERATOR = "distributed-actor-mimic report"
"""By which a page is known to be one of ours."""

_CONTENTS = (
    ("together", "All games together"),
    ("games", "Each game"),
    ("table-1", "The paper's table"),
    ("figure-1", "Learning curves"),
    ("progress", "Progress"),
    ("films", "Films"),
    ("throughput", "Throughput"),
    ("runs", "Runs and settings"),
    ("reading", "How to read this"),
)


@dataclass(frozen=True, slots=True)
class DrawnChart:
    """A chart, and its picture for light and for dark pages, as PNG."""

    chart: Chart
    light: bytes
    dark: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class PageContent:
    """All that is on a page."""

    groups: Sequence[RunGroup]
    percent: DrawnChart | None
    curves: Sequence[DrawnChart]
    """Learning curves over steps."""
    curves_over_time: Sequence[DrawnChart]
    progress: Sequence[DrawnChart]
    throughput: Sequence[DrawnChart]
    films: Sequence[Film]
    notes: Sequence[str]
    """What is missing, and why."""
    written: datetime

    @property
    def runs(self) -> list[RunRecord]:
        """Of all groups."""
        return [run for group in self.groups for run in group.runs]


def build_page(content: PageContent) -> str:
    """The whole document."""
    style = files("views.report").joinpath("style.css").read_text(encoding="utf-8")
    names = ", ".join(run.name for run in content.runs[:6])
    more = f" and {len(content.runs) - 6} more" if len(content.runs) > 6 else ""
    title = f"Actor-Mimic: {names}{more}"
    parts = [
        _together(content),
        section("games", "Each game", *(games_table(group) for group in content.groups)),
        _paper(content),
        _charts(
            "figure-1",
            "Learning curves",
            "As figure 1 of the paper: mean score of each test over the steps of all games "
            "together. The straight line is the expert's mean on its card, the dashed one its best "
            "episode. The faint line is what the exploring actors scored meanwhile.",
            content.curves,
            _over_time(content.curves_over_time),
        ),
        _charts(
            "progress",
            "Progress",
            "0 is random play, 1 the expert; over the tests in which all games were played.",
            content.progress,
        ),
        _films(content),
        _charts(
            "throughput",
            "Throughput",
            "Each point is the mean since the look before, over the time since the run began.",
            content.throughput,
        ),
        section(
            "runs",
            "Runs and settings",
            runs_table(content.runs),
            *(run_details(run) for run in content.runs),
        ),
        _reading(),
    ]
    shown = [(name, text) for name, text in _CONTENTS if any(f'id="{name}"' in p for p in parts)]
    links = " &middot; ".join(f'<a href="#{name}">{escape(text)}</a>' for name, text in shown)
    body = "\n".join(part for part in parts if part)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="{GENERATOR}">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; \
style-src 'unsafe-inline'">
<title>{escape(title)}</title>
<style>
{style}</style>
</head>
<body>
<main>
<h1>{escape(title)}</h1>
{_head(content)}
<nav aria-label="Contents"><p>{links}</p></nav>
{body}
</main>
</body>
</html>
"""


def _head(content: PageContent) -> str:
    runs = content.runs
    steps = sum(int(run.last.get("steps", 0)) for run in runs)
    seconds = sum(seconds_of(run) for run in runs)
    games = ", ".join(dict.fromkeys(game for run in runs for game in run.games))
    written = content.written.strftime("%Y-%m-%d %H:%M %Z").strip()
    lines = [
        f"<p>One student network for: {escape(games)}. {plural(len(runs), 'run')}, "
        f"{steps:,} steps, {duration(seconds)} (hours, minutes, seconds) in all. "
        "1 step = one decision of the agent = 4 frames on Atari.</p>",
        f'<p class="quiet">Written {escape(written)}.</p>',
    ]
    notes = [*_warnings(content), *content.notes]
    if notes:
        items = "".join(f"<li>{escape(note)}</li>" for note in notes)
        lines.append(f'<div class="warning" role="note"><ul>{items}</ul></div>')
    return "\n".join(lines)


def _warnings(content: PageContent) -> list[str]:
    warnings = []
    unfinished = [run.name for run in content.runs if not run.is_finished]
    if unfinished:
        warnings.append(
            f"Not finished: {', '.join(unfinished)}. The figures are of what is there by now."
        )
    for group in content.groups:
        for seed in group.repeated_seeds:
            warnings.append(
                f"Several runs of {group.label} have the seed {seed}: they are not independent, "
                "and intervals over them are too narrow."
            )
    if any(run.setting("protocol") == "modern" for run in content.runs):
        warnings.append(
            "Played by the protocol modern (sticky actions): scores are not comparable with the "
            "paper's."
        )
    for run in content.runs:
        said = run.meta.get("warnings")
        kept = map(str, said) if isinstance(said, list) else ()
        warnings += [f"{run.name}: {text}" for text in (*kept, *run.notes)]
    return warnings


def _together(content: PageContent) -> str:
    drawn = content.percent
    tests = "; ".join(
        describe_tests(group)
        if len(content.groups) == 1
        else f"{group.label}: {describe_tests(group)}"
        for group in content.groups
    )
    caption = (
        f"As figure 6 of the paper: the student's score as percent of its expert's, {tests}. Pale "
        "bars: the best of all tests. Ours are divided by the mean on the expert's card, which "
        "holds one test; the paper's means by its expert's mean and its best tests by its "
        "expert's best. The paper's values are recalled, not copied from its print."
    )
    bars = figure(_drawn(drawn), caption, kind="wide") if drawn else ""
    tables = aggregate_tables(content.groups)
    return section("together", "All games together", *tables, bars)


def _paper(content: PageContent) -> str:
    return section(
        "table-1",
        "The paper's table",
        "<p>The paper's values are <strong>recalled</strong>, not copied from its print. Its means "
        "are over the last 10 of 100 tests of 125,000 steps and its maxima the best test, of "
        "experts and students alike. Ours are over as many of the last 10 tests as there are; an "
        "expert's card holds one test, so the last column compares the student's best test with "
        "its expert's mean. Experts differ, so only the percentages compare.</p>",
        *(paper_table(group) for group in content.groups),
    )


def _reading() -> str:
    return section(
        "reading",
        "How to read this",
        reading_table(),
        '<p class="quiet">Every figure lies as PNG and CSV in the folder beside this page whose '
        "name ends in <code>_files</code>.</p>",
    )


def _charts(name: str, title: str, text: str, charts: Sequence[DrawnChart], *further: str) -> str:
    if not charts:
        return ""
    return section(name, title, f"<p>{escape(text)}</p>", _figures(charts), *further)


def _over_time(charts: Sequence[DrawnChart]) -> str:
    """The learning curves once more, for readers who pay by the hour."""
    if not charts:
        return ""
    return (
        "<h3>Over wall-clock time</h3>\n<p>The same tests by the time since the run began at which "
        "each was finished; weights are older than their test. Pauses between the sessions of a "
        f"resumed run do not count.</p>\n{_figures(charts)}"
    )


def _figures(charts: Sequence[DrawnChart]) -> str:
    figures = "\n".join(figure(_drawn(drawn)) for drawn in charts)
    return f'<div class="figures">{figures}</div>'


def _drawn(drawn: DrawnChart) -> str:
    width, height = struct.unpack(">II", drawn.light[16:24])  # In a PNG's first chunk.
    dark = data_url(drawn.dark, "image/png")
    return picture(
        data_url(drawn.light, "image/png"),
        drawn.chart.alt,
        size=(width, height),
        instead=[("screen and (prefers-color-scheme: dark)", dark)],
    )


def _films(content: PageContent) -> str:
    if not content.films:
        return ""
    run = content.runs[0].name
    figures = "\n".join(
        figure(
            picture(
                data_url(film.webp, "image/webp"),
                film.alt,
                size=film.size,
                instead=[
                    (media, data_url(film.still_png, "image/png"))
                    for media in ("print", "(prefers-reduced-motion: reduce)")
                ],
            ),
            film.game,
            kind="film",
        )
        for film in content.films
    )
    return section(
        "films",
        "Films",
        f"<p>The student of {escape(run)} and its experts, twice as fast as the game, from the "
        "same start. Each plays its own game; the bars are the probabilities that both give to "
        "every action (upper bar: expert), the arrow is what is played.</p>",
        f'<details open><summary>Show the films</summary><div class="figures">{figures}</div>'
        "</details>",
    )
