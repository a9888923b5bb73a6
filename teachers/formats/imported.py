"""What a reader of foreign checkpoints gives back, and the card fields they all fill in."""

from dataclasses import dataclass

from games.spec import GameSpec
from networks.teacher_network import TeacherNetwork
from teachers.card import Preprocessing

# For the cards of policy teachers.
POLICY_NOTE = (
    "A policy: its library draws actions from it when it measures, and so does `verify` under the "
    "library's protocol; under any other, and in a run, it plays the best action."
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImportedTeacher:
    """A teacher as it was read, ready for `teachers.expert.save_expert(..., half=False)`."""

    # Over the joint action set, frozen, on the CPU, float32.
    network: TeacherNetwork
    # For `save_expert`: what the file says of itself, and what is known of its library.
    card_fields: dict[str, object]
    # A name in `teachers.formats.FORMATS`.
    format: str


def describe(
    spec: GameSpec,
    *,
    algorithm: str,
    protocol: str,
    source_format: str,
    origin: str,
    trained_steps: object,
    preprocessing: Preprocessing | None,
    notes: str | None = None,
) -> dict[str, object]:
    """Card fields of an imported teacher; nobody has measured it yet, nor knows its licence.

    Args:
        spec: the game it is for.
        algorithm: as on the card.
        protocol: name of the environment protocol nearest to its training.
        source_format: a name in `teachers.formats.FORMATS`.
        origin: as on the card.
        trained_steps: what the file says; anything but a natural number counts as unknown.
        preprocessing: what its library does to the game.
        notes: as on the card.
    """
    # In a checkpoint of a training that never was, 0 means nothing either.
    is_known = isinstance(trained_steps, int) and 0 < trained_steps < 2**63
    return {
        "game": spec.name,
        "algorithm": algorithm,
        "protocol": protocol,
        "trained_steps": trained_steps if is_known else None,
        "scores": [],
        "origin": origin,
        "licence": "unknown",
        "source_format": source_format,
        "preprocessing": preprocessing,
        "notes": notes,
    }
