"""The tables of a report's scores, as data: all games together, each game, the paper's table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from records.run_record import RunRecord, Scores
from records.run_statistics import AGGREGATES, estimate
from views.report.groups import RunGroup
from views.report.paper import OurRow, build_rows, describe_tests
from views.report.scores import normalized_of, ratios_of
from views.words import NONE, estimated, number, percent, plural, score, spread

_AGGREGATE_NAMES = {
    "iqm": "interquartile mean",
    "mean": "mean",
    "median": "median",
    "geometric_mean": "geometric mean",
    "capped_mean": "mean, each game capped at 100%",
}


@dataclass(frozen=True, slots=True)
class Table:
    """A table as the page's template draws it; the first column heads the rows."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    # Headings above the headings, with the number of columns of each.
    bands: Sequence[tuple[str, int]] = ()
    # Whether the cells hold words rather than numbers.
    is_words: bool = False

    @property
    def labels(self) -> Sequence[str]:
        """What stands before each cell where the headings do not fit, with the band it is in."""
        if not self.bands:
            return self.head
        bands = [text for text, span in self.bands for _ in range(span)]
        return [f"{band}: {name}" for band, name in zip(bands, self.head, strict=True)]

    @property
    def is_empty(self) -> bool:
        """Whether no cell says anything."""
        return all(cell == NONE for _, *cells in self.rows for cell in cells)

    def without_empty_columns(self) -> Table:
        """The same without columns in which no row has a figure."""
        columns = list(zip(*self.rows, strict=True))
        kept = [i for i, cells in enumerate(columns) if i == 0 or set(cells) != {NONE}]
        rows = [[row[i] for i in kept] for row in self.rows]
        return Table(self.caption, [self.head[i] for i in kept], rows, is_words=self.is_words)


def aggregates_table(group: RunGroup, *, is_alone: bool) -> Table:
    """The last tests of all games together."""
    columns = {
        "percent of expert": {g: ratios_of(group, g) for g in group.games},
        "teacher-normalized": {g: normalized_of(group, g, "teacher") for g in group.games},
        "human-normalized": {g: normalized_of(group, g, "human") for g in group.games},
    }
    said = (
        "One run: there is no interval over seeds, and what differs from it may be chance."
        if len(group.runs) < 2
        else f"{plural(len(group.runs), 'run')}; in brackets the 95% interval over seeds "
        "(stratified bootstrap, 2,000 repetitions)."
    )
    return Table(
        f"Scores of the last test over all games{'' if is_alone else f', {group.label}'}. {said}",
        ["", *columns],
        [
            [
                _AGGREGATE_NAMES[name],
                *(estimated(estimate(scores, name), percent) for scores in columns.values()),
            ]
            for name in AGGREGATES
        ],
    ).without_empty_columns()


def games_table(group: RunGroup) -> Table:
    """Scores of the last test, game by game; without columns that no game has a figure for."""
    columns = _game_columns(group)
    of_runs = (
        "+- is the standard deviation over episodes"
        if len(group.runs) == 1
        else f"mean of {len(group.runs)} runs, in brackets the 95% interval over seeds"
    )
    return Table(
        f"Raw scores of whole episodes in the last test of {group.label}; student: {of_runs}",
        ["game", *columns],
        [[game, *(value(game) for value in columns.values())] for game in group.games],
    ).without_empty_columns()


def _game_columns(group: RunGroup) -> Mapping[str, Callable[[str], str]]:
    runs, first = group.runs, group.runs[0]
    rows = {row.game: row for row in build_rows(group)}
    return {
        "random": lambda game: score(first.reference(game, "random")),
        "human": lambda game: score(first.reference(game, "human")),
        "expert's card": lambda game: _spread(first.teacher(game)),
        "its episodes": lambda game: number(first.teacher(game).episodes or None),
        "expert, tried": lambda game: _spread(first.tried_teacher(game)),
        "student": lambda game: _student(group, game),
        "episodes": lambda game: number(sum(r.student(game).episodes for r in runs) or None),
        "best test": lambda game: estimated(rows[game].student_best, score),
        "percent of expert": lambda game: percent(_mean(ratios_of(group, game))),
        "teacher-normalized": lambda game: percent(_mean(normalized_of(group, game, "teacher"))),
        "human-normalized": lambda game: percent(_mean(normalized_of(group, game, "human"))),
        "teachers' weights": lambda game: _weights(first, game),
        "agreement": lambda game: percent(_mean_figure(runs, game, "agreement")),
        "KL, nats": lambda game: number(_mean_figure(runs, game, "kl"), 3),
    }


def _weights(run: RunRecord, game: str) -> str:
    """Last lambda of each teacher."""
    start = f"game/{game}/distillation_weight"
    weights = [run.last[key] for key in sorted(run.last) if key.startswith(start)]
    # Where another game has more teachers, this one has further ones without weight.
    while weights and not weights[-1] and (len(weights) > 1 or run.teacher(game).mean is None):
        weights.pop()
    return ", ".join(f"{weight:.3g}" for weight in weights) or NONE


def _mean_figure(runs: Sequence[RunRecord], game: str, name: str) -> float | None:
    return _mean([x for run in runs if (x := run.figure(game, name)) is not None])


def _student(group: RunGroup, game: str) -> str:
    if len(group.runs) == 1:
        return _spread(group.runs[0].student(game))
    return estimated(estimate({game: group.scores(game)}, "mean"), score)


def _spread(scores: Scores) -> str:
    return spread(scores.mean, scores.std)


def paper_table(group: RunGroup) -> Table | None:
    """The paper's first table beside the group's runs; None where they share no game."""
    rows = [row for row in build_rows(group) if row.paper is not None]
    if not rows:
        return None
    return Table(
        f"{group.label}: {describe_tests(group)}",
        [
            "game", "expert mean", "expert max", "student mean", "student max", "% mean", "% max",
            "expert mean", "student mean", "student best test", "% mean", "% best test",
        ],
        [_paper_cells(row) for row in rows],
        bands=[("", 1), ("Actor-Mimic paper, table 1 (recalled)", 6), ("this report", 5)],
    )  # fmt: skip


def _paper_cells(row: OurRow) -> list[str]:
    paper = row.paper
    assert paper is not None
    return [
        row.game,
        f"{paper.expert_mean:,.5g}",
        f"{paper.expert_max:,.6g}",
        f"{paper.student_mean:,.6g}",
        f"{paper.student_max:,.6g}",
        f"{100 * paper.mean_ratio:.4g}%",
        f"{100 * paper.max_ratio:.4g}%",
        score(row.tests.teacher),
        estimated(row.student_mean, score),
        estimated(row.student_best, score),
        percent(row.mean_ratio),
        percent(row.best_ratio),
    ]


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
