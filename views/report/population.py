"""What a report says of a population: its members' scores and settings, and who came from whom.

Steps are those of one member, all games together. The student's line goes along its ancestors.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from records.population import (
    Incarnation,
    MemberRecord,
    PopulationFiles,
    PopulationSummary,
    Stretch,
    ancestry,
)
from views.report.charts import Chart, Curve
from views.report.curves import Points, Unit
from views.report.tables import Table
from views.words import NONE, number

_THE_LINE = "the student's ancestors"


@dataclass(frozen=True, slots=True)
class PopulationView:
    """A population as its folder has it, ended or not."""

    records: Mapping[int, MemberRecord]
    # None for one that has not ended.
    outcome: PopulationSummary | None
    # Oldest first; of the member with the best newest score as long as there is no student.
    line: Sequence[Stretch]

    @property
    def student_of(self) -> int:
        """Number of the member at the end of the line."""
        return self.line[-1].member

    @property
    def tuned(self) -> tuple[str, ...]:
        """Names of the tuned settings."""
        return tuple(self.line[-1].incarnation.settings)

    def charts(self) -> list[Chart]:
        """Scores, then every tuned setting, over the steps of a member."""
        steps = max(map(self._end, self.records))
        unit = Unit("million steps", 1e6) if steps >= 2e5 else Unit("thousand steps", 1e3)
        return [
            self._chart(
                "population_score",
                "Score of each member",
                "normalized score",
                {n: self._scores(n) for n in self.records},
                self._line_scores(),
                unit,
            ),
            *(self._setting_chart(name, unit) for name in self.tuned),
        ]

    def _setting_chart(self, name: str, unit: Unit) -> Chart:
        return self._chart(
            f"population_{name}",
            name,
            name.rpartition(".")[2],
            {n: list(self._values(n, name)) for n in self.records},
            list(self._line_values(name)),
            unit,
            is_log=True,
        )

    def _chart(
        self,
        name: str,
        title: str,
        y_label: str,
        members: Mapping[int, Points],
        line: Points,
        unit: Unit,
        *,
        is_log: bool = False,
    ) -> Chart:
        curves = [
            _curve(f"member {member}", points, unit, group=member, is_faint=True)
            for member, points in members.items()
        ]
        curves.append(_curve(_THE_LINE, line, unit, group=self.student_of, is_faint=False))
        ends = ", ".join(f"{curve.label} {curve.y[-1]:.3g}" for curve in curves if curve.y)
        return Chart(
            name=name,
            title=title,
            alt=f"{title} over {unit.name} of a member; at the end: {ends or 'not known'}.",
            x_label=f"{unit.name} of a member",
            y_label=y_label,
            curves=tuple(curves),
            is_log=is_log,
        )

    def _last_score(self, member: int) -> float | None:
        ending = self.outcome.members.get(str(member)) if self.outcome else None
        return ending.score if ending else None

    def _end(self, member: int) -> int:
        """Steps that a member is known to have reached."""
        record = self.records[member]
        ending = self.outcome.members.get(str(member)) if self.outcome else None
        known = [i.steps for i in record.incarnations] + [b.steps for b in record.boundaries]
        return max([*known, ending.steps if ending else 0])

    def _end_score(self, member: int) -> list[tuple[float, float]]:
        score = self._last_score(member)
        return [] if score is None else [(float(self._end(member)), score)]

    def _scores(self, member: int) -> list[tuple[float, float]]:
        boundaries = self.records[member].boundaries
        return [(float(b.steps), b.score) for b in boundaries] + self._end_score(member)

    def _values(self, member: int, name: str) -> Iterable[tuple[float, float]]:
        """The setting's value at the beginning and at the end of each incarnation."""
        incarnations = self.records[member].incarnations
        begins = [i.steps for i in incarnations]
        ends = [*begins[1:], self._end(member)]
        for incarnation, begin, end in zip(incarnations, begins, ends, strict=True):
            if (value := incarnation.settings.get(name)) is not None:
                yield from ((float(begin), value), (float(end), value))

    def _line_scores(self) -> list[tuple[float, float]]:
        points: list[tuple[float, float]] = []
        for stretch in self.line:
            record = self.records[stretch.member]
            points += [
                (float(b.steps), b.score)
                for b in record.boundaries
                if b.incarnation == stretch.incarnation.number
                and (stretch.end is None or b.updates <= stretch.end)
            ]
        return points + self._end_score(self.student_of)

    def _line_values(self, name: str) -> Iterable[tuple[float, float]]:
        begins = [stretch.incarnation.steps for stretch in self.line]
        ends = [*begins[1:], self._end(self.student_of)]
        for stretch, begin, end in zip(self.line, begins, ends, strict=True):
            value = stretch.incarnation.settings.get(name)
            if value is not None:
                yield from ((float(begin), value), (float(end), value))

    def members_table(self) -> Table:
        """A row for each member."""
        return Table(
            "Members; the score is that of the last test",
            ["member", "comparisons", "copies made", "copied by others", "score", "note"],
            [self._member_row(n, record) for n, record in self.records.items()],
        )

    def _member_row(self, member: int, record: MemberRecord) -> list[str]:
        ending = self.outcome.members.get(str(member)) if self.outcome else None
        last = record.boundaries[-1].score if record.boundaries else None
        score = self._last_score(member)
        said = "the student's" if self.outcome and member == self.outcome.student_of else ""
        return [
            f"member {member}",
            str(len(record.boundaries)),
            str(sum(_is_copy(record.member, i) for i in record.incarnations)),
            str(sum(self._copies(member))),
            number(score if score is not None else last, 3),
            (f"lost: {ending.lost}" if ending and ending.lost else said) or NONE,
        ]

    def _copies(self, member: int) -> Iterable[bool]:
        for record in self.records.values():
            for incarnation in record.incarnations:
                parent = incarnation.parent
                yield parent is not None and parent.member == member != record.member

    def lineage_table(self) -> Table:
        """A row for each incarnation in the student's line, oldest first."""
        return Table(
            "The student's ancestors: each goes on from the one above",
            ["incarnation", "from step", *self.tuned, "score at its end"],
            [self._lineage_row(stretch) for stretch in self.line],
        )

    def _lineage_row(self, stretch: Stretch) -> list[str]:
        now = stretch.incarnation
        scores = [
            b.score
            for b in self.records[stretch.member].boundaries
            if b.incarnation == now.number and (stretch.end is None or b.updates <= stretch.end)
        ]
        if stretch is self.line[-1] and (last := self._last_score(stretch.member)) is not None:
            scores.append(last)
        return [
            f"member {stretch.member}, {now.number}",
            f"{now.steps:,}",
            *(f"{now.settings[name]:.3g}" if name in now.settings else NONE for name in self.tuned),
            number(scores[-1], 3) if scores else NONE,
        ]


def read_population_view(run: Path) -> PopulationView | None:
    """The population in a folder; None for another folder, or as long as nothing is recorded."""
    files = PopulationFiles(run)
    if not files.is_population or not (records := files.read_records()):
        return None
    outcome = files.read_summary()
    newest = {n: r.boundaries[-1].score for n, r in records.items() if r.boundaries}
    best = max(newest, key=lambda n: newest[n]) if newest else min(records)
    line = ancestry(records, outcome.student_of if outcome else best)
    return PopulationView(records, outcome, line) if line else None


def _curve(label: str, points: Points, unit: Unit, *, group: int, is_faint: bool) -> Curve:
    return Curve(
        label=label,
        x=tuple(x / unit.size for x, _ in points),
        y=tuple(y for _, y in points),
        group=group,
        is_faint=is_faint,
    )


def _is_copy(member: int, incarnation: Incarnation) -> bool:
    return incarnation.parent is not None and incarnation.parent.member != member
