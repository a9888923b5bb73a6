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

from pydantic import Strict

from networks.atomic_file import write_atomically
from teachers.bounded_reading import MAX_CARD_BYTES, read_at_most
from teachers.json_fields import (
    FORBID_EXTRA,
    Boolean,
    Date,
    Natural,
    NotNegative,
    Number,
    Positive,
    Sha256,
    Shape,
    Share,
    Text,
    check_json,
    integer,
)

# Written into every card; a card of a later format is refused, not guessed at.
CARD_FORMAT = 1

# Most atoms of one return distribution; the papers have 51.
MAX_ATOMS = 1024

Precision = Literal["half", "full"]
HeadKind = Literal["q", "categorical", "policy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRecord:
    """One evaluation of the teacher: raw game scores of whole episodes."""

    __pydantic_config__ = FORBID_EXTRA

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

    __pydantic_config__ = FORBID_EXTRA

    torso: Text
    dueling: Boolean
    num_actions: Positive
    observation_shape: Shape
    # Width of the last hidden layer: what a student's feature regressor has to guess.
    num_features: Positive
    # "q": a Q-value per action; "categorical": a distribution over returns per action;
    # "policy": a logit per action, and a critic.
    head: HeadKind = "q"
    # Returns in each distribution; categorical heads only.
    num_atoms: Annotated[int, Strict(), integer(2, MAX_ATOMS)] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """What the teacher's library does to the game before the network sees it; None if unknown."""

    __pydantic_config__ = FORBID_EXTRA

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

    __pydantic_config__ = FORBID_EXTRA

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
    """Read and check a card.

    Raises:
        ValueError: the file is missing, is not JSON, is larger than any card, or has a wrong,
            missing or unknown field.
    """
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
    """Write a card so that a reader sees the old one or the new one, never a part.

    Raises:
        ValueError: a field is one that `load_card` would refuse.
    """
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
    """Check a parsed JSON document and make a card of it.

    Args:
        document: what `json.loads` gave.
        source: file name for messages.

    Raises:
        ValueError: a wrong, missing or unknown field.
    """
    if not isinstance(document, Mapping):
        return check_json(TeacherCard, document, source=source)
    fields: dict[Any, Any] = dict(document)
    if "format" not in fields:
        raise ValueError(f"{source}: field 'format' is missing")
    if (found := fields.pop("format")) != CARD_FORMAT:
        raise ValueError(f"{source}: field 'format' is {found}; this program reads {CARD_FORMAT}")
    card = check_json(TeacherCard, fields, source=source)
    _check_head(card.architecture, source)
    return card


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
