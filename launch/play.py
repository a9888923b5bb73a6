#!/usr/bin/env python
"""Play one game with a student and its teacher side by side, as a film or in the terminal.

    python launch/play.py runs/latest --game pong                   writes pong.webp
    python launch/play.py runs/latest --game pong --out pong.mp4    where ffmpeg is installed
    python launch/play.py path/to/student --game pong --watch
    python launch/play.py pong                                      the shipped expert by itself

Both start the same game; Ctrl-C ends it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from annotated_types import Ge, Interval

from launch.options.command_line import parse_options
from launch.options.exit_status import run_command


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayOptions:
    """Play one game with a student and its teacher."""

    target: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="STUDENT_OR_EXPERT")]
    """Folder of a run or of a student, or hf://OWNER/REPO of a student; or an expert, which plays
    alone: its GAME.safetensors, or the game of a shipped one."""
    game: str = ""
    """The game; an expert knows its own."""
    out: str = ""
    """File of the film: .webp, .gif, .png (animated), or .mp4 where ffmpeg is installed; GAME.webp
    in this folder without."""
    watch: bool = False
    """Show it in the terminal, and write nothing."""
    teacher: str = ""
    """GAME.safetensors of the teacher; without, the run's, or the shipped one."""
    episodes: Annotated[int, Interval(ge=1, le=10**6)] = 1
    """Episodes of each network, at most."""
    steps: Annotated[int, Interval(ge=1, le=10**6)] = 450
    """Steps of each network, at most; 450 take half a minute."""
    epsilon: Annotated[float, Interval(ge=0, le=1)] = 0.05
    """Probability of a random action (paper: 0.05)."""
    seed: Annotated[int, Ge(0)] = 1
    """Seeds the game and random actions; both networks start the same game."""
    protocol: str | None = None
    """Rules of the emulator (games/env.py); without, those of the run."""
    speed: Annotated[float, Interval(ge=0.01, le=100)] = 1.0
    """1 is the game's real speed."""
    scale: Annotated[int, Interval(ge=1, le=8)] = 2
    """Size of the film: 1 is a screen of 160 pixels."""

    def __post_init__(self) -> None:
        """Refuse options that contradict each other."""
        if self.watch and self.out:
            raise ValueError("watch writes no film; leave watch or out away")
        if self.protocol:
            # Brings NumPy, which help does without.
            from games.env import get_protocol

            get_protocol(self.protocol)


def main(argv: Sequence[str], *, prog: str = "play.py") -> None:
    """Play, and show it or write the film."""
    options = parse_options(PlayOptions, argv, prog=prog, doc=__doc__)
    # Not above: they bring torch, and help, or a mistake in the options, is told without.
    import torch

    from views.play.casting import find_cast
    from views.play.film import write_play
    from views.play.pictures import Painter
    from views.play.playing import STEPS_PER_SECOND, describe_scores, play_together
    from views.play.terminal import watch

    torch.set_num_threads(1)
    steps_per_second = STEPS_PER_SECOND * options.speed
    cast = find_cast(options.target, game=options.game, teacher=options.teacher)
    spec, networks = cast.spec, cast.networks
    rounds = play_together(
        spec,
        networks,
        protocol=options.protocol or cast.protocol,
        epsilon=options.epsilon,
        seed=options.seed,
        num_episodes=options.episodes,
        num_steps=options.steps,
    )
    if options.watch:
        last = watch(spec, tuple(networks), rounds, steps_per_second=steps_per_second)
        print(f"{spec.name}: {describe_scores(last)}")
        return
    path = Path(options.out or f"{spec.name}.webp")
    painter = Painter(spec, tuple(networks), scale=options.scale)
    count, last = write_play(path, painter, rounds, steps_per_second=steps_per_second)
    seconds, megabytes = count / steps_per_second, path.stat().st_size / 1e6
    print(f"{path}: {count} steps, {seconds:.0f} s, {megabytes:.1f} MB; {describe_scores(last)}")


if __name__ == "__main__":
    run_command(main)
