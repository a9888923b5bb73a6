"""The card of a teacher: what it is, where it comes from, and how well it was measured to play.

A card is a JSON file next to the weights, meant to be read by people. Everything in it is checked
on load; a message names the file and the field.

Units: 1 step = one decision of the agent = 4 frames on Atari.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, Strict, TypeAdapter, ValidationError

from networks.atomic_file import write_atomically
from teachers.bounded_reading import MAX_CARD_BYTES, read_at_most
from teachers.printable import is_obeyed, one_line

# Written into every card; a card of a later format is refused, not guessed at.
CARD_FORMAT = 1

# Most atoms of one return distribution; the papers have 51.
MAX_ATOMS = 1024

Precision = Literal["half", "full"]
HeadKind = Literal["q", "categorical", "policy"]


# Unknown fields are refused, and numbers that are not finite.
_EXACT = ConfigDict(extra="forbid", allow_inf_nan=False)


def _check_text(text: str) -> str:
    """Cards come from strangers and are printed, so nothing that a terminal obeys may be there."""
    if not text.strip():
        raise ValueError("must not be empty")
    if any(is_obeyed(char) for char in text if char not in "\n\t"):
        raise ValueError("must be without control characters")
    return text


def _check_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    if len(shape) not in (1, 3):
        raise ValueError("must have three sizes, or the one of a vector")
    return shape


# Strict: 0 is not false, "18" is not 18, and true is not 1.
Text = Annotated[str, Strict(), AfterValidator(_check_text)]
Boolean = Annotated[bool, Strict()]
Natural = Annotated[int, Strict(), Field(ge=0)]
Positive = Annotated[int, Strict(), Field(ge=1)]
Number = Annotated[float, Strict()]
NotNegative = Annotated[float, Strict(), Field(ge=0)]
Share = Annotated[float, Strict(), Field(ge=0, le=1)]
Sha256 = Annotated[str, Strict(), Field(pattern="^[0-9a-f]{64}$")]
ObservationShape = Annotated[tuple[Positive, ...], AfterValidator(_check_shape)]
Date = Annotated[str, Strict(), Field(pattern=r"^\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}[0-9:.Z+-]*)?$")]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRecord:
    """One evaluation of the teacher: raw game scores of whole episodes."""

    __pydantic_config__ = _EXACT

    mean: Number
    # Standard deviation over episodes, not the error of their mean.
    std: NotNegative
    max: Number
    episodes: Positive
    # Name of the environment protocol that was played, "classic" or "modern".
    protocol: Text
    # Share of random actions while playing.
    epsilon: Share
    # "half" if the weights were rounded to float16 before playing, as in the shipped file.
    precision: Precision


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """What must be known to build the network before its weights are read."""

    __pydantic_config__ = _EXACT

    torso: Text
    dueling: Boolean
    num_actions: Positive
    # Channels, height, width; or the length of a vector.
    observation_shape: ObservationShape
    # Width of the last hidden layer: what a student's feature regressor has to guess.
    num_features: Positive
    # "q": a Q-value per action; "categorical": a distribution over returns per action;
    # "policy": a logit per action, in files with a critic.
    head: HeadKind = "q"
    # Returns in each distribution; categorical heads only.
    num_atoms: Annotated[int, Strict(), Field(ge=2, le=MAX_ATOMS)] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """What the teacher's library does to the game before the network sees it; None if unknown."""

    __pydantic_config__ = _EXACT

    # How a step's frames become one gray picture, in the order of the operations.
    frames: Text
    # What the stack holds before an episode's first frame: "zeros" or "first_frame".
    stack_start: Text | None = None
    # Whether FIRE is pressed for the agent, which then may not know how to start a game.
    fire_on_reset: Boolean | None = None
    # Whether a lost life was an end in training.
    life_loss_ends_episode: Boolean | None = None
    # Most no-op frames at a start.
    max_noops: Natural | None = None
    # Sticky actions in training.
    repeat_action_probability: Share | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherCard:
    """Everything that is known of one teacher."""

    __pydantic_config__ = _EXACT

    game: Text
    # For example "double dqn, 3-step, prioritized".
    algorithm: Text
    architecture: Architecture
    # Name of the environment protocol it was trained under.
    protocol: Text
    # Agent steps in training; None if the source does not say.
    trained_steps: Natural | None = None
    # The most representative first; may be empty for a teacher nobody has measured yet.
    scores: tuple[ScoreRecord, ...]
    # SHA-256 of the weights file, in hexadecimal digits.
    sha256: Sha256
    # Who trained it and where it can be had.
    origin: Text
    # SPDX identifier if there is one.
    licence: Text
    # What reproduces it.
    command: Text | None = None
    # ISO 8601 date, with or without a time.
    created: Date | None = None
    # Duration of the training.
    wall_seconds: NotNegative | None = None
    hardware: Text | None = None
    notes: Text | None = None
    # What the weights file holds: float16, or float32 for a teacher from another library, whose
    # outputs are to stay what they were there.
    weights_precision: Precision = "half"
    # Format of the checkpoint it was read from, a name in `teachers.formats.FORMATS`; None for
    # one that was trained here.
    source_format: Text | None = None
    # None for one that was trained here: what `protocol` says is all there is to know.
    preprocessing: Preprocessing | None = None

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
    """Read and check a card."""
    try:
        if not path.is_file():
            raise ValueError(f"card {path} is missing; every teacher needs one beside its weights")
    except OSError as error:
        raise ValueError(f"card {path} cannot be read: {error.strerror}") from error
    data = read_at_most(path, MAX_CARD_BYTES)
    try:
        document = json.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"card {path} is not valid JSON: {error}") from error
    return parse_card(document, source=str(path))


def dump_card(card: TeacherCard, path: Path) -> None:
    """Write a card so that a reader sees the old one or the new one, never a part."""
    document = card_document(card)
    parse_card(document, source=str(path))
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_atomically(path, text.encode())


def card_document(card: TeacherCard) -> dict[str, object]:
    """The card as it stands in its JSON file.

    Fields that only teachers from other libraries need are left out where they say nothing.
    """
    document = asdict(card)
    for part, unsaid in ((document, _UNSAID), (document["architecture"], _UNSAID_ARCHITECTURE)):
        for name, default in unsaid.items():
            if part[name] == default:
                del part[name]
    return {"format": CARD_FORMAT, **document}


def parse_card(document: object, *, source: str) -> TeacherCard:
    """Check what `json.loads` gave and make a card of it.

    Raises:
        ValueError: a wrong, missing or unknown field; one line that begins with `source`.
    """
    fields = dict(document) if isinstance(document, Mapping) else {}
    if "format" not in fields:
        raise ValueError(f"{source}: field 'format' is missing")
    if (found := fields.pop("format")) != CARD_FORMAT:
        raise ValueError(f"{source}: field 'format' is {found}; this program reads {CARD_FORMAT}")
    try:
        card: TeacherCard = _ADAPTER.validate_python(fields)
    except ValidationError as error:
        raise ValueError(f"{source}: {_complaint(error)}") from None
    _check_head(card.architecture, source)
    return card


_ADAPTER: TypeAdapter[Any] = TypeAdapter(TeacherCard)


def _complaint(errors: ValidationError) -> str:
    """The first thing that is wrong; a field that is not known explains others that are missing."""
    found = sorted(
        errors.errors(), key=lambda error: error["type"] != "unexpected_keyword_argument"
    )
    kind, location, given = found[0]["type"], found[0]["loc"], found[0]["input"]
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    field = f"field {one_line(''.join(parts)[1:], max_chars=100)!r}"
    if kind == "unexpected_keyword_argument":
        return f"unknown {field}"
    if kind == "missing":
        return f"{field} is missing"
    said = found[0]["msg"].removeprefix("Value error, ").replace("Input should", "must")
    return f"{field} {said}, not {one_line(repr(given), max_chars=200)}"


def _check_head(architecture: Architecture, source: str) -> None:
    """Raises ValueError for fields of an architecture that contradict each other."""
    if (architecture.head == "categorical") != (architecture.num_atoms is not None):
        raise ValueError(
            f"{source}: field 'architecture.num_atoms' is {architecture.num_atoms}, but "
            f"'architecture.head' is {architecture.head!r}; a categorical head, and no other, "
            "has atoms"
        )
    if architecture.dueling and architecture.head != "q":
        raise ValueError(
            f"{source}: field 'architecture.dueling' is true, but 'architecture.head' is "
            f"{architecture.head!r}; only a 'q' head can be dueling"
        )


_UNSAID = {"weights_precision": "half", "source_format": None, "preprocessing": None}
_UNSAID_ARCHITECTURE = {"head": "q", "num_atoms": None}
