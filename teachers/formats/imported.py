"""What a reader of foreign checkpoints finds, and the teacher that is made of it."""

from dataclasses import dataclass

from games.spec import GameSpec
from networks.teacher_network import TeacherNetwork
from teachers.card import Preprocessing
from teachers.formats.parts import NetworkParts, build_teacher

# For the cards of policy teachers.
POLICY_NOTE = (
    "A policy: its library draws actions from it when it measures, and so does `verify` under the "
    "library's protocol; under any other, and in a run, it plays the best action."
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Found:
    """The layers in a file, and what it or its library says of them."""

    parts: NetworkParts
    algorithm: str
    # Name of the environment protocol nearest to its training.
    protocol: str
    # Who trained it and where it can be had.
    origin: str
    # What the file says; anything but a natural number counts as unknown.
    trained_steps: object = None
    # What its library does to the game.
    preprocessing: Preprocessing | None = None
    notes: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImportedTeacher:
    """A teacher as it was read, ready for `teachers.expert.save_expert(..., half=False)`."""

    # Over the joint action set, frozen, on the CPU, float32.
    network: TeacherNetwork
    # For `save_expert`: what the file says of itself, and what is known of its library.
    card_fields: dict[str, object]
    # A name in `teachers.formats.FORMATS`.
    format: str


def complete(found: Found, spec: GameSpec, *, format: str, source: str) -> ImportedTeacher:
    """A teacher that nobody has measured yet; ValueError if it does not fit the game."""
    steps = found.trained_steps
    # In a checkpoint of a training that never was, 0 means nothing either.
    is_known = isinstance(steps, int) and 0 < steps < 2**63
    fields = {
        "game": spec.name,
        "algorithm": found.algorithm,
        "protocol": found.protocol,
        "trained_steps": steps if is_known else None,
        "scores": [],
        "origin": found.origin,
        "licence": "unknown",
        "source_format": format,
        "preprocessing": found.preprocessing,
        "notes": found.notes,
    }
    network = build_teacher(found.parts, spec, source=source)
    return ImportedTeacher(network=network, card_fields=fields, format=format)
