"""Stands for the module deepmind_lab, and is as strict: what the engine refuses fails here.

Rooms with one picture in each; an action moves on by the sum of its numbers.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import ClassVar

import numpy as np

LEVELS = "contributed/dmlab30/"
RANGES = np.array([[-512, 512], [-512, 512], [-1, 1], [-1, 1], [0, 1], [0, 1], [0, 1]])
OBSERVATIONS = {"RGB_INTERLEAVED", "INSTR", "DEBUG.POS.TRANS"}
# Frames of an episode.
LENGTH = 200


class Lab:
    """The engine's class, with the arguments of its documentation."""

    made: ClassVar[list[Lab]] = []

    def __init__(
        self,
        level,
        observations,
        config=None,
        renderer="software",
        level_cache=None,
        temp_folder="",
    ):
        config = config or {}
        for name, value in config.items():
            if type(name) is not str or type(value) is not str:
                raise TypeError(f"config must be strings, not {name!r}: {value!r}")
        if not level.startswith(LEVELS) or "missing" in level:
            raise RuntimeError(f"Level not found:\n{level!r}")
        if unknown := set(observations) - OBSERVATIONS:
            raise ValueError(f"Unknown observations: {unknown}")
        if renderer not in ("software", "hardware"):
            raise ValueError(renderer)
        self.level, self.config, self.cache = level, dict(config), level_cache
        self._names = list(observations)
        self._shape = (int(config.get("height", "240")), int(config.get("width", "320")), 3)
        self._is_running = self._is_closed = False
        # The engine draws into the same memory again and again.
        self._screen = np.zeros(self._shape, np.uint8)
        self.seeds, self.actions, self.compiled = [], [], 0
        Lab.made.append(self)

    def reset(self, episode=-1, seed=None):
        self._check_open()
        if seed is not None and (type(seed) is not int or not 0 <= seed < 2**31):
            raise ValueError(f"'seed' must be an int in [0, 2^31), not {seed!r}")
        self.seeds.append(seed)
        self._rng = np.random.default_rng(seed)
        self._frames, self._place, self._is_running = 0, int(self._rng.integers(100)), True
        self._load_map(f"{self.level}/map of seed {self._place % 2}: \u00e4/..")
        self._draw()
        return True

    def _load_map(self, key):
        if self.cache is None:
            return
        with tempfile.NamedTemporaryFile(suffix=".pk3") as file:
            if self.cache.fetch(key, file.name):
                assert Path(file.name).read_text() == key
                return
            self.compiled += 1
            file.write(key.encode())
            file.flush()
            self.cache.write(key, file.name)

    def step(self, action, num_steps=1):
        self._check_running()
        if type(action) is not np.ndarray or action.dtype != np.intc or action.shape != (7,):
            raise ValueError(f"'action' must be 7 C ints, not {action!r}")
        if (action < RANGES[:, 0]).any() or (action > RANGES[:, 1]).any():
            raise ValueError(f"an action out of range: {action}")
        if type(num_steps) is not int or num_steps < 1:
            raise ValueError(f"num_steps {num_steps!r}")
        self.actions.append((tuple(action.tolist()), num_steps))
        self._frames += num_steps
        self._place += int(action.sum())
        self._is_running = self._frames < LENGTH
        self._draw()
        return 1.5 if self._place % 7 == 0 else 0.0

    def observations(self):
        self._check_running()
        return {name: self._screen if name != "INSTR" else "" for name in self._names}

    def is_running(self):
        return self._is_running

    def close(self):
        self._is_closed, self._is_running = True, False

    def _draw(self):
        self._screen[:] = 1 + self._place % 255

    def _check_open(self):
        if self._is_closed:
            raise RuntimeError("Environment has been closed")

    def _check_running(self):
        self._check_open()
        if not self._is_running:
            raise RuntimeError("Environment in wrong status for call")
