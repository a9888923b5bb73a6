"""Checks of what counting games left behind in chunks and batches, entry by entry."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from counting import (
    NUM_STACK,
    Entry,
    Schedule,
    Tags,
    check_stacks,
    expected_entries,
    frames_of,
    game_id,
    read_tags,
    reward_of,
)
from numpy.typing import NDArray

from games.registry import get_game
from replay.types import STREAMS_PER_ACTOR_BITS, Chunk, SampleBatch


@dataclass(frozen=True, slots=True)
class Stream:
    """All that one environment sent, put together again: every column by its name in Chunk."""

    columns: dict[str, NDArray[np.generic]]
    versions: NDArray[np.int64]
    tags: Tags

    def __getattr__(self, name: str) -> NDArray[np.generic]:
        return self.columns[name]

    def __len__(self) -> int:
        return len(self.columns["frames"])


def streams_of(chunks: Iterable[Chunk]) -> dict[int, Stream]:
    """Streams by number; AssertionError if a position comes twice, out of order, or not at all."""
    parts: dict[int, list[tuple[Chunk, slice]]] = {}
    positions: dict[int, int] = {}
    for chunk in chunks:
        chunk.check_runs()
        start = 0
        for stream, first, length in zip(
            chunk.streams.tolist(), chunk.first_steps.tolist(), chunk.lengths.tolist(), strict=True
        ):
            assert first == positions.get(stream, 0), f"stream {stream} skips or repeats steps"
            positions[stream] = first + length
            parts.setdefault(stream, []).append((chunk, slice(start, start + length)))
            start += length
    return {stream: _join(pieces) for stream, pieces in parts.items()}


def _join(pieces: list[tuple[Chunk, slice]]) -> Stream:
    columns = {
        name: np.concatenate([chunk[name][rows] for chunk, rows in pieces])
        for name in pieces[0][0].columns
    }
    versions = np.concatenate(
        [np.full(rows.stop - rows.start, chunk.weights_version) for chunk, rows in pieces]
    )
    return Stream(columns, versions, read_tags(columns["frames"]))


def check_stream(
    stream: Stream,
    schedule: Schedule,
    *,
    game: str,
    seed: int,
    env: int,
    num_rows: int,
    life_loss_ends_return: bool,
) -> None:
    """AssertionError unless it holds exactly what the first `num_rows` steps must have left."""
    expected = expected_entries(schedule, env, num_rows=num_rows)
    assert len(stream) == len(expected), "entries are missing or too many"
    tags = stream.tags
    for name, value in (("game", game_id(game)), ("seed", seed), ("env", env)):
        assert (getattr(tags, name) == value).all(), f"entries of another {name}"
    for name in ("episode", "step", "clock"):
        assert getattr(tags, name).tolist() == [getattr(e, name) for e in expected], name
    for name in ("is_first", "is_transition"):
        assert getattr(stream, name).tolist() == [getattr(e, name) for e in expected], name
    discounts = [e.discount(life_loss_ends_return=life_loss_ends_return) for e in expected]
    assert stream.discounts.tolist() == discounts
    played = stream.is_transition
    assert stream.rewards.tolist() == np.where(played, reward_of(tags), 0.0).tolist()
    _check_actions(stream, get_game(game).legal_actions)


def _check_actions(stream: Stream, legal_actions: tuple[int, ...]) -> None:
    """Every frame says which action led to it."""
    assert np.isin(stream.actions, legal_actions).all()
    assert (stream.tags.action[stream.is_first] == -1).all()
    inside = np.flatnonzero(~stream.is_first)
    assert (stream.actions[inside - 1] == stream.tags.action[inside]).all(), "shifted actions"


def stream_number(serial: int, env: int) -> int:
    return (serial << STREAMS_PER_ACTOR_BITS) + env


def check_batch(
    batch: SampleBatch, schedules: Mapping[str, Schedule], *, life_loss_ends_return: bool
) -> Tags:
    """AssertionError unless every row is a transition that was really played; returns its tags."""
    assert (np.diff(batch.game_index) >= 0).all(), "rows are not ordered by game"
    tags = check_stacks(batch.observations)
    expected_games = np.array([game_id(game) for game in batch.games])[batch.game_index]
    assert (tags.game == expected_games).all(), "a row of another game"
    if batch["teacher_features"].shape[1]:
        newest = batch.observations[:, -1].reshape(batch.batch_size, -1)
        width = newest.shape[1]
        assert (batch["teacher_features"][:, :width] == newest).all(), "features of another state"
    for row in range(batch.batch_size):
        game = batch.games[int(batch.game_index[row])]
        assert int(batch["actions"][row]) in get_game(game).legal_actions
        steps = _steps_from(schedules[game], tags, row)
        assert steps, "not a state that an action was taken in"
        if batch.successors is not None:
            _check_successors(batch, row, steps, tags, life_loss_ends_return)
    if batch.successors is not None:
        _check_first_actions(batch, tags)
    return tags


def _steps_from(schedule: Schedule, tags: Tags, row: int) -> list[Entry]:
    """The rest of the row's episode; empty if the row is none of its transitions."""
    clock, env = int(tags.clock[row]), int(tags.env[row])
    entries = expected_entries(schedule, env, num_rows=clock + 2 * max(schedule.lengths) + 2)
    rest = [e for e in entries if e.clock >= clock and e.episode == int(tags.episode[row])]
    if not rest or rest[0].clock != clock or rest[0].step != int(tags.step[row]):
        return []
    return rest if rest[0].is_transition else []


def _check_successors(
    batch: SampleBatch, row: int, rest: list[Entry], tags: Tags, life_loss_ends_return: bool
) -> None:
    """The rewards until the end of the return, and the observation it bootstraps from."""
    successors = batch.successors
    assert successors is not None
    first_reward = float(reward_of(tags)[row])
    length, alive = 0, True
    for entry in rest[: successors.rewards.shape[1]]:
        if not entry.is_transition or not alive:
            break
        assert successors.rewards[row, length] == first_reward + 256 * length
        alive = entry.discount(life_loss_ends_return=life_loss_ends_return) > 0
        assert (successors.discounts[row, length] > 0) == alive
        length += 1
    assert successors.lengths[row] == length
    assert not successors.rewards[row, length:].any()
    bootstrap = successors.bootstrap_observations[row][None]
    if not alive:
        assert not bootstrap.any()
        return
    after = check_stacks(bootstrap)
    assert after.tuple_at(0)[:4] == tags.tuple_at(row)[:4], "bootstraps from another episode"
    assert after.clock[0] == tags.clock[row] + length


def _check_first_actions(batch: SampleBatch, tags: Tags) -> None:
    """The bootstrap stack still shows the action taken at first, if the return is short enough."""
    successors = batch.successors
    assert successors is not None
    stacks = frames_of(successors.bootstrap_observations)
    for row in range(batch.batch_size):
        length = int(successors.lengths[row])
        column = NUM_STACK - length
        if column >= 0 and stacks[row].any():
            after = read_tags(stacks[row, column])
            assert after.clock == tags.clock[row] + 1
            assert after.action == batch["actions"][row], "shifted actions"
