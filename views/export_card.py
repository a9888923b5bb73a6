"""The card of an exported student: what goes in, what comes out, how well it plays, whose it is.

card.json is for programs, card.md for people; both say the same.
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from games.actions import action_names
from games.env import get_protocol
from games.registry import get_game
from games.spec import GameSpec
from networks.network import MultitaskNetwork
from recipes.student import StudentTarget
from records.run_record import RunRecord
from teachers.card import TeacherCard, card_document
from views.templates import render

Document = dict[str, Any]

_NOT_STATED = "not stated"


def build_card(
    student: MultitaskNetwork,
    found: StudentTarget,
    record: RunRecord | None,
    *,
    expert: TeacherCard | None,
    files: Mapping[str, str],
    verified: Mapping[str, float],
    num_states: int,
    licence: str,
) -> Document:
    """Everything that somebody who has only the exported files must know.

    `expert` is the card of the expert that is exported, None for a student.
    """
    specs = [get_game(game) for game in student.games]
    is_value = expert is not None and expert.architecture.head == "q"
    protocol = expert.protocol if expert else found.protocol if record else None
    return {
        "format": 1,
        "kind": "Expert of one game"
        if expert
        else "Actor-Mimic student: one network for several games",
        "games": list(student.games),
        "files": dict(files),
        "input": {
            "observations": {
                "dtype": specs[0].frame_dtype.__name__,
                "shape": ["batch", *student.observation_shape],
                "meaning": describe_preprocessing(specs[0]),
            },
            "game_index": {
                "dtype": "int64",
                "shape": ["batch"],
                "meaning": "position of the game in `games`, from 0; it selects the game's legal "
                + (
                    "actions and layers" if student.heads != "joint" else "actions and nothing else"
                ),
            },
        },
        "output": {
            "logits": {
                "dtype": "float32",
                "shape": ["batch", student.num_actions],
                "meaning": ("Q-values" if is_value else "softmax gives the policy")
                + ", argmax the action; actions that are illegal in the game are -inf in "
                "the programs, and not masked in the safetensors file",
            }
        },
        "actions": list(action_names(specs[0])),
        "legal_actions": {spec.name: list(spec.legal_actions) for spec in specs},
        "protocol": asdict(get_protocol(protocol)) if protocol else None,
        "network": {
            "torso": student.torso_name,
            "heads": student.heads,
            "lstm_width": student.memory.width if student.memory else 0,
            "parameters": sum(parameter.numel() for parameter in student.parameters()),
        },
        "scores": {game: _scores(record, game) for game in student.games} if record else None,
        "measured_with": record
        and {"epsilon": record.setting("evaluation", "epsilon"), "whole_episodes": True},
        "training": _training(record),
        "teachers": {} if expert else {game: _teacher(found, game) for game in student.games},
        "expert": expert and card_document(expert),
        "licence": licence or (expert.licence if expert else _NOT_STATED),
        "verified": {
            name: {"states": num_states, "largest_difference": difference}
            for name, difference in verified.items()
        },
        "made_with": {
            "python": platform.python_version(),
            "torch": importlib.metadata.version("torch"),
        },
    }


def describe_preprocessing(spec: GameSpec) -> str:
    """From the emulator to an observation, in words."""
    stack = (
        f"the newest {spec.num_stack} of them, newest last, zeros before an episode's first"
        if spec.num_stack > 1
        else "the newest of them"
    )
    if spec.is_vector:
        return f"{spec.frame_shape[0]} numbers as the environment gives them; {stack}"
    channels, height, width = spec.frame_shape
    scale = "values 0 to 255: the network divides by 255 itself"
    if spec.family == "atari":
        return (
            f"an action is repeated for {spec.frames_per_step} frames; the screen is the "
            "pixel-wise maximum of the last two of them, in gray (luminance), resized to "
            f"{height}x{width} by area interpolation; {stack}; {scale}"
        )
    return f"frames of {channels}x{height}x{width} (channels, height, width); {stack}; {scale}"


def _scores(record: RunRecord, game: str) -> Document:
    student, teacher = record.student(game), record.teacher(game)
    return {
        "student": asdict(student),
        "teacher": asdict(teacher),
        "random": record.reference(game, "random"),
        "human": record.reference(game, "human"),
        "agreement": record.figure(game, "agreement"),
    }


def _training(record: RunRecord | None) -> Document | None:
    if record is None:
        return None
    summary = record.summary or {}
    return {
        "run": record.name,
        "preset": record.meta.get("preset"),
        "seed": record.seed,
        "steps": summary.get("steps"),
        "updates": summary.get("updates"),
    }


def _teacher(found: StudentTarget, game: str) -> Document | None:
    if found.config is None:
        return None  # Which teachers it had, its folder does not say.
    try:
        card = found.load_teacher(game).card
    except ValueError:
        return None
    return {"algorithm": card.algorithm, "origin": card.origin, "licence": card.licence}


def card_as_json(card: Document) -> bytes:
    """For card.json."""
    return (json.dumps(card, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def card_as_text(card: Document) -> str:
    """For card.md."""
    return render("views", "export_card.md.jinja", card=card)
