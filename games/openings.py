"""What some protocols do in the agent's place: open a game, and go on after a lost life.

The wrappers that Stable-Baselines3 and CleanRL share press FIRE for the agent at the start of every
life (FireResetEnv over EpisodicLifeEnv), and begin the stack of frames anew. An agent trained so
may never have learned to press FIRE, and without this it stands still in Breakout for ever.

Here the agent's actions are replaced for a step or two, which is exact: the emulator's own option
presses FIRE for one frame, at the start of a game only.

N environments of the vector, S stacked frames.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from games.env import EnvProtocol, VectorStep
from games.spec import GameSpec, Observations

# Indices into the legal actions; index 1 is FIRE wherever a game has it.
_NOOP, _FIRE, _THIRD = 0, 1, 2
# Joint action id.
_FIRE_ACTION = 1


class Openings:
    """Which of N environments are being opened, and how old their stacks are."""

    def __init__(self, spec: GameSpec, protocol: EnvProtocol, num_envs: int) -> None:
        """Nothing is open yet: begin() comes first."""
        has_fire = spec.legal_actions[1:2] == (_FIRE_ACTION,) and len(spec.legal_actions) > _THIRD
        opening = (_FIRE, _THIRD) if protocol.fire_opening and has_fire else ()
        self._at_start = opening
        self._at_life_loss = (_NOOP, *opening) if protocol.opening_at_life_loss else ()
        self._repeats_first_frame = protocol.stack_padding == "first_frame"
        self._num_stack = spec.num_stack
        self._scripts: list[tuple[int, ...]] = [()] * num_envs
        self._stack_ages = np.ones(num_envs, dtype=np.int64)
        self._unpaid = np.zeros(num_envs, dtype=np.float32)

    @staticmethod
    def has_any(protocol: EnvProtocol) -> bool:
        """Whether a protocol differs at all from what the emulator does by itself."""
        plain = protocol.stack_padding == "zeros"
        return protocol.fire_opening or protocol.opening_at_life_loss or not plain

    def begin(self) -> int:
        """All environments start a game; returns the steps that still open it."""
        self._scripts = [self._at_start] * len(self._scripts)
        self._stack_ages[:] = 1
        self._unpaid[:] = 0.0
        return len(self._at_start)

    def replace_actions(self, local: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Overwrite the actions of environments being opened; returns where, bool [N]."""
        scripted = np.array([bool(script) for script in self._scripts])
        for index in np.flatnonzero(scripted):
            local[index], *rest = self._scripts[index]
            self._scripts[index] = tuple(rest)
        return scripted

    def apply(
        self, step: VectorStep, scripted: NDArray[np.bool_], lives: NDArray[np.int32]
    ) -> VectorStep:
        """The step as the agent sees it, after `replace_actions` gave `scripted`."""
        ended = step.terminated | step.truncated
        # A game that ends while it is opened counts as played: its end must not be hidden.
        opening = scripted & ~ended
        earned = step.rewards + self._unpaid
        self._unpaid = np.where(opening, earned, 0.0).astype(np.float32)
        self._start_scripts(step, ended)
        # As EpisodicLifeEnv: some games show 0 lives for a while before they end.
        lost = step.life_lost & ~ended & ~scripted & (lives > 0)
        if self._at_life_loss:
            for index in np.flatnonzero(lost):
                self._scripts[index] = self._at_life_loss
        fresh = step.restarted | scripted
        self._stack_ages = np.where(fresh, 1, np.minimum(self._stack_ages + 1, self._num_stack))
        return replace(
            step,
            observations=self.pad(step.observations),
            rewards=np.where(opening, 0.0, earned).astype(np.float32),
            restarted=step.restarted | opening,
        )

    def _start_scripts(self, step: VectorStep, ended: NDArray[np.bool_]) -> None:
        for index in np.flatnonzero(step.restarted):
            self._scripts[index] = self._at_start
        for index in np.flatnonzero(ended):
            self._scripts[index] = ()

    def pad(self, observations: Observations) -> Observations:
        """Fill the frames before the first one, in place."""
        for index in np.flatnonzero(self._stack_ages < self._num_stack):
            stack = observations[index].reshape(self._num_stack, -1)
            first = self._num_stack - int(self._stack_ages[index])
            stack[:first] = stack[first] if self._repeats_first_frame else 0
        return observations
