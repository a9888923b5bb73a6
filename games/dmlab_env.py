"""One DMLab-30 level as a Gymnasium environment; games/dmlab.py says what is played.

Written for the engine's Python interface (deepmind/lab, docs/users/python_api.md), which is strict:
values of its configuration are texts, actions are seven C integers, a seed has 31 bits, and nothing
can be seen once an episode has ended.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

CACHE_VARIABLE = "ACTOR_MIMIC_DMLAB_CACHE"
DATASET_VARIABLE = "ACTOR_MIMIC_DMLAB_DATASET"

_PICTURE = "RGB_INTERLEAVED"
# With it the engine draws the maps that are held out for tests; the engine's authors chose it.
_TEST_MIXER_SEED = 0x600D5EED


class LevelCache:
    """Compiled maps in a folder that all processes share; compiling one takes seconds."""

    def __init__(self, folder: Path) -> None:
        """Keep maps in `folder`, which is made if it is not there."""
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def fetch(self, key: str, pk3_path: str) -> bool:
        """Copy the map of a key to where the engine wants it; False if it is not there."""
        try:
            shutil.copyfile(self._place(key), pk3_path)
        except FileNotFoundError:
            return False
        return True

    def write(self, key: str, pk3_path: str) -> None:
        """Keep a map that the engine has made."""
        place = self._place(key)
        if place.exists():
            return
        # Another process may look at the same moment: it must find a whole file, or none.
        handle, name = tempfile.mkstemp(dir=self._folder)
        os.close(handle)
        shutil.copyfile(pk3_path, name)
        os.replace(name, place)

    def _place(self, key: str) -> Path:
        # A key is a text of the engine's, with any letters and of any length.
        return self._folder / hashlib.sha256(key.encode()).hexdigest()


class DmlabEnv(gymnasium.Env[NDArray[np.uint8], np.int64]):
    """One level, with the actions of a set and a picture [H, W, 3]."""

    def __init__(
        self,
        level: str,
        actions: Sequence[Sequence[int]],
        *,
        frame_size: tuple[int, int],
        frames_per_step: int,
        holds_out_maps: bool,
    ) -> None:
        """Start the engine with a level; ValueError if it is not installed or lacks the level."""
        height, width = frame_size
        config = {"width": str(width), "height": str(height), "logLevel": "WARN"}
        if holds_out_maps:
            config |= {"allowHoldOutLevels": "true", "mixerSeed": str(_TEST_MIXER_SEED)}
        if dataset := os.environ.get(DATASET_VARIABLE):
            config["datasetPath"] = dataset
        cache = os.environ.get(CACHE_VARIABLE)
        engine = _import_engine()
        try:
            self._lab = engine.Lab(
                level=level,
                observations=[_PICTURE],
                config=config,
                level_cache=LevelCache(Path(cache)) if cache else None,
            )
        # What it raises for a level that it cannot read.
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"DMLab cannot load the level {level}: {reason}") from None
        self._actions = np.array(actions, np.intc)
        self._frames_per_step = frames_per_step
        self._rng = np.random.default_rng()
        self._picture = np.zeros((height, width, 3), np.uint8)
        self.action_space = gymnasium.spaces.Discrete(len(actions))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """Start an episode, whose map and objects are drawn from the environment's own stream."""
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        self._lab.reset(seed=int(self._rng.integers(2**31)))
        self._look()
        return self._picture, {}

    def step(self, action: np.int64) -> tuple[NDArray[np.uint8], float, bool, bool, dict[str, Any]]:
        """Do an action for a step's frames; the engine says when the episode is over."""
        reward = float(self._lab.step(self._actions[action], num_steps=self._frames_per_step))
        is_over = not self._lab.is_running()
        if not is_over:
            self._look()
        # After the end there is nothing to be seen: the picture before it stays.
        return self._picture, reward, is_over, False, {}

    def close(self) -> None:
        """Stop the engine."""
        self._lab.close()

    def _look(self) -> None:
        # A copy: the engine draws the next frame into the same memory.
        self._picture = np.array(self._lab.observations()[_PICTURE], np.uint8)


def _import_engine() -> Any:
    try:
        return importlib.import_module("deepmind_lab")
    except ModuleNotFoundError as error:
        if error.name != "deepmind_lab":
            raise
        raise ValueError(
            "DMLab games need the engine deepmind_lab, which is on no package index; docs/games.md "
            "says how it is built"
        ) from None
