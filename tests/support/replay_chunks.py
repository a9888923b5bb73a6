"""Small chunks for the tests of replay: every entry and every frame can be told from all others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from replay.channel.batch_channel import ChannelReader, ChannelServer
from replay.columns import EntryShape
from replay.config import ReplayConfig
from replay.pace.game_settings import GameSettings
from replay.shard import ReplayShard
from replay.storage.ring import TableSpec, TransitionRing
from replay.types import STREAMS_PER_ACTOR_BITS, Chunk, SampleBatch, Successors

NUM_ACTIONS = 3
FRAME_SHAPE = (1, 2, 2)


def make_spec(
    *,
    game: str = "pong",
    capacity: int = 64,
    num_stack: int = 2,
    num_successors: int = 0,
    num_teacher_features: int = 2,
    sequence_length: int = 1,
    num_actions: int = NUM_ACTIONS,
    num_teacher_actions: int = NUM_ACTIONS,
    extra_columns: tuple[str, ...] = (),
) -> TableSpec:
    """Shape of a table for the chunks made here."""
    return TableSpec(
        game=game,
        capacity=capacity,
        entry=EntryShape(
            frame_shape=FRAME_SHAPE,
            num_actions=num_actions,
            num_teacher_actions=num_teacher_actions,
            num_teacher_features=num_teacher_features,
            extra_columns=extra_columns,
        ),
        num_stack=num_stack,
        num_successors=num_successors,
        sequence_length=sequence_length,
    )


def make_settings(
    config: ReplayConfig, specs: Sequence[TableSpec], shares: Mapping[str, float] | None = None
) -> dict[str, GameSettings]:
    """What the config says for every game, with other shares."""
    settings = {
        spec.game: GameSettings(
            quota=spec.capacity * config.num_shards,
            samples_per_insert_cap=config.samples_per_insert_cap,
        )
        for spec in specs
    }
    for game, share in (shares or {}).items():
        settings[game] = replace(settings.get(game, settings[specs[0].game]), share=share)
    return settings


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One entry of a chunk; `serial` tells it from all others and fills its labels."""

    serial: int
    stream: int
    step: int
    is_first: bool = False
    is_transition: bool = True
    discount: float = 1.0
    priority: float = 1.0

    @property
    def frame(self) -> np.ndarray:
        return np.array([1 + self.serial], "<u4").view(np.uint8).reshape(FRAME_SHAPE)

    @property
    def reward(self) -> float:
        return float(self.serial) - 100.0

    @property
    def action(self) -> int:
        return self.serial % NUM_ACTIONS

    def label(self, offset: float, width: int) -> np.ndarray:
        return (np.arange(width) + offset + self.serial % 500).astype(np.float16)


def chunk_of(
    entries: Sequence[Entry],
    *,
    game: str = "pong",
    num_teacher_features: int = 2,
    weights_version: int = 7,
) -> Chunk:
    """Entries, ordered by stream and time, as a chunk with a run for every unbroken stretch."""
    lengths, streams, first_steps = [], [], []
    previous = None
    for entry in entries:
        if previous is None or (entry.stream, entry.step) != (previous.stream, previous.step + 1):
            streams.append(entry.stream)
            first_steps.append(entry.step)
            lengths.append(0)
        lengths[-1] += 1
        previous = entry
    if not entries:
        streams, first_steps, lengths = [0], [0], [0]

    def column(values: Sequence[object], dtype: type, shape: tuple[int, ...] = ()) -> np.ndarray:
        return np.array(values, dtype).reshape(len(entries), *shape)

    def labels(offset: float, width: int) -> np.ndarray:
        return column([e.label(offset, width) for e in entries], np.float16, (width,))

    return Chunk(
        game=game,
        streams=np.array(streams, np.int64),
        first_steps=np.array(first_steps, np.int64),
        lengths=np.array(lengths, np.int64),
        columns={
            "frames": column([e.frame for e in entries], np.uint8, FRAME_SHAPE),
            "is_first": column([e.is_first for e in entries], np.bool_),
            "is_transition": column([e.is_transition for e in entries], np.bool_),
            "actions": column([e.action for e in entries], np.int64),
            "rewards": column([e.reward for e in entries], np.float32),
            "discounts": column([e.discount for e in entries], np.float32),
            "epsilons": column([0.1] * len(entries), np.float32),
            "student_logits": labels(0.25, NUM_ACTIONS),
            "teacher_logits": labels(0.5, NUM_ACTIONS),
            "teacher_features": labels(0.75, num_teacher_features),
            "teacher_values": column([e.serial + 0.5 for e in entries], np.float32),
            "priorities": column([e.priority for e in entries], np.float32),
        },
        weights_version=weights_version,
    )


def array_of(chunk: Chunk, name: str) -> np.ndarray:
    """The array under the name of a column or of what is sent of every run."""
    return chunk[name] if name in chunk.columns else getattr(chunk, name)


def with_array(chunk: Chunk, name: str, array: object) -> Chunk:
    """The chunk with another array where `array_of` finds one."""
    if name in chunk.columns:
        return replace(chunk, columns={**chunk.columns, name: array})
    return replace(chunk, **{name: array})


def successors_of(ring: TransitionRing, slots: np.ndarray) -> Successors:
    """The steps that follow transitions of a ring, in arrays of their own."""
    steps = (len(slots), ring.spec.num_successors)
    images = (len(slots), *ring.spec.observation_shape)
    successors = Successors(
        rewards=np.empty(steps, np.float32),
        discounts=np.empty(steps, np.float32),
        lengths=np.empty(len(slots), np.int64),
        bootstrap_observations=np.empty(images, np.uint8),
    )
    ring.gather_successors(slots, successors)
    return successors


class EpisodeWriter:
    """Writes the entries of several environments of one actor, step by step, as an actor would."""

    def __init__(self, *, actor: int = 0) -> None:
        self._first_stream = actor << STREAMS_PER_ACTOR_BITS
        # No itertools.count: from Python 3.14 on it cannot be copied, as writers are.
        self._num_written = 0
        self._steps: dict[int, int] = {}
        self._is_first: dict[int, bool] = {}

    def play(self, env: int, events: str, *, priority: float = 1.0) -> list[Entry]:
        """The next entries of environment `env`, one for each letter (two for a truncation).

        Letters: `.` a step, `l` a life is lost, `e` the game ends, `t` it is cut off: a step and
        then the last observation, which is no transition.
        """
        entries = []
        for event in events:
            entries.append(
                self._entry(env, discount=0.0 if event in "le" else 1.0, priority=priority)
            )
            if event == "t":
                entries.append(self._entry(env, is_transition=False, priority=priority))
            self._is_first[env] = event in "et"
        return entries

    def _entry(
        self, env: int, *, discount: float = 1.0, is_transition: bool = True, priority: float
    ) -> Entry:
        step = self._steps.get(env, 0)
        self._steps[env] = step + 1
        is_first = self._is_first.get(env, True)
        self._is_first[env] = False
        self._num_written += 1
        return Entry(
            serial=self._num_written - 1,
            stream=self._first_stream + env,
            step=step,
            is_first=is_first,
            is_transition=is_transition,
            discount=discount,
            priority=priority,
        )


@contextmanager
def through_channel(shard: ReplayShard) -> Iterator[SampleBatch]:
    """A batch of the shard as a learner reads it from shared memory."""
    server = ChannelServer(shard, num_slots=1)
    reader = ChannelReader.open(server.offer)
    assert reader is not None
    reader.ask(timeout_s=10.0)
    batch = reader.receive()
    assert batch is not None
    yield batch
    reader.close()
