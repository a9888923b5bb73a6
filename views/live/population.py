"""What the live page is told of a population, by its folder or that of one of its members."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from records.population import MemberRecord, PopulationFiles, ancestry


def find_population(run: Path) -> PopulationFiles | None:
    """The population whose folder this is, or whose member has it; None for a run by itself."""
    for folder in (run, run.parent.parent):
        files = PopulationFiles(folder)
        if files.is_population:
            return files
    return None


def describe_population(files: PopulationFiles) -> dict[str, Any] | None:
    """Its members, and the line of ancestors of the best one; None before anything is recorded."""
    records = files.read_records()
    if not records:
        return None
    outcome = files.read_summary()
    scores = {number: _score(record) for number, record in records.items()}
    if outcome is not None:
        # The last tests come after the last comparison.
        scores |= {int(number): ending.score for number, ending in outcome.members.items()}
    if outcome is not None and outcome.student_of in records:
        best = outcome.student_of
    else:
        best = max(records, key=lambda n: (scores[n] is not None, scores[n] or 0.0))
    line = ancestry(records, best)
    return {
        "name": files.run.name,
        "tuned": list(records[best].incarnations[-1].settings),
        "members": [
            {
                "member": number,
                "comparisons": len(record.boundaries),
                "score": scores[number],
                "copies": sum(
                    i.parent is not None and i.parent.member != number for i in record.incarnations
                ),
                "settings": record.incarnations[-1].settings,
                "is_best": number == best,
            }
            for number, record in records.items()
        ],
        "line": [
            {"member": stretch.member, "steps": stretch.incarnation.steps} for stretch in line
        ],
    }


def members_silent_s(files: PopulationFiles, *, now: float) -> float | None:
    """Seconds since any member has written figures; None if none has."""
    written = [path.stat().st_mtime for path in files.run.glob("members/*/metrics.jsonl")]
    return max(0.0, now - max(written)) if written else None


def _score(record: MemberRecord) -> float | None:
    return record.boundaries[-1].score if record.boundaries else None
