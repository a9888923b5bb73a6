"""Writes the report of one or several runs."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from networks.atomic_file import write_atomically
from records.run_record import RunRecord, read_runs
from views.report import FILM_STEPS
from views.report.charts import Chart
from views.report.curves import Unit, choose_units, look_chart, weights_chart
from views.report.groups import RunGroup, group_runs
from views.report.paper import as_csv, build_rows
from views.report.population import PopulationView, read_population_view
from views.report.score_charts import learning_curve, percent_of_expert, progress_curves

if TYPE_CHECKING:
    from views.report.films import Film
    from views.report.page import DrawnChart

_PAGE = "report.html"


def write_report(
    run_dirs: Sequence[str | Path],
    *,
    out: str | Path | None = None,
    film_steps: int = FILM_STEPS,
) -> Path:
    """Write the report of some runs and its figures; returns the page's path.

    Args:
        run_dirs: folders of runs; they are only read, apart from the report itself.
        out: the page; None for report.html in the run's folder, or in the current one for several.
        film_steps: steps of the films of the first run; 0 for none.

    Raises:
        ValueError: a folder is not a run's, the page's name belongs to another file, or it cannot
            be written.
    """
    records = [record for path in run_dirs for record in read_runs(path)]
    groups = group_runs(records)
    page = _page_path(records, out)
    films: list[Film] = []
    notes: list[str] = []
    if film_steps:
        # Not above, here and below: torch and matplotlib are loaded when something is to be drawn.
        from views.report.films import make_films

        films, notes = make_films(records[0], num_steps=film_steps)
    try:
        _write(page, groups, films, notes)
    except OSError as error:
        raise ValueError(f"cannot write {error.filename or page}: {error.strerror}") from error
    return page


def figures_folder(page: Path) -> Path:
    """Where the figures of a page lie as files of their own."""
    return page.with_name(f"{page.stem}_files")


def write_report_of_run(run_dir: Path, note: Callable[[str], None]) -> None:
    """Write the report of a run that has just ended, or say in one line why there is none.

    Nothing is raised whatever goes wrong: the run itself has reached its end.
    """
    try:
        note(f"report: {write_report([run_dir])}")
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        note(f"no report was written: {reason}")
    note(next_steps(run_dir))


def next_steps(run_dir: Path) -> str:
    """One line with the commands that a finished run is for."""
    run = shlex.quote(os.path.relpath(run_dir))
    return (
        f"next: python launch/evaluate.py {run}; python launch/play.py {run} --game GAME; "
        f"python launch/export.py {run} --out FOLDER"
    )


def _page_path(records: Sequence[RunRecord], out: str | Path | None) -> Path:
    """Where the page goes; ValueError if that is somebody else's file."""
    from views.report.page import GENERATOR

    unique = {record.path for record in records}
    page = Path(out) if out else (unique.pop() if len(unique) == 1 else Path()) / _PAGE
    if not page.absolute().parent.is_dir():
        raise ValueError(f"there is no folder {page.parent} to write {page.name} into")
    if page.exists():
        head = page.read_bytes()[:2000] if page.is_file() else b""
        if GENERATOR.encode() not in head:
            raise ValueError(f"{page} is no report of this program; choose another name with --out")
    return page


def _write(
    page: Path, groups: Sequence[RunGroup], films: Sequence[Film], notes: Sequence[str]
) -> None:
    from views.report.page import build_page

    folder = figures_folder(page)
    folder.mkdir(exist_ok=True)
    games = list(dict.fromkeys(game for group in groups for game in group.games))
    units = choose_units(groups)
    # Of one population: figures of several would take each other's names.
    populations = _populations(groups) if sum(len(group.runs) for group in groups) == 1 else []
    charts = {
        "percent": [percent_of_expert(groups)],
        "curves": [learning_curve(groups, game, "steps", units.steps) for game in games],
        "curves_over_time": [learning_curve(groups, game, "time", units.time) for game in games],
        "progress": [
            progress_curves(groups, "steps", units.steps),
            progress_curves(groups, "time", units.time),
        ],
        "throughput": _throughput(groups, units.time),
        "population": [chart for view in populations for chart in view.charts()],
    }
    drawn = {place: _draw(found, folder) for place, found in charts.items()}
    for film in films:
        write_atomically(folder / f"film_{film.game}.webp", film.webp)
    for index, group in enumerate(groups):
        name = "table_1.csv" if len(groups) == 1 else f"table_1_{index + 1}.csv"
        write_atomically(folder / name, as_csv(build_rows(group)).encode())
    write_atomically(page, build_page(groups, drawn, films, notes, populations).encode())


def _populations(groups: Sequence[RunGroup]) -> list[PopulationView]:
    found = [read_population_view(run.path) for group in groups for run in group.runs]
    return [view for view in found if view is not None]


def _throughput(groups: Sequence[RunGroup], unit: Unit) -> list[Chart]:
    figures = (
        ("steps_per_second", "Steps per second", "steps / s"),
        ("samples_per_second", "Samples per second", "transitions / s"),
        ("updates_per_second", "Updates per second", "updates / s"),
        ("samples_per_insert", "Samples per insert", "draws per stored transition"),
        ("policy_lag", "Policy lag", "updates"),
        ("policy_loss", "Policy loss", "nats"),
        ("td_loss", "TD loss", "Huber loss of clipped reward"),
        ("value_loss", "Critic's loss", "half a squared error"),
        ("policy_gradient_loss", "Policy gradient loss", "advantage times nats"),
        ("distillation_loss", "Distillation", "nats"),
        ("entropy", "Entropy of the policy", "nats"),
        ("v_trace_clipped", "What V-trace cuts off", "share of the importance ratios"),
        ("effective_rank", "Effective rank of the features", "singular values"),
        ("gradient_cosine", "Interference of the games", "mean cosine of their gradients"),
    )
    charts = [look_chart(groups, key, unit, title=title, y_label=y) for key, title, y in figures]
    return [*charts, weights_chart(groups, unit)]


def _draw(charts: Sequence[Chart], folder: Path) -> list[DrawnChart]:
    """Draw the charts that have something to show; each also as PNG and CSV in the folder."""
    from views.report.drawing import DARK, LIGHT, draw, on_white
    from views.report.page import DrawnChart

    drawn = []
    for chart in charts:
        if chart.is_empty:
            continue
        light = draw(chart, LIGHT)
        write_atomically(folder / f"{chart.name}.png", on_white(light))
        write_atomically(folder / f"{chart.name}.csv", chart.as_csv().encode())
        drawn.append(DrawnChart(chart, light, draw(chart, DARK)))
    return drawn
