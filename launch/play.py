#!/usr/bin/env python
"""Play one game with a student and its teacher side by side, as a film or in the terminal.

python launch/play.py runs/latest --game pong                   writes pong.webp
python launch/play.py runs/latest --game pong --out pong.mp4    where ffmpeg is installed
python launch/play.py path/to/student --game pong --watch
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import torch
import tyro
from rich.console import Console
from rich.live import Live

from games.env import get_protocol
from games.registry import get_game
from games.spec import GameSpec
from launch.options.exit_status import run_command
from recipes.errors import parse_or_fail
from recipes.student import StudentTarget, find_student
from teachers.expert import Expert
from teachers.references import load_teacher
from views.play.playing import (
    STEPS_PER_SECOND,
    STUDENT,
    TEACHER,
    Judge,
    Moment,
    StudentJudge,
    TeacherJudge,
    play_together,
)
from views.play.terminal import side_by_side

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayOptions:
    """Play one game with a student and its teacher."""

    target: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="STUDENT_OR_RUN")]
    """Folder of a run, or of a student."""
    game: str
    """The game."""
    out: str = ""
    """File of the film: .webp, .gif, .png (animated), or .mp4 where ffmpeg is installed; GAME.webp
    in this folder without."""
    watch: bool = False
    """Show it in the terminal, and write nothing."""
    teacher: str = ""
    """GAME.safetensors of the teacher; without, the run's, or the shipped one."""
    episodes: int = 1
    """Episodes of each network, at most."""
    steps: int = 450
    """Steps of each network, at most; 450 take half a minute."""
    epsilon: float = 0.05
    """Probability of a random action (paper: 0.05)."""
    seed: int = 1
    """Of the game and of random actions; both networks start the same game."""
    protocol: str | None = None
    """Rules of the emulator (games/env.py); without, those of the run."""
    speed: float = 1.0
    """1 is the game's real speed."""
    scale: int = 2
    """Size of the film: 1 is a screen of 160 pixels."""

    def __post_init__(self) -> None:
        """Refuse values that make no sense, naming them."""
        for name, limit in (("episodes", 10**6), ("steps", 10**6), ("scale", 8)):
            if not 1 <= getattr(self, name) <= limit:
                raise ValueError(f"{name} must be from 1 to {limit}, got {getattr(self, name)}")
        if not 0.0 <= self.epsilon <= 1.0:
            raise ValueError(f"epsilon must lie between 0 and 1, got {self.epsilon}")
        if not 0.01 <= self.speed <= 100:
            raise ValueError(f"speed must lie between 0.01 and 100, got {self.speed}")
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, got {self.seed}")
        if self.watch and self.out:
            raise ValueError("watch writes no film; leave watch or out away")
        if self.protocol is not None:
            get_protocol(self.protocol)


def main(argv: Sequence[str]) -> None:
    """Play, and show or write."""
    options = parse_or_fail(
        lambda: tyro.cli(PlayOptions, args=argv, prog="play.py"), prog="play.py"
    )
    torch.set_num_threads(1)
    found = find_student(options.target)
    judges = _judges(found, options)
    spec = get_game(options.game)
    rounds = play_together(
        spec,
        judges,
        protocol=options.protocol or found.protocol,
        epsilon=options.epsilon,
        seed=options.seed,
        num_episodes=options.episodes,
        num_steps=options.steps,
    )
    if options.watch:
        _watch(spec, judges, rounds, options.speed)
    else:
        _write(spec, judges, rounds, options)


def _judges(found: StudentTarget, options: PlayOptions) -> dict[str, Judge]:
    """Teacher first, if there is one."""
    student = found.load()
    if options.game not in student.games:
        raise ValueError(
            f"the student does not play {options.game!r}; it has {', '.join(student.games)}"
        )
    spec = get_game(options.game)
    judges: dict[str, Judge] = {}
    if (teacher := _teacher(found, options)) is not None:
        judges[TEACHER] = TeacherJudge(teacher, found.temperature(options.game))
    judges[STUDENT] = StudentJudge(student, spec)
    return judges


def _teacher(found: StudentTarget, options: PlayOptions) -> Expert | None:
    if options.teacher:
        return load_teacher(options.teacher, options.game)
    try:
        return found.load_teacher(options.game)
    except ValueError as error:
        print(f"the student plays alone: {error}", file=sys.stderr)
        return None


def _write(
    spec: GameSpec,
    judges: Mapping[str, Judge],
    rounds: Iterator[dict[str, Moment]],
    options: PlayOptions,
) -> None:
    try:
        from views.play.film import check_film_path, write_film
        from views.play.pictures import Painter
    except ModuleNotFoundError as error:
        if error.name != "PIL":
            raise
        raise ValueError(
            "writing a film needs Pillow: pip install -c constraints.txt -e '.[report]'; "
            "--watch does without"
        ) from None
    path = Path(options.out or f"{options.game}.webp")
    check_film_path(path)
    painter = Painter(spec, tuple(judges), scale=options.scale)
    last: dict[str, Moment] = {}

    def pictures() -> Iterator[Image.Image]:
        for moments in rounds:
            last.update(moments)
            yield painter.draw(moments)

    count = write_film(path, pictures(), pictures_per_second=STEPS_PER_SECOND * options.speed)
    scores = ", ".join(f"{player} {moment.score:g}" for player, moment in last.items())
    seconds = count / STEPS_PER_SECOND / options.speed
    print(f"{path}: {count} steps, {seconds:.0f} s, {path.stat().st_size / 1e6:.1f} MB; {scores}")


def _watch(
    spec: GameSpec,
    judges: Mapping[str, Judge],
    rounds: Iterator[dict[str, Moment]],
    speed: float,
) -> None:
    console = Console()
    if not console.is_terminal:
        raise ValueError("there is no terminal to watch in; leave --watch away to write a film")
    period = 1 / (STEPS_PER_SECOND * speed)
    with Live(console=console, auto_refresh=False, screen=True) as live:
        due = time.monotonic()
        for moments in rounds:
            # Looked up every time: the window may change its size.
            picture = side_by_side(
                spec, tuple(judges), moments, columns=console.width, rows=console.height
            )
            live.update(picture, refresh=True)
            due = max(due + period, time.monotonic() - 1.0)
            time.sleep(max(0.0, due - time.monotonic()))
    scores = ", ".join(f"{player} {moment.score:g}" for player, moment in moments.items())
    print(f"{spec.name}: {scores}")


if __name__ == "__main__":
    run_command(main)
