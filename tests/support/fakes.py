"""Stand-ins for what actors and learners are given: replay and weights that write on a tape.

They keep the promises of the real ones (client_contracts.py checks both) with plain lists and
loops, in an order that a test can foresee.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from games.env import VectorEnv, VectorStep
from games.spec import GameSpec
from networks.weights import WeightSnapshot, WeightsVersion
from replay.storage.ring import TableSpec
from replay.types import Chunk, ItemKeys, PriorityUpdate, SampleBatch, Successors

Gate = Callable[[], bool]
"""Asked at every call; False means: not now."""


class Tape:
    def __init__(self) -> None:
        self.events: list[tuple[str, object]] = []

    def record(self, name: str, detail: object = None) -> None:
        self.events.append((name, detail))

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.events]

    def details(self, name: str) -> list[object]:
        return [detail for event, detail in self.events if event == name]


class FirstRefuse:
    """A gate that says no to the first `count` calls and yes from then on."""

    def __init__(self, count: int) -> None:
        self._left = count

    def __call__(self) -> bool:
        self._left -= 1
        return self._left < 0


def always_open() -> bool:
    return True


@dataclass(slots=True)
class _Entry:
    chunk: Chunk
    row: int
    previous: _Entry | None
    serial: int
    next: _Entry | None = field(default=None)


class _FifoTable:
    """One game's entries; each is delivered once, in the order in which they became ready."""

    def __init__(self, spec: TableSpec) -> None:
        self.spec = spec
        self.entries: list[_Entry] = []
        self.ready: list[_Entry] = []
        self._waiting: list[_Entry] = []
        self._tails: dict[int, tuple[int, _Entry]] = {}

    def add(self, chunk: Chunk) -> None:
        row = 0
        for stream, first_step, length in zip(
            chunk.streams.tolist(), chunk.first_steps.tolist(), chunk.lengths.tolist(), strict=True
        ):
            if length and first_step <= self._tails.get(stream, (-1, None))[0]:
                raise ValueError(f"steps out of order: a run of stream {stream}")
            for offset in range(length):
                position, tail = self._tails.get(stream, (-1, None))
                follows = tail is not None and position + 1 == first_step + offset
                previous = tail if follows and not chunk["is_first"][row] else None
                entry = _Entry(chunk, row, previous, len(self.entries))
                if previous is not None:
                    previous.next = entry
                self.entries.append(entry)
                if chunk["is_transition"][row]:
                    self._waiting.append(entry)
                self._tails[stream] = (first_step + offset, entry)
                row += 1
        waiting, self._waiting = self._waiting, []
        for entry in waiting:
            (self.ready if self._is_ready(entry) else self._waiting).append(entry)

    def stack(self, entry: _Entry) -> list[NDArray[np.uint8]] | None:
        """Frames of the observation, oldest first; None if one is missing."""
        frames = [entry.chunk["frames"][entry.row]]
        while len(frames) < self.spec.num_stack:
            if entry.chunk["is_first"][entry.row]:
                frames += [np.zeros_like(frames[0])] * (self.spec.num_stack - len(frames))
            elif entry.previous is None:
                return None
            else:
                entry = entry.previous
                frames.append(entry.chunk["frames"][entry.row])
        return frames[::-1]

    def future(self, entry: _Entry) -> tuple[list[_Entry], _Entry | None] | None:
        """(the steps of the n-step return, where it bootstraps or None); None: not here yet."""
        steps: list[_Entry] = []
        current: _Entry | None = entry
        for _ in range(self.spec.num_successors):
            if current is None:
                return None
            if not current.chunk["is_transition"][current.row]:
                break
            steps.append(current)
            if current.chunk["discounts"][current.row] == 0:
                return steps, None
            current = current.next
        return None if current is None else (steps, current)

    def _is_ready(self, entry: _Entry) -> bool:
        return self.stack(entry) is not None and self.future(entry) is not None


class FakeReplay:
    """Replay without priorities: every batch holds the oldest transitions not delivered yet.

    Each game has the same part of a batch (the first games one more, if it does not come out
    even). Keys carry serial numbers instead of slots. Nothing is overwritten.
    """

    def __init__(
        self,
        tables: Sequence[TableSpec],
        *,
        batch_size: int,
        tape: Tape | None = None,
        accepts: Gate = always_open,
        delivers: Gate = always_open,
    ) -> None:
        """Start empty.

        Args:
            tables: as for ReplayShard.
            batch_size: of every batch.
            tape: gets "add", "refuse", "sample", "starve", "update_priorities" and "close".
            accepts: asked before a chunk is stored.
            delivers: asked before a batch is given.
        """
        self.tape = tape or Tape()
        self._tables = [_FifoTable(spec) for spec in tables]
        self._batch_size = batch_size
        self._accepts = accepts
        self._delivers = delivers
        self._closed = False
        self.chunks: list[Chunk] = []
        self.updates: list[PriorityUpdate] = []

    @property
    def games(self) -> tuple[str, ...]:
        return tuple(table.spec.game for table in self._tables)

    def add(self, chunk: Chunk, *, timeout_s: float) -> bool:
        if chunk.game not in self.games:
            raise ValueError(f"this replay holds {', '.join(self.games)}; not {chunk.game!r}")
        chunk.check_runs()
        if self._closed or not self._accepts():
            self.tape.record("refuse", chunk)
            return False
        self.tape.record("add", chunk)
        self.chunks.append(chunk)
        self._tables[self.games.index(chunk.game)].add(chunk)
        return True

    def sample(self, *, timeout_s: float) -> SampleBatch | None:
        counts = self._counts()
        if (
            self._closed
            or any(len(t.ready) < n for t, n in zip(self._tables, counts, strict=True))
            or not self._delivers()
        ):
            self.tape.record("starve")
            return None
        batch = self._take(counts)
        self.tape.record("sample", batch)
        return batch

    def update_priorities(self, update: PriorityUpdate) -> None:
        if not np.all(np.isfinite(update.priorities)) or np.any(update.priorities < 0):
            raise ValueError("priorities must be finite and not negative")
        if len(update.priorities) != len(update.keys.generations):
            raise ValueError("a priority is needed for every key")
        self.tape.record("update_priorities", update)
        self.updates.append(update)

    def close(self) -> None:
        """From now on nothing is stored or given."""
        self.tape.record("close")
        self._closed = True

    def _counts(self) -> list[int]:
        each, odd = divmod(self._batch_size, len(self._tables))
        return [each + (index < odd) for index in range(len(self._tables))]

    def _take(self, counts: list[int]) -> SampleBatch:
        taken = []
        for table, count in zip(self._tables, counts, strict=True):
            taken += [(table, entry) for entry in table.ready[:count]]
            del table.ready[:count]

        def column(name: str) -> NDArray[np.generic]:
            return np.stack([entry.chunk[name][entry.row] for _, entry in taken])

        widest = max(table.spec.entry.num_teacher_features for table in self._tables)
        features = np.zeros((len(taken), widest), np.float16)
        for row, (_, entry) in enumerate(taken):
            own = entry.chunk["teacher_features"][entry.row]
            features[row, : len(own)] = own
        ones = np.ones(len(taken), np.float32)
        serials = np.array([entry.serial for _, entry in taken])
        return SampleBatch(
            games=self.games,
            keys=ItemKeys(
                shard=0,
                game_index=np.repeat(np.arange(len(counts)), counts),
                generations=serials,
            ),
            observations=np.stack([self._observation(table, entry) for table, entry in taken]),
            columns={
                "actions": column("actions"),
                "student_logits": column("student_logits"),
                "teacher_logits": column("teacher_logits"),
                "teacher_features": features,
                "teacher_values": column("teacher_values"),
                "weights_versions": np.array([e.chunk.weights_version for _, e in taken]),
            },
            inverse_probabilities=ones,
            loss_weights=ones.copy(),
            ages=np.array([len(table.entries) - 1 - entry.serial for table, entry in taken]),
            successors=self._successors(taken) if self._tables[0].spec.num_successors else None,
        )

    @staticmethod
    def _observation(table: _FifoTable, entry: _Entry) -> NDArray[np.uint8]:
        stack = table.stack(entry)
        assert stack is not None
        return np.concatenate(stack)

    def _successors(self, taken: list[tuple[_FifoTable, _Entry]]) -> Successors:
        num_steps = self._tables[0].spec.num_successors
        rewards = np.zeros((len(taken), num_steps), np.float32)
        discounts = np.ones((len(taken), num_steps), np.float32)
        lengths = np.zeros(len(taken), np.int64)
        bootstrap = np.zeros((len(taken), *taken[0][0].spec.observation_shape), np.uint8)
        for row, (table, entry) in enumerate(taken):
            future = table.future(entry)
            assert future is not None
            steps, last = future
            lengths[row] = len(steps)
            for column, step in enumerate(steps):
                rewards[row, column] = step.chunk["rewards"][step.row]
                discounts[row, column] = step.chunk["discounts"][step.row]
            if last is not None:
                bootstrap[row] = self._observation(table, last)
        return Successors(
            rewards=rewards,
            discounts=discounts,
            lengths=lengths,
            bootstrap_observations=bootstrap,
        )


class FakeWeights:
    """Source and sink of weights that remembers everything that was published."""

    def __init__(self, tape: Tape | None = None, *, delivers: Gate = always_open) -> None:
        self.tape = tape or Tape()
        self._delivers = delivers
        self.published: list[WeightSnapshot] = []

    @property
    def newest(self) -> WeightSnapshot | None:
        return max(self.published, key=lambda snapshot: snapshot.version, default=None)

    def publish(self, snapshot: WeightSnapshot) -> None:
        self.tape.record("publish", snapshot.version)
        self.published.append(snapshot)

    def poll(self, newer_than: WeightsVersion | None) -> WeightSnapshot | None:
        newest = self.newest
        if newest is None or not self._delivers():
            self.tape.record("pull", None)
            return None
        if newer_than is not None and newest.version <= newer_than:
            self.tape.record("pull", None)
            return None
        self.tape.record("pull", newest.version)
        return newest


class TapedEnv:
    """Writes "step" and "close env" on a tape and otherwise is the environment it wraps."""

    def __init__(self, env: VectorEnv, tape: Tape) -> None:
        self._env = env
        self._tape = tape

    @property
    def spec(self) -> GameSpec:
        return self._env.spec

    @property
    def num_envs(self) -> int:
        return self._env.num_envs

    def reset(self) -> NDArray[np.uint8]:
        return self._env.reset()

    def step(self, actions: NDArray[np.int64]) -> VectorStep:
        self._tape.record("step", actions.copy())
        return self._env.step(actions)

    def close(self) -> None:
        self._tape.record("close env")
        self._env.close()
