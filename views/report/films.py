"""Makes the short films of a report: expert and student side by side in each game."""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from games.registry import get_game
from networks.network import MultitaskNetwork
from recipes.student import StudentTarget, find_student
from records.run_record import RunRecord
from views.play.film import write_film
from views.play.pictures import Painter
from views.play.playing import STEPS_PER_SECOND, Moment, build_networks, play_together

# Shows every second step at the pace of a game's steps, so at twice the real speed.
_EVERY = 2
_SEED = 1


@dataclass(frozen=True, slots=True)
class Film:
    """One game's film and its first picture."""

    game: str
    webp: bytes
    still_png: bytes
    size: tuple[int, int]
    alt: str


def make_films(record: RunRecord, *, num_steps: int) -> tuple[list[Film], list[str]]:
    """A film of every game that can be played, and notes on those that could not be filmed."""
    try:
        found = find_student(record.path)
        student = found.load()
    except ValueError as error:
        return [], [f"there are no films: {error}"]
    epsilon = found.config.evaluation.epsilon if found.config else 0.05
    films, notes = [], []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for game in student.games:
            try:
                films.append(_make_film(found, student, game, epsilon, num_steps))
            except ValueError as error:
                notes.append(f"there is no film of {game}: {error}")
    finally:
        torch.set_num_threads(threads)
    return films, notes


def _make_film(
    found: StudentTarget, student: MultitaskNetwork, game: str, epsilon: float, num_steps: int
) -> Film:
    spec = get_game(game)
    teacher = None
    with contextlib.suppress(ValueError):  # Without its expert, the student plays alone.
        teacher = found.load_teacher(game)
    networks = build_networks(
        student,
        spec,
        teacher=teacher,
        temperature=found.temperature(game),
        student_temperature=found.student_temperature(game),
    )
    rounds = list(
        play_together(
            spec,
            networks,
            protocol=found.protocol,
            epsilon=epsilon,
            seed=_SEED,
            num_episodes=1,
            num_steps=num_steps,
        )
    )[::_EVERY]
    painter = Painter(spec, tuple(networks))
    pictures = [painter.draw(moments) for moments in rounds]
    still = io.BytesIO()
    pictures[len(pictures) // 2].save(still, format="PNG", optimize=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.webp"
        write_film(path, pictures, pictures_per_second=STEPS_PER_SECOND)
        webp = path.read_bytes()
    return Film(game, webp, still.getvalue(), pictures[0].size, _describe(game, rounds[-1]))


def _describe(game: str, last: Mapping[str, Moment]) -> str:
    scores = ", ".join(
        f"the {name} has {moment.score:g} points after {moment.step} steps"
        for name, moment in last.items()
    )
    return f"Film of {game}, {' and '.join(last)} side by side: {scores}."
