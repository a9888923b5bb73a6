"""The student plays for whoever watches the live page, in a thread, with its newest weights.

It is there only while somebody watches, and no faster than a game is in reality. It never asks the
run for anything: weights come from Redis, or from the student in the run's folder.
"""

from __future__ import annotations

import io
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from engines.on_redis.link import RedisUnavailableError
from games.actions import action_names
from games.registry import get_game
from games.spec import GameSpec
from networks.network import MultitaskNetwork
from networks.snapshots import apply_snapshot
from networks.student_file import load_student
from networks.weights import WeightsVersion
from recipes.config import RunConfig
from recipes.loading import load_run_config
from recipes.recipe import Recipe
from records.run_dir import RunDir
from teachers.hub import is_hub_reference
from views.play.playing import (
    STEPS_PER_SECOND,
    Moment,
    PlayingNetwork,
    PlayingStudent,
    PlayingTeacher,
    play,
)

if TYPE_CHECKING:
    from engines.on_redis.bus import RedisBus

# Probability of a random action, as in a test.
EPSILON = 0.05
# Seconds after which newer weights are asked for.
_REFRESH_S = 3.0
_WAIT_S = 1.0
_FOREVER = 1 << 62


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One state of the game, to be shown."""

    png: bytes
    # Score, step, weights, and for every network the probabilities of the legal actions.
    about: dict[str, Any]


class Player:
    """One game that is played for a viewer."""

    def __init__(
        self,
        run: RunDir,
        game: str,
        *,
        bus: RedisBus | None,
        show: Callable[[Picture], None],
        tell: Callable[[str], None],
        steps_per_second: float = STEPS_PER_SECOND,
    ) -> None:
        """Start to play; `show` and `tell` are called in the player's own thread."""
        self._run = run
        self._game = game
        # Without Redis, the student in the run's folder plays.
        self._weights = _NewestWeights(run, bus)
        self._show = show
        self._tell = tell
        self._period_s = 1.0 / steps_per_second
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="page-player", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Play no more; returns at once."""
        self._stopped.set()

    def join(self, timeout_s: float = 10.0) -> None:
        """Wait for the end of a player that was stopped."""
        self._thread.join(timeout_s)

    def _serve(self) -> None:
        try:
            self._play()
        except Exception as error:
            self._tell(f"The student cannot be shown: {error}")

    def _play(self) -> None:
        torch.set_num_threads(1)
        config = load_run_config(self._run)
        specs = {game: get_game(game) for game in config.games}
        if self._game not in specs:
            raise ValueError(f"{self._game!r} is not a game of this run")
        recipe = Recipe(config)
        student = recipe.build_acting_network(self._game)
        while not self._weights.load_into(student):
            self._tell("The learner has published no weights yet.")
            if self._stopped.wait(_WAIT_S):
                return
        spec = specs[self._game]
        temperature = recipe.student_temperature(self._game)
        networks: dict[str, PlayingNetwork] = {}
        networks["student"] = PlayingStudent(student, spec, temperature)
        with suppress(ValueError):
            if (teacher := _teacher(config, self._game)) is not None:
                networks["teacher"] = teacher
        moments = play(
            spec, "student", networks,
            protocol=config.protocol, epsilon=EPSILON, seed=secrets.randbelow(1 << 31),
            num_episodes=_FOREVER, num_steps=_FOREVER,
        )  # fmt: skip
        due = refreshed = time.monotonic()
        for moment in moments:
            self._show(_picture(spec, moment, self._weights.version))
            now = time.monotonic()
            if now - refreshed >= _REFRESH_S:
                refreshed = now
                self._weights.load_into(student)
            due = max(due + self._period_s, now)
            if self._stopped.wait(due - now):
                return  # The generator closes its emulators as it is let go.


class _NewestWeights:
    """Loads weights that are newer than the last ones."""

    def __init__(self, run: RunDir, bus: RedisBus | None) -> None:
        self._folder = run.student
        self._bus = bus
        self._stamp: float | None = None
        # Of weights from Redis.
        self.version: WeightsVersion | None = None

    def load_into(self, student: MultitaskNetwork) -> bool:
        """Give the student the newest weights; False while there have never been any."""
        with suppress(RedisUnavailableError, ValueError):
            if self._bus is not None and (new := self._bus.fetch_weights(self.version)) is not None:
                apply_snapshot(student, new)
                self.version = new.version
        if self.version is None:
            self._load_file(student)
        return self.version is not None or self._stamp is not None

    def _load_file(self, student: MultitaskNetwork) -> None:
        try:
            stamp = _stamp(self._folder)
        except OSError:
            return
        if stamp != self._stamp:
            state = load_student(self._folder).state_dict()
            student.load_state_dict(state, strict=False)
            self._stamp = stamp


def _stamp(folder: Path) -> float:
    return (folder / "weights.safetensors").stat().st_mtime


def _teacher(config: RunConfig, game: str) -> PlayingTeacher | None:
    """The game's teacher, None if the run has none; ValueError where it is not on this machine."""
    if is_hub_reference(config.teachers_of[game][0]):
        raise ValueError("the page asks no other machine for a teacher")
    expert = Recipe(config).find_teacher(game)
    return None if expert is None else PlayingTeacher(expert, config.temperature_of[game])


def _png(screen: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    # Level 3 takes about 1 ms for an Atari screen; the highest level takes three times as long.
    Image.fromarray(screen).save(file, format="PNG", compress_level=3)
    return file.getvalue()


def _picture(spec: GameSpec, moment: Moment, version: WeightsVersion | None) -> Picture:
    names = action_names(spec)
    return Picture(
        png=_png(moment.screen),
        about={
            "score": moment.score,
            "step": moment.step,
            "episode": moment.episode,
            "updates": version.updates if version is not None else None,
            "actions": [names[action] for action in spec.legal_actions],
            "played": None if moment.action is None else spec.legal_actions.index(moment.action),
            "policies": {
                name: [round(float(policy[action]), 3) for action in spec.legal_actions]
                for name, policy in moment.policies.items()
            },
        },
    )
