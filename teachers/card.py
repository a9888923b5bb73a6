"""The card of a teacher: what it is, where it comes from, and how well it was measured to play.

A card is a JSON file next to the weights, meant to be read by people. Everything in it is checked
on load; a message names the file and the field.

Units: 1 step = one decision of the agent = 4 frames on Atari.
"""

import json
from dataclasses import asdict, dataclass, fields
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Literal, cast, get_args

from networks.atomic_file import write_atomically
from teachers.bounded_reading import MAX_CARD_BYTES, read_at_most
from teachers.json_fields import (
    FieldReader,
    Unsuitable,
    as_boolean,
    as_date,
    as_integer,
    as_is,
    as_list,
    as_natural,
    as_not_negative,
    as_number,
    as_positive,
    as_sha256,
    as_shape,
    as_share,
    as_text,
)

CARD_FORMAT = 1
"""Written into every card; a card of a later format is refused, not guessed at."""

MAX_ATOMS = 1024
"""Of one return distribution; the papers have 51."""

Precision = Literal["half", "full"]
HeadKind = Literal["q", "categorical", "policy"]


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
    head: HeadKind = "q"
    """"q": a Q-value per action; "categorical": a distribution over returns per action;
    "policy": a logit per action, and a critic."""
    num_atoms: int | None = None
    """Returns in each distribution; categorical heads only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """What the teacher's library does to the game before the network sees it; None if unknown."""

    frames: str
    """How a step's frames become one gray picture, in the order of the operations."""
    stack_start: str | None = None
    """What the stack holds before an episode's first frame: "zeros" or "first_frame"."""
    fire_on_reset: bool | None = None
    """Whether FIRE is pressed for the agent, which then may not know how to start a game."""
    life_loss_ends_episode: bool | None = None
    """Whether a lost life was an end in training."""
    max_noops: int | None = None
    """Most no-op frames at a start."""
    repeat_action_probability: float | None = None
    """Sticky actions in training."""


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
    weights_precision: Precision = "half"
    """What the weights file holds: float16, or float32 for a teacher from another library, whose
    outputs are to stay what they were there."""
    source_format: str | None = None
    """Format of the checkpoint it was read from, a name in `teachers.formats.FORMATS`; None for
    one that was trained here."""
    preprocessing: Preprocessing | None = None
    """None for one that was trained here: what `protocol` says is all there is to know."""

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
    reader = FieldReader(document, source, "", _CARD_FIELDS)
    if (found := reader.take("format", as_integer)) != CARD_FORMAT:
        raise ValueError(f"{source}: field 'format' is {found}; this program reads {CARD_FORMAT}")
    return TeacherCard(
        game=reader.take("game", as_text),
        algorithm=reader.take("algorithm", as_text),
        architecture=_parse_architecture(reader.take("architecture", as_is), source),
        protocol=reader.take("protocol", as_text),
        trained_steps=reader.maybe("trained_steps", as_natural),
        scores=tuple(
            _parse_score(item, source, f"scores[{index}].")
            for index, item in enumerate(reader.take("scores", as_list))
        ),
        sha256=reader.take("sha256", as_sha256),
        origin=reader.take("origin", as_text),
        licence=reader.take("licence", as_text),
        command=reader.maybe("command", as_text),
        created=reader.maybe("created", as_date),
        wall_seconds=reader.maybe("wall_seconds", as_not_negative),
        hardware=reader.maybe("hardware", as_text),
        notes=reader.maybe("notes", as_text),
        weights_precision=reader.maybe("weights_precision", _precision) or "half",
        source_format=reader.maybe("source_format", as_text),
        preprocessing=_parse_preprocessing(reader.maybe("preprocessing", as_is), source),
    )


def _parse_architecture(document: object, source: str) -> Architecture:
    reader = FieldReader(document, source, "architecture.", _names_of(Architecture))
    architecture = Architecture(
        torso=reader.take("torso", as_text),
        dueling=reader.take("dueling", as_boolean),
        num_actions=reader.take("num_actions", as_positive),
        observation_shape=reader.take("observation_shape", as_shape),
        num_features=reader.take("num_features", as_positive),
        head=reader.maybe("head", _head_kind) or "q",
        num_atoms=reader.maybe("num_atoms", _num_atoms),
    )
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
    return architecture


def _parse_preprocessing(document: object, source: str) -> Preprocessing | None:
    if document is None:
        return None
    reader = FieldReader(document, source, "preprocessing.", _names_of(Preprocessing))
    return Preprocessing(
        frames=reader.take("frames", as_text),
        stack_start=reader.maybe("stack_start", as_text),
        fire_on_reset=reader.maybe("fire_on_reset", as_boolean),
        life_loss_ends_episode=reader.maybe("life_loss_ends_episode", as_boolean),
        max_noops=reader.maybe("max_noops", as_natural),
        repeat_action_probability=reader.maybe("repeat_action_probability", as_share),
    )


def _parse_score(document: object, source: str, prefix: str) -> ScoreRecord:
    reader = FieldReader(document, source, prefix, _names_of(ScoreRecord))
    return ScoreRecord(
        mean=reader.take("mean", as_number),
        std=reader.take("std", as_not_negative),
        max=reader.take("max", as_number),
        episodes=reader.take("episodes", as_positive),
        protocol=reader.take("protocol", as_text),
        epsilon=reader.take("epsilon", as_share),
        precision=reader.take("precision", _precision),
    )


def _num_atoms(value: object) -> int:
    if not 2 <= (number := as_integer(value)) <= MAX_ATOMS:
        raise Unsuitable(f"an integer from 2 to {MAX_ATOMS}")
    return number


def _precision(value: object) -> Precision:
    if value == "half":
        return "half"
    if value == "full":
        return "full"
    raise Unsuitable("'half' or 'full'")


def _head_kind(value: object) -> HeadKind:
    for kind in get_args(HeadKind):
        if value == kind:
            return cast("HeadKind", kind)
    raise Unsuitable("'q', 'categorical' or 'policy'")


def _names_of(
    kind: type[ScoreRecord] | type[Architecture] | type[Preprocessing] | type[TeacherCard],
) -> frozenset[str]:
    return frozenset(field.name for field in fields(kind))


_CARD_FIELDS = _names_of(TeacherCard) | {"format"}
_UNSAID = {"weights_precision": "half", "source_format": None, "preprocessing": None}
_UNSAID_ARCHITECTURE = {"head": "q", "num_atoms": None}
