"""From a replay batch to tensors: nothing changes but the place and the type."""

import dataclasses
from dataclasses import replace

import numpy as np
import pytest
import torch
from batches import GAMES, random_batch

from learner.batch import BatchLoader
from replay.types import Sequences

CPU = torch.device("cpu")


def load(batch, device=CPU, *, gamma=0.9, reward_clip=1.0):
    return BatchLoader(device, gamma=gamma, reward_clip=reward_clip)(batch)


def test_every_column_keeps_its_values_and_gets_the_learners_type():
    batch = random_batch()
    loaded = load(batch)
    for name, column, dtype in (
        ("observations_BCHW", batch.observations, torch.uint8),
        ("actions_B", batch["actions"], torch.int64),
        ("game_index_B", batch.game_index, torch.int64),
        ("teacher_logits_BA", batch["teacher_logits"], torch.float32),
        ("teacher_features_BD", batch["teacher_features"], torch.float32),
        ("inverse_probabilities_B", batch.inverse_probabilities, torch.float32),
        ("loss_weights_B", batch.loss_weights, torch.float32),
    ):
        tensor = getattr(loaded, name)
        assert tensor.dtype == dtype, name
        np.testing.assert_array_equal(tensor.numpy(), column, err_msg=name)
    assert loaded.keys is batch.keys
    assert loaded.games == GAMES
    assert loaded.temporal_difference is None


def slow_returns(batch, row, *, gamma, reward_clip):
    """(n-step return with clipped rewards, factor of the bootstrap value)."""
    successors = batch.successors
    total, factor = 0.0, 1.0
    for step in range(int(successors.lengths[row])):
        reward = float(successors.rewards[row, step])
        total += factor * min(max(reward, -reward_clip), reward_clip)
        factor *= gamma * float(successors.discounts[row, step])
    return total, factor


@pytest.mark.parametrize("reward_clip", [0.7, 100.0])
def test_returns_equal_a_slow_loop_with_clipped_rewards(reward_clip):
    batch = random_batch(counts=(20, 20), num_successors=3)
    future = load(batch, gamma=0.8, reward_clip=reward_clip).temporal_difference
    for row in range(40):
        total, factor = slow_returns(batch, row, gamma=0.8, reward_clip=reward_clip)
        assert future.returns_B[row].item() == pytest.approx(total, abs=1e-5)
        assert future.bootstrap_discounts_B[row].item() == pytest.approx(factor, abs=1e-6)
    assert (future.bootstrap_discounts_B == 0).any()
    np.testing.assert_array_equal(
        future.bootstrap_observations_BCHW.numpy(), batch.successors.bootstrap_observations
    )


def test_read_only_views_of_shared_memory_are_taken_and_not_written_to():
    # Warnings are errors here, and torch warns of tensors over read-only arrays.
    batch = random_batch(num_successors=2)
    for holder in (batch, batch.successors):
        for name in holder.__slots__:
            array = getattr(holder, name)
            if isinstance(array, np.ndarray):
                array.flags.writeable = False
    batch.keys.game_index.flags.writeable = False
    loaded = load(batch)
    loaded.observations_BCHW.zero_()
    loaded.loss_weights_B.zero_()
    assert batch.observations.any()
    assert batch.loss_weights.all()


@pytest.mark.parametrize("num_channels", [1, 4])
def test_nothing_that_was_loaded_changes_when_replay_fills_the_memory_again(num_channels):
    batch = random_batch(num_successors=2, versions=range(7))
    images = np.random.default_rng(0).integers(1, 256, (7, num_channels, 6, 6), np.uint8)
    batch = replace(batch, observations=images)
    expected = load(replace(batch, observations=images.copy()))
    loaded = load(batch)
    for holder in (batch, batch.successors):
        for name in holder.__slots__:
            array = getattr(holder, name)
            if isinstance(array, np.ndarray):
                array.fill(0)
    for name in ("observations_BCHW", "actions_B", "teacher_logits_BA", "loss_weights_B"):
        assert torch.equal(getattr(loaded, name), getattr(expected, name)), name
    np.testing.assert_array_equal(loaded.acting_versions, expected.acting_versions)
    futures = [item.temporal_difference for item in (loaded, expected)]
    for name in ("returns_B", "bootstrap_discounts_B", "bootstrap_observations_BCHW"):
        assert torch.equal(getattr(futures[0], name), getattr(futures[1], name)), name


def test_a_batch_of_sequences_brings_all_columns_and_what_to_bootstrap_from():
    batch = random_batch(counts=(4, 2))
    sequences = Sequences(
        length=2,
        num_steps=np.array([2, 1, 2]),
        bootstrap_observations=batch.observations[:3].copy(),
        can_bootstrap=np.array([True, False, True]),
    )
    rewards = np.arange(6, dtype=np.float32)
    columns = {**batch.columns, "rewards": rewards}
    loaded = load(dataclasses.replace(batch, columns=columns, sequences=sequences))
    assert loaded.sequences.length == 2
    assert loaded.sequences.is_step_B.tolist() == [True, True, True, False, True, True]
    assert loaded.sequences.can_bootstrap_Q.tolist() == [True, False, True]
    after = loaded.sequences.bootstrap_observations_QCHW.numpy()
    np.testing.assert_array_equal(after, sequences.bootstrap_observations)
    assert loaded.columns["rewards"].tolist() == rewards.tolist()
    assert loaded.columns["teacher_logits"].dtype == torch.float32
    assert loaded.columns.keys() == columns.keys()
    assert not load(batch).columns


@pytest.mark.gpu
def test_a_batch_on_the_accelerator_is_the_same():
    batch = random_batch(num_successors=2)
    here, there = load(batch), load(batch, torch.device("cuda"))
    assert there.observations_BCHW.device.type == "cuda"
    assert there.observations_BCHW.is_contiguous(memory_format=torch.channels_last)
    for name in ("observations_BCHW", "actions_B", "teacher_logits_BA", "loss_weights_B"):
        assert torch.equal(getattr(there, name).cpu(), getattr(here, name)), name
    assert torch.equal(
        there.temporal_difference.returns_B.cpu(), here.temporal_difference.returns_B
    )
