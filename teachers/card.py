"""The card of a teacher: what it is, where it comes from, and how well it was measured to play.

A card is a JSON file next to the weights, meant to be read by people. Everything in it is checked
on load; a message names the file and the field.

Units: 1 step = one decision of the agent = 4 frames on Atari.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Literal, TypeVar, cast

from networks.atomic_file import write_atomically

CARD_FORMAT = 1
"""Written into every card; a card of a later format is refused, not guessed at."""

Precision = Literal["half", "full"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRecord:
    """One evaluation of the teacher: raw game scores of whole episodes."""

    mean: float
    std: float
    """Over episodes, not of the mean."""
    max: float
    episodes: int
    protocol: str
    """Name of the environment protocol that was played, "classic" or "modern"."""
    epsilon: float
    """Share of random actions while playing."""
    precision: Precision
    """"half" if the weights were rounded to float16 before playing, as in the shipped file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """What must be known to build the network before its weights are read."""

    torso: str
    dueling: bool
    num_actions: int
    observation_shape: tuple[int, int, int]
    num_features: int
    """Width of the last hidden layer: what a student's feature regressor has to guess."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherCard:
    """Everything that is known of one teacher."""

    game: str
    algorithm: str
    """For example "double dqn, 3-step, prioritized"."""
    architecture: Architecture
    protocol: str
    """Name of the environment protocol it was trained under."""
    trained_steps: int | None
    """Agent steps in training; None if the source does not say."""
    scores: tuple[ScoreRecord, ...]
    """The most representative first; may be empty for a teacher nobody has measured yet."""
    sha256: str
    """Of the weights file, hexadecimal."""
    origin: str
    """Who trained it and where it can be had."""
    licence: str
    """SPDX identifier if there is one."""
    command: str | None = None
    """What reproduces it."""
    created: str | None = None
    """ISO 8601 date, with or without a time."""
    wall_seconds: float | None = None
    """Duration of the training."""
    hardware: str | None = None
    notes: str | None = None

    @property
    def score(self) -> ScoreRecord | None:
        """The first score record."""
        return self.scores[0] if self.scores else None

    def find_score(
        self, *, protocol: str | None = None, precision: Precision | None = None
    ) -> ScoreRecord | None:
        """The first score record under these conditions; None leaves a condition open."""
        for score in self.scores:
            if protocol in (None, score.protocol) and precision in (None, score.precision):
                return score
        return None


def load_card(path: Path | Traversable) -> TeacherCard:
    """Read and check a card.

    Raises:
        ValueError: the file is missing, is not JSON, or has a wrong, missing or unknown field.
    """
    if not path.is_file():
        raise ValueError(f"card {path} is missing; every teacher needs one beside its weights")
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"card {path} is not valid JSON: {error}") from error
    return parse_card(document, source=str(path))


def dump_card(card: TeacherCard, path: Path) -> None:
    """Write a card so that a reader sees the old one or the new one, never a part.

    Raises:
        ValueError: a field is one that `load_card` would refuse.
    """
    document = card_document(card)
    parse_card(document, source=str(path))
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_atomically(path, text.encode())


def card_document(card: TeacherCard) -> dict[str, object]:
    """The card as it stands in its JSON file."""
    return {"format": CARD_FORMAT, **asdict(card)}


def parse_card(document: object, *, source: str) -> TeacherCard:
    """Check a parsed JSON document and make a card of it.

    Args:
        document: what `json.loads` gave.
        source: file name for messages.

    Raises:
        ValueError: a wrong, missing or unknown field.
    """
    reader = _Reader(document, source, "", _CARD_FIELDS)
    if (found := reader.take("format", _integer)) != CARD_FORMAT:
        raise ValueError(f"{source}: field 'format' is {found}; this program reads {CARD_FORMAT}")
    return TeacherCard(
        game=reader.take("game", _text),
        algorithm=reader.take("algorithm", _text),
        architecture=_parse_architecture(reader.take("architecture", _anything), source),
        protocol=reader.take("protocol", _text),
        trained_steps=reader.maybe("trained_steps", _natural),
        scores=tuple(
            _parse_score(item, source, f"scores[{index}].")
            for index, item in enumerate(reader.take("scores", _list))
        ),
        sha256=reader.take("sha256", _sha256),
        origin=reader.take("origin", _text),
        licence=reader.take("licence", _text),
        command=reader.maybe("command", _text),
        created=reader.maybe("created", _iso_date),
        wall_seconds=reader.maybe("wall_seconds", _not_negative),
        hardware=reader.maybe("hardware", _text),
        notes=reader.maybe("notes", _text),
    )


def _parse_architecture(document: object, source: str) -> Architecture:
    reader = _Reader(document, source, "architecture.", _names_of(Architecture))
    return Architecture(
        torso=reader.take("torso", _text),
        dueling=reader.take("dueling", _boolean),
        num_actions=reader.take("num_actions", _positive),
        observation_shape=reader.take("observation_shape", _shape),
        num_features=reader.take("num_features", _positive),
    )


def _parse_score(document: object, source: str, prefix: str) -> ScoreRecord:
    reader = _Reader(document, source, prefix, _names_of(ScoreRecord))
    return ScoreRecord(
        mean=reader.take("mean", _number),
        std=reader.take("std", _not_negative),
        max=reader.take("max", _number),
        episodes=reader.take("episodes", _positive),
        protocol=reader.take("protocol", _text),
        epsilon=reader.take("epsilon", _share),
        precision=reader.take("precision", _precision),
    )


T = TypeVar("T")


class _Reader:
    """Takes checked fields out of one JSON object."""

    def __init__(self, document: object, source: str, prefix: str, known: frozenset[str]) -> None:
        self._source = source
        self._prefix = prefix
        if not isinstance(document, Mapping):
            where = f"field {prefix.removesuffix('.')!r}" if prefix else "the card"
            raise ValueError(f"{source}: {where} must be an object with the fields {sorted(known)}")
        unknown = sorted(map(str, set(document) - known))
        if unknown:
            raise ValueError(
                f"{source}: unknown field {prefix + unknown[0]!r}; "
                f"known: {', '.join(sorted(known))}"
            )
        self._document = cast("Mapping[str, object]", document)

    def take(self, name: str, parse: Callable[[object], T]) -> T:
        if name not in self._document:
            raise ValueError(f"{self._source}: field {self._prefix + name!r} is missing")
        value = self._document[name]
        try:
            return parse(value)
        except _Unsuitable as error:
            raise ValueError(
                f"{self._source}: field {self._prefix + name!r} must be {error}, not {value!r}"
            ) from None

    def maybe(self, name: str, parse: Callable[[object], T]) -> T | None:
        return None if self._document.get(name) is None else self.take(name, parse)


class _Unsuitable(Exception):
    """Says what a value should have been."""


def _anything(value: object) -> object:
    return value


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise _Unsuitable("a text that is not empty")
    return value


def _boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise _Unsuitable("true or false")
    return value


def _integer(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _Unsuitable("an integer")
    return value


def _natural(value: object) -> int:
    if (number := _integer(value)) < 0:
        raise _Unsuitable("an integer of at least 0")
    return number


def _positive(value: object) -> int:
    if (number := _integer(value)) < 1:
        raise _Unsuitable("an integer of at least 1")
    return number


def _number(value: object) -> float:
    # Python reads and writes NaN and Infinity in JSON; other programs do not.
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _Unsuitable("a finite number")
    return float(value)


def _not_negative(value: object) -> float:
    if (number := _number(value)) < 0:
        raise _Unsuitable("a number of at least 0")
    return number


def _share(value: object) -> float:
    if not 0 <= (number := _number(value)) <= 1:
        raise _Unsuitable("a number from 0 to 1")
    return number


def _precision(value: object) -> Precision:
    if value == "half":
        return "half"
    if value == "full":
        return "full"
    raise _Unsuitable("'half' or 'full'")


def _list(value: object) -> list[object]:
    if not isinstance(value, list | tuple):
        raise _Unsuitable("a list")
    return list(value)


def _shape(value: object) -> tuple[int, int, int]:
    try:
        channels, height, width = map(_positive, _list(value))
    except (ValueError, _Unsuitable):
        raise _Unsuitable("three positive integers [channels, height, width]") from None
    return channels, height, width


def _sha256(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[0-9a-f]{64}", value):
        raise _Unsuitable("64 lower-case hexadecimal digits")
    return value


def _iso_date(value: object) -> str:
    if not isinstance(value, str) or not re.match(r"\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}|$)", value):
        raise _Unsuitable("a date like '2026-01-31' or '2026-01-31T12:00:00Z'")
    return value


def _names_of(kind: type[ScoreRecord] | type[Architecture] | type[TeacherCard]) -> frozenset[str]:
    return frozenset(field.name for field in fields(kind))


_CARD_FIELDS = _names_of(TeacherCard) | {"format"}
