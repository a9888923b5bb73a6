"""What actors and learners may rely on, whoever implements replay and weights.

Each `check_` function takes a factory and raises AssertionError where the implementation it makes
does not keep its promise. Run them on the real clients and on the fakes alike:

    @pytest.mark.parametrize("check", REPLAY_CONTRACT)
    def test_replay(check):
        check(make_replay)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import counting
import numpy as np
import pytest
from counting_checks import check_batch
from fakes import FakeWeights
from players import TagNetwork, TagTeacher, table_spec

from actors.actor import Actor
from actors.config import ActorConfig
from actors.inference import OwnInference
from actors.priorities import TdError
from games.registry import make_vector_env
from games.spec import GameSpec
from networks.weights import WeightSnapshot, WeightsVersion
from replay.storage.ring import TableSpec
from replay.types import Chunk, PriorityUpdate, SampleBatch

SPECS = (counting.ENDS, counting.CUTS)
BATCH_SIZE = 10
NUM_STEPS = 2


class ReplayClient(Protocol):
    def add(self, chunk: Chunk, *, timeout_s: float) -> bool: ...

    def sample(self, *, timeout_s: float) -> SampleBatch | None: ...

    def update_priorities(self, update: PriorityUpdate) -> None: ...


@dataclass(frozen=True, slots=True)
class ReplayUnderTest:
    client: ReplayClient
    close: Callable[[], None]
    """What ends it: from then on it neither takes nor gives."""


MakeReplay = Callable[[Sequence[TableSpec], int], ReplayUnderTest]
"""From tables and batch size. It must refuse chunks once 1,000 or fewer transitions more were
stored than drawn, and take single chunks of 40 before that."""


def tables() -> list[TableSpec]:
    return [
        table_spec(
            spec,
            capacity=4_000,
            num_teacher_actions=spec.num_actions,
            num_teacher_features=TagTeacher.num_features,
            num_successors=NUM_STEPS,
        )
        for spec in SPECS
    ]


def make_actor(
    spec: GameSpec, *, serial: int = 0, chunk_steps: int = 10, num_envs: int = 4
) -> Actor:
    """An actor of a counting game; sends nowhere, ask it for chunks."""
    return Actor(
        ActorConfig(num_envs=num_envs, chunk_steps=chunk_steps),
        env=make_vector_env(spec, num_envs=num_envs, protocol="classic", seed=serial + 10),
        inference=OwnInference(TagNetwork(), FakeWeights()),
        teachers=(TagTeacher(spec),),  # type: ignore[arg-type]
        store_features=True,
        priority_rule=TdError(spec.legal_mask(), num_steps=NUM_STEPS, gamma=0.5, reward_clip=1.0),
        epsilons=np.full(num_envs, 0.5, np.float32),
        life_loss_ends_return=True,
        replay=None,  # type: ignore[arg-type]
        serial=serial,
        seed=1,
    )


def play(num_rounds: int) -> Iterator[Chunk]:
    actors = [make_actor(spec, serial=serial) for serial, spec in enumerate(SPECS)]
    for _ in range(num_rounds):
        for actor in actors:
            yield actor.collect()


def _add(replay: ReplayUnderTest, chunk: Chunk) -> bool:
    return replay.client.add(chunk, timeout_s=0.0)


def _sample(replay: ReplayUnderTest) -> SampleBatch | None:
    return replay.client.sample(timeout_s=0.0)


def _filled(make: MakeReplay) -> tuple[ReplayUnderTest, SampleBatch]:
    replay = make(tables(), BATCH_SIZE)
    for chunk in play(5):
        assert _add(replay, chunk)
    batch = _sample(replay)
    assert batch is not None
    return replay, batch


def _check(batch: SampleBatch) -> set[tuple[int, ...]]:
    tags = check_batch(batch, counting.SCHEDULES, life_loss_ends_return=True)
    return {tags.tuple_at(row) for row in range(batch.batch_size)}


def check_empty_replay_gives_no_batch(make: MakeReplay) -> None:
    """None, without an error and without waiting."""
    replay = make(tables(), BATCH_SIZE)
    assert _sample(replay) is None


def check_batches_hold_what_was_played(make: MakeReplay) -> None:
    """Rows, stacks, labels and successors are those of states that were sent."""
    replay, batch = _filled(make)
    rows = _check(batch)
    while len(rows) < 60 and (another := _sample(replay)) is not None:
        rows |= _check(another)
    assert len(rows) >= 60


def check_shapes_and_types(make: MakeReplay) -> None:
    """Every column of a batch is as replay/columns.py says."""
    _, batch = _filled(make)
    assert batch.games == tuple(spec.name for spec in SPECS)
    shape = SPECS[0].observation_shape
    for name, columns, dtype in (
        ("observations", shape, np.uint8),
        ("actions", (), np.int64),
        ("student_logits", (counting.NUM_ACTIONS,), np.float16),
        ("teacher_logits", (counting.NUM_ACTIONS,), np.float16),
        ("teacher_features", (TagTeacher.num_features,), np.float16),
        ("teacher_values", (), np.float32),
        ("inverse_probabilities", (), np.float32),
        ("loss_weights", (), np.float32),
        ("weights_versions", (), np.int64),
        ("ages", (), np.int64),
        ("game_index", (), np.int64),
    ):
        array = batch.columns[name] if name in batch.columns else getattr(batch, name)
        assert array.shape == (BATCH_SIZE, *columns), name
        assert array.dtype == dtype, name
    assert batch.successors is not None
    assert batch.successors.rewards.shape == (BATCH_SIZE, NUM_STEPS)
    assert batch.successors.bootstrap_observations.shape == (BATCH_SIZE, *shape)
    assert (batch.inverse_probabilities > 0).all()
    assert batch.loss_weights.mean() == pytest.approx(1.0)
    assert (batch.ages >= 0).all()


def check_full_replay_refuses_and_keeps_nothing(make: MakeReplay) -> None:
    """A refused chunk can be offered again later, and is there once."""
    replay = make(tables(), BATCH_SIZE)
    chunks = play(60)
    sent: set[tuple[int, ...]] = set()
    refused = None
    for chunk in chunks:
        if not _add(replay, chunk):
            refused = chunk
            break
        sent |= _tags_of(chunk)
    assert refused is not None, "it took everything"
    drawn: set[tuple[int, ...]] = set()
    for _ in range(200):
        batch = _sample(replay)
        assert batch is not None, "neither takes nor gives"
        drawn |= _check(batch)
        assert drawn <= sent, "a batch holds what was refused"
        if _add(replay, refused):
            break
    else:
        raise AssertionError("refuses for ever")


def _tags_of(chunk: Chunk) -> set[tuple[int, ...]]:
    tags = counting.read_tags(chunk["frames"])
    return {tags.tuple_at(index) for index in range(chunk.num_entries)}


def check_priorities_are_taken(make: MakeReplay) -> None:
    """For keys of the last batch, and for keys that are long out of date."""
    replay, batch = _filled(make)
    priorities = np.linspace(0.0, 2.0, BATCH_SIZE, dtype=np.float32)
    replay.client.update_priorities(PriorityUpdate(keys=batch.keys, priorities=priorities))
    stale = replace(batch.keys, generations=batch.keys.generations - 1)
    replay.client.update_priorities(PriorityUpdate(keys=stale, priorities=priorities))
    assert _sample(replay) is not None


def check_bad_priorities_are_refused(make: MakeReplay) -> None:
    """ValueError for a negative or endless priority."""
    replay, batch = _filled(make)
    for bad in (-1.0, float("nan"), float("inf")):
        priorities = np.ones(BATCH_SIZE, np.float32)
        priorities[-1] = bad
        with pytest.raises(ValueError, match="finite and not negative"):
            replay.client.update_priorities(PriorityUpdate(keys=batch.keys, priorities=priorities))


def check_strangers_are_refused(make: MakeReplay) -> None:
    """ValueError for a game that is not in the run, and for a chunk that contradicts itself."""
    replay = make(tables(), BATCH_SIZE)
    chunk = next(play(1))
    with pytest.raises(ValueError, match="counting_lives"):
        _add(replay, replace(chunk, game=counting.LIVES.name))
    with pytest.raises(ValueError, match="run lengths"):
        _add(replay, replace(chunk, lengths=chunk.lengths + 1))


def check_what_was_sent_before_is_refused(make: MakeReplay) -> None:
    """ValueError for steps that replay has."""
    replay = make(tables(), BATCH_SIZE)
    first, _, second, *_ = play(2)
    assert _add(replay, first)
    with pytest.raises(ValueError, match="steps out of order"):
        _add(replay, first)
    assert _add(replay, second)


def check_an_empty_chunk_is_taken(make: MakeReplay) -> None:
    """An actor that holds back more rows than a chunk has begins with one."""
    replay = make(tables(), BATCH_SIZE)
    actor = make_actor(SPECS[0], chunk_steps=1)
    chunks = [actor.collect() for _ in range(4)]
    assert [chunk.num_entries for chunk in chunks[:3]] == [0, 0, 4]
    assert all(_add(replay, chunk) for chunk in chunks)


def check_closed_replay_neither_takes_nor_gives(make: MakeReplay) -> None:
    """Without an error: whoever still calls is about to be closed, too."""
    replay = make(tables(), BATCH_SIZE)
    *chunks, late = play(5)
    for chunk in chunks:
        assert _add(replay, chunk)
    assert _sample(replay) is not None
    replay.close()
    assert not _add(replay, late)
    assert _sample(replay) is None


REPLAY_CONTRACT = (
    check_empty_replay_gives_no_batch,
    check_batches_hold_what_was_played,
    check_shapes_and_types,
    check_full_replay_refuses_and_keeps_nothing,
    check_priorities_are_taken,
    check_bad_priorities_are_refused,
    check_strangers_are_refused,
    check_what_was_sent_before_is_refused,
    check_an_empty_chunk_is_taken,
    check_closed_replay_neither_takes_nor_gives,
)


class Weights(Protocol):
    def publish(self, snapshot: WeightSnapshot) -> None: ...

    def poll(self, newer_than: WeightsVersion | None) -> WeightSnapshot | None: ...


MakeWeights = Callable[[], Weights]


def _snapshot(incarnation: int, updates: int) -> WeightSnapshot:
    array = np.array([incarnation, updates], np.float32)
    return WeightSnapshot(WeightsVersion(incarnation, updates), {"bias": array})


def check_nothing_before_the_first_publish(make: MakeWeights) -> None:
    weights = make()
    assert weights.poll(None) is None
    assert weights.poll(WeightsVersion(0, 0)) is None


def check_the_newest_is_given(make: MakeWeights) -> None:
    """With its own arrays, and to whoever is behind."""
    weights = make()
    for updates in (0, 5, 9):
        weights.publish(_snapshot(0, updates))
    for newer_than in (None, WeightsVersion(0, 0), WeightsVersion(0, 8)):
        newest = weights.poll(newer_than)
        assert newest is not None
        assert newest.version == (0, 9)
        assert newest.arrays["bias"].tolist() == [0.0, 9.0]


def check_nothing_for_whoever_is_up_to_date(make: MakeWeights) -> None:
    weights = make()
    weights.publish(_snapshot(1, 3))
    assert weights.poll(WeightsVersion(1, 3)) is None
    assert weights.poll(WeightsVersion(1, 4)) is None


def check_older_weights_do_not_replace_newer(make: MakeWeights) -> None:
    """A learner that was thought dead may still publish."""
    weights = make()
    weights.publish(_snapshot(1, 3))
    weights.publish(_snapshot(0, 900))
    weights.publish(_snapshot(1, 2))
    newest = weights.poll(None)
    assert newest is not None
    assert newest.version == (1, 3)
    assert newest.arrays["bias"].tolist() == [1.0, 3.0]


def check_a_restarted_learner_is_followed(make: MakeWeights) -> None:
    weights = make()
    weights.publish(_snapshot(0, 900))
    weights.publish(_snapshot(1, 2))
    newest = weights.poll(WeightsVersion(0, 900))
    assert newest is not None
    assert newest.version == (1, 2)


WEIGHTS_CONTRACT = (
    check_nothing_before_the_first_publish,
    check_the_newest_is_given,
    check_nothing_for_whoever_is_up_to_date,
    check_older_weights_do_not_replace_newer,
    check_a_restarted_learner_is_followed,
)
