"""Snapshots: what is copied, how it travels, and what is refused."""

import threading

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from networks.network import MultitaskNetwork
from networks.snapshots import apply_snapshot, take_snapshot
from networks.weights import LocalWeights, WeightSink, WeightSnapshot, WeightSource, WeightsVersion

VERSION = WeightsVersion(3, 70_000)


def build_student(seed: int = 0, num_actions: int = 4, regressors: bool = True) -> MultitaskNetwork:
    torch.manual_seed(seed)
    return MultitaskNetwork(
        torso="minatar",
        observation_shape=(2, 10, 10),
        num_actions=num_actions,
        games=("one", "two"),
        teacher_feature_sizes={"one": 3, "two": 5} if regressors else {},
    )


def state_of(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def empty_snapshot(incarnation: int, updates: int) -> WeightSnapshot:
    return WeightSnapshot(WeightsVersion(incarnation, updates), {})


@given(st.integers(0, 2**23 - 1), st.integers(0, 2**40 - 1))
def test_a_version_survives_encoding(incarnation: int, updates: int) -> None:
    version = WeightsVersion(incarnation, updates)
    assert WeightsVersion.decode(version.encode()) == version
    assert isinstance(WeightsVersion.decode(version.encode()), WeightsVersion)


@given(*[st.tuples(st.integers(0, 2**23 - 1), st.integers(0, 2**40 - 1))] * 2)
def test_encoded_versions_have_the_order_of_the_versions(
    first: tuple[int, int], second: tuple[int, int]
) -> None:
    one, other = WeightsVersion(*first), WeightsVersion(*second)
    assert (one < other) == (one.encode() < other.encode())


@pytest.mark.parametrize("version", [(0, 2**40), (-1, 0), (0, -1), (2**23, 0)])
def test_a_version_that_does_not_fit_is_refused(version: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="is not in"):
        WeightsVersion(*version).encode()


@pytest.mark.parametrize("encoded", [-1, 2**63])
def test_an_integer_that_is_no_version_is_refused(encoded: int) -> None:
    with pytest.raises(ValueError, match="not an encoded"):
        WeightsVersion.decode(encoded)


def test_snapshot_is_in_half_precision_and_leaves_the_regressors_out() -> None:
    student = build_student()
    snapshot = take_snapshot(student, VERSION)
    expected = {name for name in student.state_dict() if "feature_regressors" not in name}
    assert set(snapshot.arrays) == expected
    assert {array.dtype for array in snapshot.arrays.values()} == {np.dtype(np.float16)}
    assert snapshot.num_bytes == 2 * sum(student.state_dict()[name].numel() for name in expected)


def test_full_snapshot_without_exclusions_is_exact() -> None:
    student = build_student()
    snapshot = take_snapshot(student, VERSION, half=False, exclude_prefixes=())
    assert set(snapshot.arrays) == set(student.state_dict())
    for name, tensor in student.state_dict().items():
        np.testing.assert_array_equal(snapshot.arrays[name], tensor.numpy())


@pytest.mark.parametrize("half", [True, False])
def test_later_updates_do_not_reach_a_snapshot(half: bool) -> None:
    student = build_student()
    snapshot = take_snapshot(student, VERSION, half=half)
    before = snapshot.arrays["head.bias"].copy()
    with torch.no_grad():
        student.head.bias.add_(1)
    np.testing.assert_array_equal(snapshot.arrays["head.bias"], before)


def test_applied_snapshots_are_copied_not_shared() -> None:
    snapshot = take_snapshot(build_student(0), VERSION, half=False)
    student = build_student(1)
    apply_snapshot(student, snapshot)
    with torch.no_grad():
        student.head.bias.add_(1)
    np.testing.assert_array_equal(
        snapshot.arrays["head.bias"], build_student(0).head.bias.detach().numpy()
    )


def test_roundtrip_through_bytes_gives_the_weights_rounded_to_half() -> None:
    source, target = build_student(0), build_student(1)
    snapshot = WeightSnapshot.from_bytes(take_snapshot(source, VERSION).to_bytes())
    assert snapshot.version == VERSION
    assert isinstance(snapshot.version, WeightsVersion)
    apply_snapshot(target, snapshot)
    for name in snapshot.arrays:
        assert torch.equal(target.state_dict()[name], source.state_dict()[name].half().float())
        assert target.state_dict()[name].dtype == torch.float32


def test_channels_last_weights_travel_in_logical_order() -> None:
    source = build_student(0).to(memory_format=torch.channels_last)
    assert not source.torso.convolutions[0].weight.is_contiguous()
    snapshot = take_snapshot(source, VERSION, half=False)
    apply_snapshot(target := build_student(1), WeightSnapshot.from_bytes(snapshot.to_bytes()))
    for name in snapshot.arrays:
        assert torch.equal(target.state_dict()[name], source.state_dict()[name])
    # And the other way round: the target keeps its own memory format.
    apply_snapshot(back := build_student(2).to(memory_format=torch.channels_last), snapshot)
    assert torch.equal(back.torso.convolutions[0].weight, source.torso.convolutions[0].weight)
    assert not back.torso.convolutions[0].weight.is_contiguous()


def test_apply_keeps_the_parameters_the_optimiser_holds() -> None:
    student = build_student(1)
    parameters = list(student.parameters())
    apply_snapshot(student, take_snapshot(build_student(0), VERSION))
    assert all(a is b for a, b in zip(parameters, student.parameters(), strict=True))
    assert all(parameter.requires_grad for parameter in parameters)


def test_missing_unknown_and_misshapen_weights_are_refused_and_nothing_is_written() -> None:
    student = build_student(1)
    before = state_of(student)
    good = take_snapshot(build_student(0), VERSION).arrays
    bias = good["head.bias"]
    cases = [
        ({n: a for n, a in good.items() if n != "head.bias"}, r"missing head\.bias"),
        ({**good, "head.scale": bias}, r"unknown head\.scale"),
        ({**good, "head.bias": bias[:3]}, r"'head\.bias' have shape \[3\].*\[4\]"),
        ({**good, "head.bias": bias.reshape(1, 4)}, r"shape \[1, 4\]"),
        ({**good, "head.bias": bias.astype(np.int64)}, r"'head\.bias' are int64"),
    ]
    for arrays, message in cases:
        with pytest.raises(ValueError, match=message):
            apply_snapshot(student, WeightSnapshot(VERSION, arrays))
        assert all(torch.equal(t, before[n]) for n, t in student.state_dict().items())


def test_any_changed_byte_is_noticed() -> None:
    data = WeightSnapshot(VERSION, {"w": np.arange(4, dtype=np.float32)}).to_bytes()
    WeightSnapshot.from_bytes(data)
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 1
        with pytest.raises(ValueError, match="snapshot"):
            WeightSnapshot.from_bytes(bytes(damaged))


def test_any_cut_and_any_appended_byte_is_noticed() -> None:
    data = WeightSnapshot(VERSION, {"w": np.arange(4, dtype=np.float32)}).to_bytes()
    for length in range(len(data)):
        with pytest.raises(ValueError, match="snapshot"):
            WeightSnapshot.from_bytes(data[:length])
    with pytest.raises(ValueError, match="damaged"):
        WeightSnapshot.from_bytes(data + b"\0")


def test_wire_format_keeps_shapes_dtypes_and_byte_order() -> None:
    arrays = {
        "matrix": np.arange(6, dtype=np.float16).reshape(2, 3),
        "columns": np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
        "big_endian": np.arange(3, dtype=">i8"),
        "scalar": np.array(7, dtype=np.int64),
        "empty": np.zeros((0, 3), dtype=np.float32),
        "flags": np.array([True, False]),
    }
    got = WeightSnapshot.from_bytes(WeightSnapshot(VERSION, arrays).to_bytes()).arrays
    assert list(got) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(got[name], array)
        assert got[name].dtype == array.dtype.newbyteorder("=")
        assert got[name].shape == array.shape


def test_pickled_objects_do_not_get_into_a_snapshot() -> None:
    with pytest.raises(ValueError, match=r"'w' have dtype object"):
        WeightSnapshot(VERSION, {"w": np.array([object()])}).to_bytes()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e6])
def test_weights_that_half_precision_cannot_hold_are_refused(bad: float) -> None:
    student = build_student()
    with torch.no_grad():
        student.head.weight[0, 0] = bad
    with pytest.raises(ValueError, match=r"'head\.weight' are not finite in float16"):
        take_snapshot(student, VERSION)


def test_local_weights_are_source_and_sink_and_keep_only_the_newest() -> None:
    weights = LocalWeights()
    source: WeightSource = weights
    sink: WeightSink = weights
    assert source.poll(None) is None
    old, new = empty_snapshot(1, 5), empty_snapshot(1, 6)
    sink.publish(old)
    assert source.poll(None) is old
    assert source.poll(old.version) is None
    sink.publish(new)
    assert source.poll(old.version) is new
    assert source.poll(WeightsVersion(1, 7)) is None


def test_a_late_publisher_does_not_replace_newer_weights() -> None:
    weights = LocalWeights()
    restarted = empty_snapshot(2, 0)
    weights.publish(restarted)
    weights.publish(empty_snapshot(1, 900))
    assert weights.poll(None) is restarted
    assert weights.poll(WeightsVersion(1, 900)) is restarted


def test_versions_seen_by_a_reader_never_decrease_while_two_writers_publish() -> None:
    weights = LocalWeights()
    start = threading.Barrier(2)

    def write(offset: int) -> None:
        start.wait(timeout=10)
        for updates in range(offset, 2000, 2):
            weights.publish(empty_snapshot(0, updates))

    writers = [threading.Thread(target=write, args=(offset,)) for offset in range(2)]
    for writer in writers:
        writer.start()
    seen: list[WeightsVersion] = []
    while any(writer.is_alive() for writer in writers):
        snapshot = weights.poll(seen[-1] if seen else None)
        if snapshot is not None:
            seen.append(snapshot.version)
    assert seen == sorted(set(seen))
    newest = weights.poll(None)
    assert newest is not None
    assert newest.version.updates == 1999
