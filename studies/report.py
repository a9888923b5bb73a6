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
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from networks.atomic_file import write_atomically
from records.run_statistics import Estimate
from studies.records import UnitFiles
from studies.results import Results, UnitCurve, at_steps
from views.report.charts import Chart, Curve
from views.words import number, percent, score

_GRID_POINTS = 60
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
    study = results.study
    done, failed = 0, []
    for unit in (units := study.units()):
        record = UnitFiles.of(unit, study_dir).read()
        done += record is not None and record.is_done
        if record is not None and record.status not in (None, 0):
            failed.append(f"`{unit.name}`")
    parts = [
        f"# {study.title or name}",
        f"    python launch/study.py {name}",
        f"{len(study.arms)} arms, {len(study.seeds)} seeds, {len(units)} units of "
        f"`{study.command}`: {done} done"
        + (f", failed: {', '.join(failed)}" if failed else "")
        + ". 1 step = one decision of the agent; steps are of all games of a run together.",
    ]
    if not results.figures:
        return "\n\n".join([*parts, "No unit has recorded a test yet.", ""])
    parts += [
        "## Arms over games and seeds",
        _scale_in_words(results),
        _arms_table(results),
        "## Each game",
        *(_game_table(results, game) for game in results.games),
        "## Which arm is better",
        "Probability that a run of one arm ends with a higher score than one of the other "
        "(ties count half), mean over games.",
        _pairs_table(results),
        "## Learning curves",
        "Lines are means over seeds, bands reach from the lowest to the highest.",
        *(f"![{path.stem} over steps](figures/{path.name})" for path in pictures),
        note,
        "## Settings",
        _settings_table(results),
        "Intervals are 95 % by the stratified bootstrap over seeds; a single seed has none.",
        "",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _scale_in_words(results: Results) -> str:
    scale = {
        "none": "raw scores",
        "teacher": "scores, 0 = random play and 1 = the expert",
        "human": "scores, 0 = random play and 1 = a human",
    }[results.study.normalize]
    return f"Interquartile mean of the last test's {scale}."


def _arms_table(results: Results) -> str:
    rows = [
        [
            arm,
            _interval(results.estimate(arm, "normalized"), lambda x: number(x, 2)),
            str(sum(len(values) for values in results.by_game(arm, "final").values())),
        ]
        for arm in results.study.arms
    ]
    return _table(["arm", "interquartile mean", "curves"], rows)


def _game_table(results: Results, game: str) -> str:
    study = results.study
    threshold = results.thresholds.get(game)
    to_threshold = "steps to threshold" if threshold is None else f"steps to {score(threshold)}"
    rows = []
    for arm in study.arms:
        reached = results.by_game(arm, "steps_to_threshold")[game]
        runs = len(results.by_game(arm, "final")[game])
        steps = number(float(np.mean(reached))) if reached else "-"
        rows.append(
            [
                arm,
                _interval(results.estimate(arm, "final", game=game), score),
                ""
                if arm == study.reference_arm
                else _interval(results.difference(arm, game), score),
                _interval(results.estimate(arm, "area", game=game), score),
                _interval(results.estimate(arm, "jump_start", game=game), score),
                f"{steps} ({len(reached)} of {runs})",
            ]
        )
    heads = [
        game,
        "last test",
        f"minus {study.reference_arm}, same seeds",
        "mean on the way (area under the curve)",
        "first test",
        f"{to_threshold} (runs that got there)",
    ]
    return _table(heads, rows)


def _pairs_table(results: Results) -> str:
    rows = [
        [f"{pair.arm} > {pair.other}", _interval(pair.probability, percent)]
        for pair in results.improvements()
    ]
    return _table(["pair", "probability"], rows) if rows else "There is only one arm."


def _settings_table(results: Results) -> str:
    study = results.study
    shared = " ".join(f"`{name}: {value}`" for name, value in study.options.items())
    rows = [
        [arm, " ".join(f"`{name}: {value}`" for name, value in own.items()) or "as they are"]
        for arm, own in study.arms.items()
    ]
    return _table(["arm", f"options beside {shared or 'the defaults'}"], rows)


def _interval(found: Estimate | None, words: Callable[[float], str]) -> str:
    if found is None:
        return "-"
    if found.low is None or found.high is None:
        return words(found.value)
    return f"{words(found.value)} [{words(found.low)}, {words(found.high)}]"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines: list[Sequence[str]] = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


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
        lines = [
            _mean_line(
                arm,
                [c for c in results.curves if (c.arm, c.game) == (arm, game)],
                measure,
                index,
            )
            for index, arm in enumerate(results.study.arms)
        ]
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


def _mean_line(arm: str, curves: Sequence[UnitCurve], measure: str, index: int) -> Curve:
    """Mean over seeds where all of them have been tested, from the lowest to the highest."""
    runs = [points for curve in curves if (points := curve.points(measure))]
    if not runs:
        return Curve(label=arm, x=(), y=(), group=index, style=index)
    start, end = max(run[0][0] for run in runs), min(run[-1][0] for run in runs)
    # As many points as there are tests; more would only pretend to know what lies between them.
    count = 1 if end <= start else min(_GRID_POINTS, max(len(run) for run in runs))
    grid = np.linspace(min(start, end), end, count)
    values = np.stack([at_steps(run, grid) for run in runs])
    several = len(runs) > 1
    return Curve(
        label=arm,
        x=tuple((grid / 1000).tolist()),
        y=tuple(values.mean(0).tolist()),
        low=tuple(values.min(0).tolist()) if several else (),
        high=tuple(values.max(0).tolist()) if several else (),
        group=index,
        style=index,
    )


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
