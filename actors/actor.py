"""Acting: plays one game with a copy of the student, labels every state, feeds replay.

Knows neither Ray nor Redis: logits come from an Inference, chunks go to a ReplayWriter.

    weights -> network acts, teacher labels -> environments step -> chunk -> replay.add
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from actors.config import ActorConfig
from actors.inference import Inference
from actors.policy import Behaviour, EpsilonGreedy, SoftmaxPolicy, annealed
from actors.priorities import PriorityRule
from actors.rows import RowWindow
from games.env import VectorEnv
from networks.weights import WeightsVersion
from replay.client import ReplayWriter
from replay.columns import EntryShape
from replay.types import Chunk
from teachers.expert import Expert

# Keeps the generator that explores apart from others that start from the run's seed.
_EXPLORATION = 3


@dataclass(slots=True)
class ActorCounts:
    """What an actor has done since it was made.

    This is the only declaration of a counter: records.progress adds all actors' counts up field by
    field, and every whole number appears in a run's metrics under the name it has here.
    """

    # Steps played, all environments together.
    steps: int = 0
    # Games ended, really or by truncation.
    episodes: int = 0
    # Chunks that replay took.
    chunks: int = 0
    # Time in the environments.
    stepping_s: float = 0.0
    # Time in networks, the teacher's and the student's, or until a server has answered.
    network_s: float = 0.0
    # Time until replay took a chunk, sending it included; only of `run`.
    waiting_s: float = 0.0
    # Time that the actor has been at it, until the end of the last piece of the times above; so
    # that they are shares of it. It stays the last field: a copy that is made while the actor plays
    # reads the fields in their order, and must not find less time than its parts.
    elapsed_s: float = 0.0


class _EpisodeReturns:
    """Sums raw rewards per environment until its episode ends."""

    def __init__(self, num_envs: int) -> None:
        self._running = np.zeros(num_envs)

    def add(self, rewards: NDArray[np.float32], ended: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Returns of the episodes that ended with this step, in the order of the environments."""
        self._running += rewards
        finished = self._running[ended].copy()
        self._running[ended] = 0.0
        return finished


class Actor:
    """Plays a vector of environments of one game and cuts the experience into chunks."""

    def __init__(
        self,
        config: ActorConfig,
        *,
        env: VectorEnv,
        inference: Inference,
        teachers: Sequence[Expert],
        store_features: bool,
        priority_rule: PriorityRule,
        epsilons: NDArray[np.float32],
        life_loss_ends_return: bool,
        replay: ReplayWriter,
        serial: int,
        seed: int,
        start_step: int = 0,
        extra_columns: tuple[str, ...] = (),
        draws_actions: bool = False,
        label_room: int = 0,
        memory_size: int = 0,
    ) -> None:
        """Reset the environments, which `close` closes; nothing is played yet.

        With a teacher at hand `inference` is the student's, else that of the network that learns to
        play. `teachers` label every state, one after the other; the first one's features and values
        are stored, and it acts where a teacher is to. `label_room` is for as many in every label,
        since another game of the run may have more; what is missing here are zeros. Exploration
        rates are `epsilons` [num_envs]. `serial` is never used twice in a run, `start_step` counts
        what every environment of the game has played in earlier sessions. `draws_actions` draws
        from the softmax of the logits, with exploration folded in, instead of playing the best.
        `memory_size` is M, of what a network with an LSTM remembers.
        """
        if config.act_with == "teacher" and not teachers:
            raise ValueError(
                f"actor.act_with is teacher, but {env.spec.name!r} has no teacher in this run; "
                "use student"
            )
        self._config = config
        self._env = env
        self._inference = inference
        self._teachers = tuple(teachers)
        self._priority_rule = priority_rule
        self._final_epsilons = epsilons
        self._life_loss_ends_return = life_loss_ends_return
        self._replay = replay
        self._serial = serial
        behaviour = SoftmaxPolicy if draws_actions else EpsilonGreedy
        self._policy: Behaviour = behaviour(
            env.spec.legal_mask(), np.random.default_rng([seed, serial, _EXPLORATION])
        )
        self._steps_per_env = start_step
        self._stopped = threading.Event()
        self._finishing = threading.Event()
        self._is_running = False
        self._rows = RowWindow(
            EntryShape(
                frame_shape=env.spec.frame_shape,
                num_actions=env.spec.num_actions,
                num_teacher_actions=env.spec.num_actions * max(label_room, len(teachers)),
                num_teacher_features=(
                    teachers[0].num_features if teachers and store_features else 0
                ),
                memory_size=memory_size,
                extra_columns=extra_columns,
            ),
            num_envs=env.num_envs,
            chunk_steps=config.chunk_steps,
            num_lookahead=priority_rule.num_lookahead,
        )
        self._extra_columns = extra_columns
        self._returns = _EpisodeReturns(env.num_envs)
        self._observations = env.reset()
        self._is_first = np.ones(env.num_envs, np.bool_)
        self._ended = np.zeros(env.num_envs, np.bool_)
        self._truncated = np.zeros(env.num_envs, np.bool_)
        self.counts = ActorCounts()
        self._finished_returns: list[tuple[float, float]] = []
        self._began = time.perf_counter()

    @property
    def version(self) -> WeightsVersion | None:
        """Version of the weights that act now."""
        return self._inference.version

    def run(self, *, wait_s: float = 1.0, on_chunk: Callable[[], None] = lambda: None) -> None:
        """Play until `close` or `finish`, calling `on_chunk` after each chunk that replay took.

        Waits only for replay, `wait_s` at a time: ended by the learner's sampling or by `close`,
        which loses the chunk at hand. The environments are closed in the end.
        """
        self._is_running = True
        try:
            while not (self._stopped.is_set() or self._finishing.is_set()):
                self.pull_weights()
                if self._send(self.collect(), wait_s):
                    on_chunk()
        finally:
            self._env.close()

    def _send(self, chunk: Chunk, wait_s: float) -> bool:
        """Offer a chunk until replay takes it (True) or the actor is closed."""
        while not self._stopped.is_set():
            start = time.perf_counter()
            is_taken = self._replay.add(chunk, timeout_s=wait_s)
            self.counts.waiting_s += self._time_since(start)
            if is_taken:
                self.counts.chunks += 1
                return True
        return False

    def pull_weights(self) -> None:
        """Act with the newest weights from now on, if there are newer ones."""
        self._inference.follow_weights()

    def collect(self) -> Chunk:
        """Play `chunk_steps` steps of every environment."""
        rows = self._rows
        rows.advance()
        self._step(rows.num_lookahead)
        # A server may get newer weights within a chunk, which then counts as old as its beginning.
        version = self._inference.version
        for row in range(rows.num_lookahead + 1, rows.num_lookahead + rows.chunk_steps):
            self._step(row)
        return rows.take_chunk(
            game=self._env.spec.name,
            actor_serial=self._serial,
            priorities=self._priority_rule(rows),
            weights_version=0 if version is None else version.encode(),
        )

    def explore_with(self, epsilons: NDArray[np.float32]) -> None:
        """Explore at other rates [num_envs] from the next step on; another thread may be in `run`.

        A ladder is spread over all environments of a game: it changes with their number.
        """
        if epsilons.shape != self._final_epsilons.shape:
            raise ValueError(
                f"an actor with {len(self._final_epsilons)} environments was given exploration "
                f"rates for {len(epsilons)}"
            )
        self._final_epsilons = epsilons

    def drain_returns(self) -> list[tuple[float, float]]:
        """(raw return, exploration rate) of the episodes that ended since the last call.

        May be called while another thread is in `run`.
        """
        # Copy, then cut off what was copied: what is appended in between is kept for the next call.
        returns = self._finished_returns.copy()
        del self._finished_returns[: len(returns)]
        return returns

    def finish(self) -> None:
        """Make `run` return when replay has taken the chunk that is being played; nothing is lost.

        It may wait for the learner until then; `close` ends that, too.
        """
        self._finishing.set()

    def close(self) -> None:
        """Make `run` return at the next chunk; nothing is sent or played from then on.

        The environments are closed by `run` if it is under way, by this call otherwise.
        """
        # In this order: a `run` that begins after the question below finds itself stopped.
        self._stopped.set()
        if not self._is_running:
            self._env.close()

    def _step(self, row: int) -> None:
        rows = self._rows
        start = time.perf_counter()
        self._label(row)
        self.counts.network_s += self._time_since(start)
        epsilons = annealed(
            self._final_epsilons, step=self._steps_per_env, anneal_steps=self._config.anneal_steps
        )
        acting = "teacher_logits" if self._config.act_with == "teacher" else "student_logits"
        drawn = self._policy(rows[acting][row, :, : self._env.spec.num_actions], epsilons)
        actions = drawn.actions
        start = time.perf_counter()
        step = self._env.step(actions)
        self.counts.stepping_s += self._time_since(start)
        ends_return = step.terminated
        if self._life_loss_ends_return:
            ends_return = ends_return | step.life_lost
        channels = rows["frames"].shape[2]
        rows["frames"][row] = self._observations[:, -channels:]
        rows["is_first"][row] = self._is_first
        rows.is_entry[row] = ~self._ended | self._truncated
        rows["is_transition"][row] = ~self._ended
        rows["actions"][row] = actions
        rows["rewards"][row] = step.rewards
        rows["discounts"][row] = ~ends_return
        rows["epsilons"][row] = epsilons
        if "behaviour_probabilities" in self._extra_columns:
            rows["behaviour_probabilities"][row] = drawn.probabilities
        self._observations = step.observations
        self._is_first = step.restarted
        self._truncated = step.truncated
        self._ended = step.terminated | step.truncated
        self._steps_per_env += 1
        self.counts.steps += int(np.count_nonzero(~step.restarted))
        self.counts.episodes += int(np.count_nonzero(self._ended))
        finished = self._returns.add(step.rewards, self._ended)
        self._finished_returns.extend(
            zip(finished.tolist(), epsilons[self._ended].tolist(), strict=True)
        )

    def _time_since(self, start: float) -> float:
        """Seconds since `start`, which the actor's own clock has gone on by now."""
        now = time.perf_counter()
        self.counts.elapsed_s = now - self._began
        return now - start

    def _label(self, row: int) -> None:
        """Both networks' view of the current observations."""
        self._inference.begin(self._observations, self._is_first)
        width = self._env.spec.num_actions
        # A server computes the student's logits meanwhile.
        for number, teacher in enumerate(self._teachers):
            labels = teacher.label(torch.from_numpy(self._observations))
            place = slice(number * width, (number + 1) * width)
            self._rows["teacher_logits"][row, :, place] = labels.logits_BA.numpy()
            if number > 0:
                continue
            self._rows["teacher_values"][row] = labels.values_B.numpy()
            if self._rows["teacher_features"].shape[-1]:
                self._rows["teacher_features"][row] = labels.features_BF.numpy()
        self._rows["student_logits"][row] = self._inference.finish()
        if "memories" in self._extra_columns:
            self._rows["memories"][row] = self._inference.memory
