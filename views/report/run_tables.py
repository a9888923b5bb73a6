"""The tables of a report's runs, as data: how far, how fast, limited by what, on which machine."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from records.faults import num_mended
from records.run_record import RunRecord
from records.run_record import number as as_number
from records.verdict import LIMITS, Limit, typical_verdict
from views.report.tables import Table
from views.words import NONE, duration, number, percent

RATES = ("steps_per_second", "samples_per_second", "updates_per_second")
_SECRET_PATH = re.compile(r"^(\s*\w*token\w*: ).+$", re.MULTILINE)


def runs_table(runs: Sequence[RunRecord]) -> Table:
    """A row for each run: how far it is, how fast it was, what limited it, what broke."""
    return Table(
        "Runs; steps are of all games together",
        [
            "run", "seed", "preset", "state", "steps", "updates", "wall-clock", "steps/s",
            "samples/s", "updates/s", "limited by", "faults",
        ],
        [_run_cells(run) for run in runs],
    )  # fmt: skip


def _run_cells(run: RunRecord) -> list[str]:
    last = run.last
    faults = num_mended({key.removeprefix("faults/"): x for key, x in last.items()})
    return [
        run.name,
        NONE if run.seed is None else str(run.seed),
        str(run.meta.get("preset") or NONE),
        "finished" if run.is_finished else "not finished",
        number(last.get("steps")),
        number(last.get("updates")),
        duration(seconds_of(run)),
        *(number(rate_of(run, name), 1) for name in RATES),
        _limited_by(run),
        number(faults),
    ]


def rate_of(run: RunRecord, name: str) -> float | None:
    """The summary's figure; while there is none, the mean of the looks."""
    throughput = (run.summary or {}).get("throughput")
    known = as_number(throughput.get(name)) if isinstance(throughput, Mapping) else None
    return _mean([y for _, y in run.series("seconds", name)]) if known is None else known


def _limited_by(run: RunRecord) -> str:
    limit, share = _most_common_limit(run)
    return NONE if limit is None else f"{limit} ({percent(share)} of looks)"


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


@dataclass(frozen=True, slots=True)
class RunDetails:
    """What is folded away below the table of runs."""

    name: str
    machine: Table
    # Reasons for the verdict of most looks; None where there is none.
    limit: Table | None
    config: str


def run_details(run: RunRecord) -> RunDetails:
    """Settings, machine and versions of one run."""
    meta = run.meta
    facts: list[list[str]] = []
    if isinstance(argv := meta.get("argv"), list):
        facts.append(["command", " ".join(map(str, argv))])
    facts += [["started", str(meta.get("created", NONE))]]
    facts += [["seed", NONE if run.seed is None else str(run.seed)]]
    for name in ("hardware", "versions", "git"):
        if isinstance(part := meta.get(name), Mapping):
            facts += [[f"{name}: {key}", _fact(value)] for key, value in part.items()]
    machine = Table(f"{run.name}: machine and versions", ["", "value"], facts, is_words=True)
    return RunDetails(run.name, machine, _limit_table(run), _config_text(run))


def _limit_table(run: RunRecord) -> Table | None:
    """What the verdict of most looks rests on, and what to change."""
    limit, share = _most_common_limit(run)
    verdict = None if limit is None else typical_verdict(run.looks, limit)
    if verdict is None:
        return None
    facts = [
        ["limited by", f"{verdict.limit}, at {percent(share)} of looks"],
        ["why, at a typical one", verdict.reason],
        ["what to change", verdict.advice],
        # All numbers of a verdict are shares of time, but for the actors that there are none of.
        *(
            [name, number(value) if name == "actors" else percent(value)]
            for name, value in verdict.numbers.items()
        ),
    ]
    caption = f"{run.name}: what limited it; shares of time, means over the looks that said so"
    return Table(caption, ["", "value"], facts, is_words=True)


def _fact(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return NONE if value is None else str(value)


def _config_text(run: RunRecord) -> str:
    """The settings as they were written, but for paths of tokens: the page is made to be sent."""
    try:
        text = (run.path / "config.yaml").read_text(encoding="utf-8")
    except (OSError, ValueError):
        text = json.dumps(run.config, indent=2, default=str)
    return _SECRET_PATH.sub(r"\1(not shown)", text)


def seconds_of(run: RunRecord) -> float:
    """Seconds from start to end, all sessions together; so far, while there is no end."""
    seconds = as_number((run.summary or {}).get("wall_seconds"))
    if seconds is not None:
        return seconds
    return max((row.get("wall_seconds", row.get("seconds", 0.0)) for row in run.looks), default=0.0)


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
