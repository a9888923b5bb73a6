"""Shows teachers: a table of many, or the card of one."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from games.registry import get_game
from teachers.card import ScoreRecord, TeacherCard, card_document, load_card
from teachers.expert import Expert
from teachers.printable import one_line
from teachers.shipped import shipped_experts
from views.words import for_reader, number, spread

# Columns of a table where there is no terminal to ask.
_WIDTH = 100
# Columns that a teacher's path may claim of a table.
_MAX_REFERENCE = 48
_MAX_REFERENCE_BESIDE_NETWORK = 36


@dataclass(frozen=True, slots=True)
class FoundTeacher:
    """A teacher that may be named by `reference`."""

    reference: str
    card: TeacherCard
    is_shipped: bool


def collect_teachers(folders: Sequence[Path]) -> list[FoundTeacher]:
    """The shipped teachers, then all below `folders`; weights without a card are no teachers."""
    shipped = files("teachers").joinpath("weights")
    found = [
        FoundTeacher(game, load_card(shipped.joinpath(f"{game}.json")), True)
        for game in shipped_experts()
    ]
    for folder in folders:
        # Not Path.is_dir: it raises for a name that is too long.
        if not os.path.isdir(folder):
            raise ValueError(f"there is no folder {folder}")
        for weights in sorted(folder.rglob("*.safetensors")):
            card_file: Path | Traversable = weights.with_suffix(".json")
            if not (weights.is_file() and card_file.is_file()):
                continue
            try:
                found.append(FoundTeacher(str(weights), load_card(card_file), False))
            except ValueError as error:
                # One that is damaged must not hide the others.
                print(f"left out: {one_line(error)}", file=sys.stderr)
    return found


def print_list(teachers: Sequence[FoundTeacher], *, as_json: bool) -> None:
    """Print one table: by what to name each teacher, what it is, and how well it plays."""
    if as_json:
        print(json.dumps([_as_json(teacher) for teacher in teachers], indent=2))
        return
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    # What people copy stays on one line; only a very long path is folded.
    width = max((len(one_line(teacher.reference)) for teacher in teachers), default=0)
    table.add_column("teacher", overflow="fold", width=max(7, min(width, _MAX_REFERENCE)))
    # Beside long paths there is no room for the network, which `show` tells as well.
    has_network = width <= _MAX_REFERENCE_BESIDE_NETWORK
    for heading in ("algorithm", "network") if has_network else ("algorithm",):
        table.add_column(heading, overflow="fold", min_width=len(heading))
    for heading, texts in (
        ("protocol", [teacher.card.protocol for teacher in teachers]),
        ("score", [_first_score(teacher.card) for teacher in teachers]),
    ):
        lines = [line for text in texts for line in text.splitlines()]
        table.add_column(heading, no_wrap=True, width=max(map(len, [heading, *lines])))
    for teacher in teachers:
        card = teacher.card
        cells = (
            one_line(teacher.reference),
            card.algorithm,
            *([architecture_text(card)] if has_network else []),
            card.protocol,
            for_reader(_first_score(card), sys.stdout),
        )
        table.add_row(*map(Text, cells))  # As Text: brackets in a card are not markup.
    Console(width=min(_terminal_width(), 160), highlight=False).print(table)
    print("zoo.py show TEACHER tells the rest of one: origin, licence, training, preprocessing")


def print_card(expert: Expert, *, as_json: bool) -> None:
    """All that is known of one teacher."""
    card = expert.card
    if as_json:
        print(json.dumps(card_document(card), indent=2))
        return
    spec = get_game(card.game)
    parameters = sum(p.numel() for p in expert.network.parameters())
    rows = [
        ("game", card.game),
        ("algorithm", card.algorithm),
        ("architecture", f"{architecture_text(card)}, {parameters:,} parameters"),
        (
            "observations",
            f"{spec.frame_dtype.__name__} {list(card.architecture.observation_shape)}",
        ),
        ("features", str(card.architecture.num_features)),
        ("protocol", card.protocol),
        ("trained", "unknown" if card.trained_steps is None else f"{card.trained_steps:,} steps"),
        *[("score" if i == 0 else "", score_text(s)) for i, s in enumerate(card.scores)],
        ("random, human", f"{number(spec.random_score, 1)}, {number(spec.human_score, 1)}"),
        ("origin", card.origin),
        ("licence", card.licence),
        ("format", card.source_format or "this project's own"),
        *_preprocessing_rows(card),
        ("weights", f"{card.weights_precision} precision, SHA-256 {card.sha256}"),
        ("created", card.created),
        ("training", _training(card)),
        ("command", card.command),
        ("notes", card.notes),
    ]
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        if value:
            table.add_row(name, Text(for_reader(value, sys.stdout)))
    Console(width=min(_terminal_width(), _WIDTH), highlight=False).print(table)


def architecture_text(card: TeacherCard) -> str:
    """Torso and head in a few words."""
    architecture = card.architecture
    if architecture.num_atoms is not None:
        return f"{architecture.torso}, {architecture.num_atoms} atoms"
    kind = "dueling" if architecture.dueling else architecture.head
    return f"{architecture.torso}, {kind}"


def score_text(record: ScoreRecord) -> str:
    """Mean, spread over episodes, their number, and by which rules."""
    return f"{spread(record.mean, record.std)} ({record.episodes}), {record.protocol}"


def _first_score(card: TeacherCard) -> str:
    """The most telling score; with its protocol only where that is not the teacher's own."""
    first = card.score
    if first is None:
        return "not measured"
    text, _, protocol = score_text(first).partition(", ")
    return text if protocol == card.protocol else f"{text}\nby {protocol}"


def _preprocessing_rows(card: TeacherCard) -> list[tuple[str, str | None]]:
    known = card.preprocessing
    if known is None:
        return []
    details = {
        "stack starts with": known.stack_start,
        "FIRE pressed for it": _yes_no(known.fire_on_reset),
        "life loss ends an episode": _yes_no(known.life_loss_ends_episode),
        "no-ops at most": None if known.max_noops is None else str(known.max_noops),
        "sticky actions": None
        if known.repeat_action_probability is None
        else f"{known.repeat_action_probability:g}",
    }
    text = "; ".join(f"{name} {value}" for name, value in details.items() if value is not None)
    return [("it saw", known.frames), ("", text)]


def _yes_no(value: bool | None) -> str | None:
    return None if value is None else ("yes" if value else "no")


def _training(card: TeacherCard) -> str | None:
    parts = [card.hardware]
    if card.wall_seconds is not None:
        parts.append(f"{card.wall_seconds / 60:.0f} minutes")
    return ", ".join(part for part in parts if part) or None


def _as_json(teacher: FoundTeacher) -> dict[str, Any]:
    card = teacher.card
    return {
        "teacher": teacher.reference,
        "shipped": teacher.is_shipped,
        "game": card.game,
        "algorithm": card.algorithm,
        "architecture": asdict(card.architecture),
        "protocol": card.protocol,
        "trained_steps": card.trained_steps,
        "scores": [asdict(record) for record in card.scores],
        "origin": card.origin,
        "licence": card.licence,
        "source_format": card.source_format,
    }


def _terminal_width() -> int:
    if not sys.stdout.isatty():
        return _WIDTH
    return Console().width
