"""Charts of a report's scores: percent of the expert, learning curves, progress of all games."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from games.spec import normalized_score
from records.recorded_tests import expert_ratio, summarize_tests
from records.run_record import RecordedTest, RunRecord
from records.run_statistics import estimate, interquartile_mean
from views.report.charts import Bar, Chart, Curve, Level
from views.report.curves import Over, Points, Unit, over_runs, smooth, thin_out
from views.report.groups import RunGroup
from views.report.paper import PAPER_TABLE


def percent_of_expert(groups: Sequence[RunGroup]) -> Chart:
    """Figure 6 of the paper: what part of its expert's score the student reaches in each game.

    By the statistics of the paper's table, as in views/report/paper.py: the mean of the last
    tests and the best of all, both divided by the mean on the expert's card. The paper's best test
    is divided by its expert's best.
    """
    bars: list[Bar] = []
    for game in _games(groups):
        own = [bar for index, group in enumerate(groups) for bar in _own_bars(group, game, index)]
        bars += own
        if own and game in PAPER_TABLE:
            row = PAPER_TABLE[game]
            paper = Bar(
                category=game, label="paper (recalled), mean", value=100 * row.mean_ratio, group=-1
            )
            best = "paper (recalled), best test / expert's best"
            bars += [paper, replace(paper, label=best, value=100 * row.max_ratio, is_best=True)]
    values = [
        f"{bar.category} {bar.value:.0f}%{' in the best test' if bar.is_best else ''}"
        for bar in bars
        if bar.group == 0
    ]
    return Chart(
        name="figure_6",
        title="Percent of the expert's score",
        alt=f"Student's score as percent of its expert's: {', '.join(values) or 'none known'}.",
        x_label="% of expert",
        bars=tuple(bars),
    )


def _own_bars(group: RunGroup, game: str, index: int) -> Iterator[Bar]:
    """Mean of the last tests and best test of one group; none where there is no percentage."""
    found = [(run.teacher(game).mean, summarize_tests(run, game)) for run in group.runs]
    means = [expert_ratio(scores.mean, expert) for expert, scores in found if scores]
    bests = [expert_ratio(scores.best, expert) for expert, scores in found if scores]
    for name, ratios in (("mean", means), ("best test", bests)):
        over_runs = estimate({game: [x for x in ratios if x is not None]}, "mean")
        if over_runs is not None:
            yield Bar(
                category=game,
                label=f"{group.label}, {name}",
                value=100 * over_runs.value,
                low=None if over_runs.low is None else 100 * over_runs.low,
                high=None if over_runs.high is None else 100 * over_runs.high,
                group=index,
                is_best=name != "mean",
            )


def learning_curve(groups: Sequence[RunGroup], game: str, over: Over, unit: Unit) -> Chart:
    """Figure 1 of the paper: the student's tests in one game, with its expert's scores as lines.

    Over time, a test stands where it was finished: its weights are older than that.
    """
    curves: list[Curve] = []
    for index, group in enumerate(groups):
        runs = [run for run in group.runs if game in run.games]
        tests = [_test_points(run.tests.get(game, ()), over, unit) for run in runs]
        # Beside those of other settings they would only be in the way.
        if len(groups) == 1 or not any(tests):
            label = "training episodes, exploring" if len(groups) == 1 else group.label
            curves.append(_training_returns(runs, game, over, unit, label, index))
        label = "student" if len(groups) == 1 else group.label
        curves.append(over_runs(label, tests, index))
    last = [curve.y[-1] for curve in curves if curve.x and not curve.is_faint]
    said = f"ends at {last[0]:.4g}" if last else "has no test yet"
    levels = _levels([run for group in groups for run in group.runs], game)
    return Chart(
        name=f"figure_1_{game}" if over == "steps" else f"figure_1_{game}_time",
        title=game,
        alt=f"Learning curve in {game} over {unit.name}: the student {said}; "
        + "; ".join(f"{level.label} {level.y:.4g}" for level in levels)
        + ".",
        x_label=unit.name,
        y_label="score",
        curves=tuple(curve for curve in curves if curve.x),
        levels=tuple(levels),
    )


def _levels(runs: Sequence[RunRecord], game: str) -> list[Level]:
    """What a game's curve is compared with: its expert, else human play and the own best test."""
    played = [run for run in runs if game in run.games]
    for run in played:
        if (teacher := run.teacher(game)).mean is not None:
            levels = [Level(label="expert, mean", y=teacher.mean)]
            if teacher.max is not None:
                levels.append(Level(label="expert, best episode", y=teacher.max, is_dashed=True))
            return levels
    levels = []
    human = next((x for run in played if (x := run.reference(game, "human")) is not None), None)
    if human is not None:
        levels.append(Level(label="human", y=human))
    bests = [tests.best for run in played if (tests := summarize_tests(run, game)) is not None]
    if bests:
        levels.append(Level(label="own best test", y=max(bests), is_dashed=True))
    return levels


def _test_points(tests: Sequence[RecordedTest], over: Over, unit: Unit) -> Points:
    points = [
        (test.steps if over == "steps" else test.seconds, test.figures.get("mean"))
        for test in tests
    ]
    return [(x / unit.size, y) for x, y in points if x is not None and y is not None]


def _training_returns(
    runs: Sequence[RunRecord], game: str, over: Over, unit: Unit, label: str, index: int
) -> Curve:
    """A running mean of what training episodes scored; single episodes scatter too much to read."""
    key = "steps" if over == "steps" else "seconds"
    points = sorted(point for run in runs for point in run.series(key, f"game/{game}/return"))
    x, y = thin_out(smooth([(x / unit.size, y) for x, y in points]))
    return Curve(label=label, x=x, y=y, group=index, is_faint=True)


def progress_curves(groups: Sequence[RunGroup], over: Over, unit: Unit) -> Chart:
    """All games together, over steps or time: the interquartile mean of normalized scores."""
    curves = []
    for index, group in enumerate(groups):
        runs = [_progress_points(run, over, unit) for run in group.runs]
        label = "all games" if len(groups) == 1 else group.label
        curves.append(over_runs(label, runs, index))
        if len(groups) == len(group.runs) == 1:
            for game in group.games:
                tests = _normalized_tests(group.runs[0], game)
                points = sorted((_position(test, over, unit), value) for test, value in tests)
                x, y = thin_out(points)
                curves.append(Curve(label=game, x=x, y=y, group=index, is_faint=True))
    shown = tuple(curve for curve in curves if curve.x)
    last = [f"{curve.label} {curve.y[-1]:.2f}" for curve in shown if not curve.is_faint]
    return Chart(
        name=f"progress_{over}",
        title=f"Teacher-normalized score over {unit.name}",
        alt="Interquartile mean over games of (student - random) / (expert - random) over "
        f"{unit.name}; at the end: {', '.join(last) or 'no test yet'}.",
        x_label=unit.name,
        y_label="0 random, 1 expert",
        curves=shown,
        levels=(Level(label="expert", y=1.0),) if shown else (),
    )


def _progress_points(run: RunRecord, over: Over, unit: Unit) -> Points:
    """One point for every test of all games; a test of some of them only is left out."""
    by_version: dict[object, list[tuple[float, float]]] = {}
    for game in run.games:
        for test, value in _normalized_tests(run, game):
            version = (test.steps, test.updates)
            by_version.setdefault(version, []).append((_position(test, over, unit), value))
    return [
        (max(x for x, _ in points), interquartile_mean([y for _, y in points]))
        for points in by_version.values()
        if len(points) == len(run.games)
    ]


def _position(test: RecordedTest, over: Over, unit: Unit) -> float:
    value = test.steps if over == "steps" else test.seconds
    assert value is not None
    return value / unit.size


def _normalized_tests(run: RunRecord, game: str) -> Iterator[tuple[RecordedTest, float]]:
    """A game's tests whose score, steps and time are known; 0 is random play, 1 the expert."""
    random, teacher = run.reference(game, "random"), run.teacher(game).mean
    for test in run.tests.get(game, ()):
        mean = test.figures.get("mean")
        if mean is None or test.steps is None or test.seconds is None:
            continue
        value = normalized_score(mean, random, teacher)
        if value is not None:
            yield test, value


def _games(groups: Sequence[RunGroup]) -> list[str]:
    """The games of all groups in their order, each once."""
    return list(dict.fromkeys(game for group in groups for game in group.games))
