"""The tables of a report, as HTML: all games together, each game, the paper's table, the runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence

from records.run_record import RunRecord, Scores
from records.run_statistics import AGGREGATES, Estimate, estimate
from records.verdict import LIMITS, Limit, typical_verdict
from views.report.charts import normalized_of, ratios_of
from views.report.groups import RunGroup
from views.report.html import escape, table
from views.report.paper import OurRow, build_rows, describe_tests
from views.words import duration, number, percent, score

_AGGREGATE_NAMES = {
    "iqm": "interquartile mean",
    "mean": "mean",
    "median": "median",
    "geometric_mean": "geometric mean",
    "capped_mean": "mean, each game capped at 100%",
}
_RATES = ("steps_per_second", "samples_per_second", "updates_per_second")


def aggregate_tables(groups: Sequence[RunGroup]) -> list[str]:
    """Of the last tests of all games, one for each group."""
    return [_aggregates(group, is_alone=len(groups) == 1) for group in groups]


def _aggregates(group: RunGroup, *, is_alone: bool) -> str:
    columns = [
        {game: ratios_of(group, game) for game in group.games},
        {game: normalized_of(group, game, "teacher") for game in group.games},
        {game: normalized_of(group, game, "human") for game in group.games},
    ]
    said = (
        "One run: there is no interval over seeds, and what differs from it may be chance."
        if len(group.runs) < 2
        else f"{len(group.runs)} runs; in brackets the 95% interval over seeds (stratified "
        "bootstrap, 2,000 repetitions)."
    )
    return table(
        f"Scores of the last test over all games{'' if is_alone else f', {group.label}'}. {said}",
        ["", "percent of the expert's score", "teacher-normalized", "human-normalized"],
        [
            [
                _AGGREGATE_NAMES[name],
                *(_interval(estimate(scores, name), percent) for scores in columns),
            ]
            for name in AGGREGATES
        ],
    )


def _interval(found: Estimate | None, words: Callable[[float], str]) -> str:
    if found is None:
        return "-"
    if found.low is None or found.high is None:
        return words(found.value)
    return f"{words(found.value)} [{words(found.low)}, {words(found.high)}]"


def games_table(group: RunGroup) -> str:
    """Scores of the last test, game by game."""
    runs = group.runs
    columns: dict[str, Callable[[str], str]] = {
        "random": lambda game: score(runs[0].reference(game, "random")),
        "human": lambda game: score(runs[0].reference(game, "human")),
        "expert's card": lambda game: _spread(runs[0].teacher(game)),
        "its episodes": lambda game: number(runs[0].teacher(game).episodes or None),
        "expert, tried": lambda game: _spread(runs[0].tried_teacher(game)),
        "student": lambda game: _student(group, game),
        "episodes": lambda game: number(sum(r.student(game).episodes for r in runs) or None),
        "percent of expert": lambda game: percent(_mean(ratios_of(group, game))),
        "teacher-normalized": lambda game: percent(_mean(normalized_of(group, game, "teacher"))),
        "human-normalized": lambda game: percent(_mean(normalized_of(group, game, "human"))),
        "agreement": lambda game: percent(_mean_figure(runs, game, "agreement")),
        "KL, nats": lambda game: number(_mean_figure(runs, game, "kl"), 3),
    }
    if not any(run.teacher_tests[game] for run in runs for game in run.games):
        del columns["expert, tried"]
    of_runs = (
        "+- is the standard deviation over episodes"
        if len(runs) == 1
        else f"mean of {len(runs)} runs, in brackets the 95% interval over seeds"
    )
    return table(
        f"Raw scores of whole episodes in the last test of {group.label}; student: {of_runs}",
        ["game", *columns],
        [[game, *(value(game) for value in columns.values())] for game in group.games],
    )


def _mean_figure(runs: Sequence[RunRecord], game: str, name: str) -> float | None:
    return _mean([x for run in runs if (x := run.figure(game, name)) is not None])


def _student(group: RunGroup, game: str) -> str:
    if len(group.runs) == 1:
        return _spread(group.runs[0].student(game))
    return _interval(estimate({game: group.scores(game)}, "mean"), score)


def _spread(scores: Scores) -> str:
    if scores.mean is None:
        return "-"
    return score(scores.mean) + (f" +- {score(scores.std)}" if scores.std is not None else "")


def paper_table(group: RunGroup) -> str:
    """The paper's first table, and the group's runs by the same statistics."""
    return table(
        f"{group.label}: {describe_tests(group)}",
        [
            "game", "expert mean", "expert max", "student mean", "student max", "% mean", "% max",
            "expert mean", "student mean", "student best test", "% mean", "% best test",
        ],
        [_paper_row(row) for row in build_rows(group)],
        groups=[("", 1), ("Actor-Mimic paper, table 1 (recalled)", 6), ("this report", 5)],
    )  # fmt: skip


def _paper_row(row: OurRow) -> list[str]:
    paper = row.paper
    theirs = ["-"] * 6
    if paper is not None:
        theirs = [
            f"{paper.expert_mean:,.5g}", f"{paper.expert_max:,.6g}", f"{paper.student_mean:,.6g}",
            f"{paper.student_max:,.6g}", f"{100 * paper.mean_ratio:.4g}%",
            f"{100 * paper.max_ratio:.4g}%",
        ]  # fmt: skip
    return [
        row.game,
        *theirs,
        score(row.expert_mean),
        _interval(row.student_mean, score),
        _interval(row.student_best, score),
        percent(row.mean_ratio),
        percent(row.best_ratio),
    ]


def runs_table(runs: Sequence[RunRecord]) -> str:
    """One row a run: how far it is, how fast it was, what broke."""
    return table(
        "Runs; steps are of all games together",
        [
            "run", "seed", "preset", "state", "steps", "updates", "wall-clock", "steps/s",
            "samples/s", "updates/s", "limited by", "faults",
        ],
        [_run_row(run) for run in runs],
    )  # fmt: skip


def _run_row(run: RunRecord) -> list[str]:
    throughput = (run.summary or {}).get("throughput")
    rates: Mapping[str, object] = throughput if isinstance(throughput, Mapping) else {}
    last = run.last
    faults = sum(int(x) for key, x in last.items() if key.startswith("faults/"))
    return [
        run.name,
        "-" if run.seed is None else str(run.seed),
        str(run.meta.get("preset") or "-"),
        "finished" if run.is_finished else "not finished",
        number(last.get("steps")),
        number(last.get("updates")),
        duration(seconds_of(run)),
        *(_rate(rates.get(name), run, name) for name in _RATES),
        _limited_by(run),
        number(faults),
    ]


def _limited_by(run: RunRecord) -> str:
    """The verdict of most looks, with its part of them."""
    limit, share = _most_common_limit(run)
    return "-" if limit is None else f"{limit} ({share:.0%} of looks)"


def _most_common_limit(run: RunRecord) -> tuple[Limit | None, float]:
    """The verdict of most looks and its part of those that have one; None where none has."""
    shares = {
        name: _mean([y for _, y in run.series("seconds", f"limit/{name}")]) for name in LIMITS
    }
    known = {name: share for name, share in shares.items() if share is not None}
    if not known:
        return None, 0.0
    limit = max(known, key=lambda name: known[name])
    return limit, known[limit]


def _rate(value: object, run: RunRecord, name: str) -> str:
    """From the summary; while there is none, the mean of the looks."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return number(float(value), 1)
    points = [y for _, y in run.series("seconds", name)]
    return number(_mean(points), 1)


def run_details(run: RunRecord) -> str:
    """Settings, machine and versions of one run, folded."""
    meta = run.meta
    facts: list[list[str]] = []
    if isinstance(argv := meta.get("argv"), list):
        facts.append(["command", " ".join(map(str, argv))])
    facts += [["started", str(meta.get("created", "-"))]]
    facts += [["seed", "-" if run.seed is None else str(run.seed)]]
    for name in ("hardware", "versions", "git"):
        if isinstance(part := meta.get(name), Mapping):
            facts += [[f"{name}: {key}", _fact(value)] for key, value in part.items()]
    return (
        f"<details><summary>{escape(run.name)}: machine, versions, limit, settings</summary>"
        f"{table(f'{run.name}: machine and versions', ['', 'value'], facts, is_words=True)}"
        f"{_limit_table(run)}"
        f"<h3>Settings (config.yaml)</h3>"
        f'<pre tabindex="0">{escape(_config_text(run))}</pre></details>'
    )


def _limit_table(run: RunRecord) -> str:
    """On what the verdict of most looks rests, and what to change; empty without one."""
    limit, share = _most_common_limit(run)
    verdict = None if limit is None else typical_verdict(run.looks, limit)
    if verdict is None:
        return ""
    facts = [
        ["limited by", f"{verdict.limit}, at {share:.0%} of looks"],
        ["why, at a typical one", verdict.reason],
        ["what to change", verdict.advice],
        # All numbers of a verdict are shares of time, but for that of actors where there are none.
        *(
            [name, number(value) if name == "actors" else percent(value)]
            for name, value in verdict.numbers.items()
        ),
    ]
    caption = f"{run.name}: what limited it; shares of time, means over the looks that said so"
    return table(caption, ["", "value"], facts, is_words=True)


def _fact(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "-" if value is None else str(value)


def _config_text(run: RunRecord) -> str:
    try:
        return (run.path / "config.yaml").read_text(encoding="utf-8")
    except (OSError, ValueError):
        return json.dumps(run.config, indent=2, default=str)


def reading_table() -> str:
    """What the figures mean."""
    facts = [
        ["percent of expert", "student / expert, the paper's percentage; games in which the "
         "expert's score is not positive have none"],
        ["teacher-normalized", "(student - random) / (expert - random)"],
        ["human-normalized", "(student - random) / (human - random), with published scores"],
        ["interquartile mean", "of the middle half of all games and runs (Agarwal et al. 2021)"],
        ["geometric mean", "of the games' means; a dash where one of them is not positive"],
        ["interval", "2.5th to 97.5th percentile of the stratified bootstrap: every game draws its "
         "own runs with replacement; needs two runs"],
        ["band in a curve", "from the lowest to the highest run"],
        ["agreement", "share of states of the student's test in which both prefer the same action"],
        ["KL", "from the expert's softened policy to the student's, over the same states"],
    ]  # fmt: skip
    return table("Figures and what they mean", ["figure", "meaning"], facts, is_words=True)


def seconds_of(run: RunRecord) -> float:
    """From start to end, all sessions; so far, while there is no end."""
    seconds = (run.summary or {}).get("wall_seconds")
    if isinstance(seconds, int | float) and not isinstance(seconds, bool):
        return float(seconds)
    return max((row.get("seconds", 0.0) for row in run.looks), default=0.0)


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def plural(count: int, word: str) -> str:
    """2 runs, 1 run."""
    return f"{count} {word}" if count == 1 else f"{count} {word}s"
