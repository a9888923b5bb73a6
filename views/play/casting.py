"""Who plays: a student and its teacher, or an expert by itself."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass

from games.registry import get_game
from games.spec import GameSpec
from learner.objectives.config import MimicConfig
from recipes.student import StudentTarget, check_games, find_trained
from teachers.expert import Expert
from teachers.references import load_teacher
from views.play.playing import TEACHER, PlayingNetwork, PlayingTeacher, build_networks


@dataclass(frozen=True, slots=True)
class Cast:
    """A game, and the networks that play it."""

    spec: GameSpec
    networks: Mapping[str, PlayingNetwork]
    # Rules that they were trained by.
    protocol: str


def find_cast(target: str, *, game: str, teacher: str) -> Cast:
    """The networks that a user names.

    Args:
        target: folder of a run or of a student, a student on the Hub, an expert's
            GAME.safetensors, or the game of a shipped expert.
        game: that is played; an expert knows its own.
        teacher: beside a student instead of its run's; empty for that one.

    Raises:
        ValueError: they are not there, are damaged, or do not play the game.
    """
    expert = find_trained(target)
    if not isinstance(expert, Expert):
        return _student_and_teacher(expert, game, teacher)
    if game not in ("", expert.spec.name):
        raise ValueError(f"{target} plays {expert.spec.name} and nothing else")
    if teacher:
        raise ValueError("an expert plays alone; leave --teacher out")
    is_policy = expert.card.architecture.head == "policy"
    temperature = 1.0 if is_policy else MimicConfig().temperature
    networks = {TEACHER: PlayingTeacher(expert, temperature)}
    return Cast(expert.spec, networks, expert.card.protocol)


def _student_and_teacher(found: StudentTarget, game: str, teacher: str) -> Cast:
    if not game:
        raise ValueError("which game? A student may play several: --game GAME")
    # Looked up when the run is known, which says where games of a user's own come from.
    spec = get_game(game)
    student = found.load()
    check_games([spec.name], student.games)
    networks = build_networks(
        student,
        spec,
        teacher=_find_teacher(found, game, teacher),
        temperature=found.temperature(spec.name),
        student_temperature=found.student_temperature(spec.name),
    )
    return Cast(spec, networks, found.protocol)


def _find_teacher(found: StudentTarget, game: str, reference: str) -> Expert | None:
    if reference:
        return load_teacher(reference, game)
    try:
        return found.load_teacher(game)
    except ValueError as error:
        print(f"the student plays alone: {error}", file=sys.stderr)
        return None
