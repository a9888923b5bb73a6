"""The report of a study: one Markdown page, its figures, and every number as CSV.

    DIR/report.md            tables and figures, fit for docs/ as it is
    DIR/figures/*.png        learning curves, one picture for each measure
    DIR/curves.csv           every test of every unit
    DIR/units.csv            one row for each unit and game
    DIR/arms.csv, pairs.csv  arms over seeds and games; how likely one beats another

Statistics are those of records/run_statistics.py; pictures those of views/report/drawing.py.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from networks.atomic_file import write_atomically
from studies.records import UnitFiles
from studies.results import Results
from views.report.charts import Chart
from views.report.curves import over_runs
from views.templates import render
from views.words import number, percent, score

_COLUMNS = 3
_TEST_COLUMNS = ("seconds", "steps", "updates")


def write_report(results: Results, study_dir: Path, *, name: str) -> Path:
    """Write everything and return the page's path; raises OSError if the folder cannot be."""
    for file, rows in _csv_files(results).items():
        write_atomically(study_dir / file, _as_csv(rows).encode())
    pictures, note = _draw(results, study_dir / "figures")
    page = study_dir / "report.md"
    write_atomically(page, _page(results, study_dir, name, pictures, note).encode())
    return page


def _page(results: Results, study_dir: Path, name: str, pictures: Sequence[Path], note: str) -> str:
    found = [(unit, UnitFiles.of(unit, study_dir).read()) for unit in results.study.units()]
    failed = [unit.name for unit, record in found if record and record.status not in (None, 0)]
    return render(
        "studies",
        "report.md.jinja",
        name=name,
        study=results.study,
        results=results,
        done=sum(record is not None and record.is_done for _, record in found),
        failed=[f"`{unit}`" for unit in failed],
        pictures=pictures,
        note=f"{note}\n" if note else "",
        two_digits=partial(number, digits=2),
        score=score,
        percent=percent,
    )


def _csv_files(results: Results) -> dict[str, list[dict[str, Any]]]:
    arms = []
    for arm in results.study.arms:
        for name in ("normalized", "final", "area", "jump_start"):
            for game in [None, *results.games] if name == "normalized" else results.games:
                if (found := results.estimate(arm, name, game=game)) is not None:
                    arms.append({"arm": arm, "figure": name, "game": game or "", **asdict(found)})
    return {
        "curves.csv": [
            {
                "arm": curve.arm,
                "game": curve.game,
                "seed": curve.seed,
                **{column: getattr(test, column) for column in _TEST_COLUMNS},
                **test.figures,
            }
            for curve in results.curves
            for test in curve.tests
        ],
        "units.csv": [asdict(figures) for figures in results.figures],
        "arms.csv": arms,
        "pairs.csv": [
            {"arm": pair.arm, "other": pair.other, **asdict(pair.probability)}
            for pair in results.improvements()
        ],
    }


def _as_csv(rows: Sequence[dict[str, Any]]) -> str:
    text = io.StringIO()
    columns = list(dict.fromkeys(column for row in rows for column in row))
    write = csv.DictWriter(text, columns, lineterminator="\n")
    write.writeheader()
    write.writerows(rows)
    return text.getvalue()


def charts(results: Results, measure: str) -> list[Chart]:
    """One measure over steps, a chart for each game, a line for each arm."""
    found = []
    for game in results.games:
        lines = []
        for index, arm in enumerate(results.study.arms):
            own = [c for c in results.curves if (c.arm, c.game) == (arm, game)]
            runs = [[(x / 1000, y) for x, y in curve.points(measure)] for curve in own]
            lines.append(replace(over_runs(arm, runs, index), label=arm, style=index))
        lines = [line for line in lines if line.x]
        if lines:
            ends = ", ".join(f"{line.label} {line.y[-1]:.4g}" for line in lines)
            found.append(
                Chart(
                    name=f"{measure}_{game}",
                    title=f"{game}: {measure}",
                    alt=f"{measure} in {game} over steps; at the end: {ends}.",
                    x_label="thousand steps",
                    y_label=measure,
                    curves=tuple(lines),
                )
            )
    return found


def _draw(results: Results, folder: Path) -> tuple[list[Path], str]:
    """Pictures of all measures, or none and a line that says what is missing to draw them."""
    try:
        from views.report.drawing import LIGHT, draw_grid, on_white
    except ImportError:
        return [], "No figures: matplotlib is not installed (`pip install '.[report]'`)."
    folder.mkdir(parents=True, exist_ok=True)
    pictures = []
    for measure in results.study.measures:
        if panels := charts(results, measure):
            path = folder / f"{measure}.png"
            columns = min(_COLUMNS, len(panels))
            write_atomically(path, on_white(draw_grid(panels, LIGHT, columns=columns)))
            pictures.append(path)
    return pictures, ""
