"""The benchmark of replay: its arithmetic, its record of play, and the line that it ends with."""

import json
import os
import sys
import threading

import numpy as np
import pytest
from replay_chunks import EpisodeWriter, chunk_of

from benchmarks.memory import num_bytes
from benchmarks.processes import read_process
from benchmarks.replay import peers
from benchmarks.replay.figures import (
    TARGETS,
    figures_of,
    judge,
)
from benchmarks.replay.peers import measure_peers, write_items
from benchmarks.replay.play import RecordedPlay
from launch.bench import main

KEYS = {
    "inserts_per_second",
    "samples_per_second",
    "updates_per_second",
    "bytes_per_transition",
    "memcpy_ratio",
}


# Seconds of a sample and of a byte: the ratios of the rounds are 0.6, 0.6, 0.3, 0.6 and 0.3, and
# the ratio of the medians is 0.3.
ROUNDS = {
    "sample": [5e-6, 10e-6, 10e-6, 5e-6, 10e-6],
    "copy": [1e-10, 2e-10, 1e-10, 1e-10, 1e-10],
    "insert": [1e-5] * 5,
    "update": [1e-6] * 5,
}


def figures(**overrides):
    given = {"bytes_per_sample": 30_000.0, "counted_bytes": 100.0, "resident_bytes": 90.0}
    return figures_of(ROUNDS, **(given | overrides))


def full_report():
    """A report that passes every target by as little as possible."""
    report = {"compressed": {}}
    for target in TARGETS:
        *nodes, name = target.path.split(".")
        (report[nodes[0]] if nodes else report)[name] = target.value
    return report


def test_delivered_bytes_are_compared_with_copied_ones_round_by_round():
    assert figures()["memcpy_ratio"] == pytest.approx(0.6)
    assert figures()["memcpy_ratio_quartiles"] == pytest.approx([0.3, 0.6])
    assert figures()["samples_per_second"] == pytest.approx(1e5)
    assert figures()["inserts_per_second"] == pytest.approx(1e5)
    assert figures()["updates_per_second"] == pytest.approx(1e6)
    assert figures()["memcpy_bytes_per_second"] == pytest.approx(1e10)


def test_labels_in_a_mapping_of_columns_count_as_bytes():
    chunk = chunk_of(EpisodeWriter().play(0, ".."))
    assert num_bytes(chunk) > sum(column.nbytes for column in chunk.columns.values())
    assert num_bytes({"a": np.zeros(3, np.uint8), "b": {"c": np.zeros(2, np.float32)}}) == 11


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.path)
def test_a_figure_on_the_wrong_side_or_missing_has_not_passed(target):
    worse = 0.999 if target.comparison == ">=" else 1.001
    for value in (target.value * worse, None):
        report = full_report()
        *nodes, name = target.path.split(".")
        (report[nodes[0]] if nodes else report)[name] = value
        judged = judge(report)
        assert [path for path, row in judged.items() if not row["passed"]] == [target.path]


def test_memory_descriptors_and_threads_of_a_process_are_read():
    before = read_process(os.getpid())
    held = np.ones(64 * 2**20, np.uint8)
    read_end, write_end = os.pipe()
    gate = threading.Event()
    thread = threading.Thread(target=gate.wait)
    thread.start()
    after = read_process(os.getpid())
    gate.set()
    thread.join()
    os.close(read_end)
    os.close(write_end)
    assert after.resident_bytes - before.resident_bytes > 0.9 * len(held)
    assert after.own_bytes - before.own_bytes > 0.9 * len(held)
    assert after.num_descriptors == before.num_descriptors + 2
    assert after.num_threads == before.num_threads + 1


def two_games():
    """Two short chunks of each of two games; environment 1 of pong is cut off and begins anew."""
    pong, boxing = EpisodeWriter(), EpisodeWriter()
    return RecordedPlay(
        chunks={
            "pong": [
                chunk_of([*pong.play(0, ".."), *pong.play(1, ".t")]),
                chunk_of([*pong.play(0, "."), *pong.play(1, ".")]),
            ],
            "boxing": [
                chunk_of(boxing.play(0, "..e"), game="boxing"),
                chunk_of(boxing.play(0, "."), game="boxing"),
            ],
        },
        players={},
    )


def test_other_libraries_get_the_same_transitions_with_their_frames_by_number(tmp_path):
    recorded = two_games()
    write_items(recorded, tmp_path / "items.npz")
    with np.load(tmp_path / "items.npz", allow_pickle=False) as file:
        items = dict(file)
    # In turn: pong's first chunk with frames 1 to 5 (number 5 is no transition), boxing's with
    # frames 6 to 8, pong's second with 9 and 10, boxing's second with 11.
    assert items["stacks"].tolist() == [
        [0, 0, 0, 1],
        [0, 0, 1, 2],
        [0, 0, 0, 3],
        [0, 0, 3, 4],
        [0, 0, 0, 6],
        [0, 0, 6, 7],
        [0, 6, 7, 8],
        [0, 1, 2, 9],
        [0, 0, 0, 10],
        [0, 0, 0, 11],
    ]
    first = recorded.chunks["pong"][0]
    assert not items["frames"][0].any()
    np.testing.assert_array_equal(items["frames"][1:6], first["frames"][:, 0])
    np.testing.assert_array_equal(items["rewards"][:4], first["rewards"][first["is_transition"]])
    streams = items["streams"]
    assert len(set(streams.tolist())) == 3
    assert streams[0] == streams[1] == streams[7] != streams[4] == streams[9]
    assert int(items["chunk_size"]) == 5


def measure(pythons):
    return measure_peers(
        two_games(), pythons, capacity=8, batch_size=4, memcpy_source_bytes=10**6, seconds=0.0
    )


FAKE_PEER = """
import sys
sys.path.insert(0, {folder!r})
import in_process
from measure_peer import main

class Buffer:
    def __init__(self, items, options):
        self.items, self.batch_size, self.stored = items, options.batch_size, 0
    def insert(self, rows):
        assert self.items.columns["observations"][rows].shape[1:] == (4, 2, 2)
        self.stored += rows.stop - rows.start
    def finish_inserting(self):
        pass
    def sample(self):
        return list(range(self.batch_size)), 100 * self.batch_size
    def update(self, keys, priorities):
        assert len(keys) == len(priorities) == self.batch_size

in_process.BUFFERS["fake"] = (Buffer, "numpy")
main()
{ending}
"""


@pytest.fixture
def fake_peer(tmp_path, monkeypatch):
    """Makes a library of which `ending` is the last line of the script."""

    def write(ending):
        script = FAKE_PEER.format(folder=str(peers._SCRIPT.parent), ending=ending)
        (tmp_path / "measure_fake.py").write_text(script)
        monkeypatch.setattr(peers, "PEERS", {"fake": "numpy"})
        monkeypatch.setattr(peers, "_SCRIPT", tmp_path / "measure_fake.py")

    return write


def test_a_library_is_measured_by_its_script_in_its_environment(fake_peer):
    fake_peer("")
    results = measure(["/bin/false", sys.executable])
    assert results.reasons == {}
    found = results.figures["fake"]
    assert set(found) > KEYS
    assert found["version"] == np.__version__
    assert found["bytes_per_sample"] == 100
    assert found["samples_per_second"] > 0
    # Of rounds, so near what the medians give, but not the same.
    assert found["memcpy_ratio"] == pytest.approx(
        found["samples_per_second"] * 100 / found["memcpy_bytes_per_second"], rel=0.5
    )


def test_a_library_whose_script_fails_is_null_with_its_last_words(fake_peer):
    fake_peer("sys.exit('it is broken')")
    results = measure([sys.executable])
    assert results.figures == {"fake": None}
    assert results.reasons["fake"] == "ended with status 1 and said: it is broken"


@pytest.mark.ray
@pytest.mark.slow
def test_replay_is_measured_from_other_processes(capsys):
    main(["replay", "--preset", "smoke", "--games", "pong", "--num-envs", "8", "--seconds", "0.1"])
    *table, last = capsys.readouterr().out.splitlines()
    report = json.loads(last)
    assert report["benchmark"] == "replay"
    assert report["unit"] == "samples/s"
    for part in (report, report["in_process"], report["compressed"]):
        assert set(part) > KEYS
        assert all(part[name] > 0 for name in KEYS - {"bytes_per_transition"})
    assert report["ratio"] == pytest.approx(report["memcpy_ratio"], rel=1e-3)
    lower, upper = report["memcpy_ratio_quartiles"]
    assert lower <= report["memcpy_ratio"] <= upper
    # Four frames and little else; one frame and little else; a compressed one.
    assert 4 * 84 * 84 < report["bytes_per_sample"] < 1.1 * 4 * 84 * 84
    assert 84 * 84 < report["bytes_per_transition"] < 1.3 * 84 * 84
    assert report["resident_bytes_per_transition"] > 0.7 * 84 * 84
    assert report["compressed"]["bytes_per_transition"] < 84 * 84
    assert all(value > 0 for value in report["two_shards"].values())
    assert "alone_memcpy_ratio" in report["two_shards"]
    assert report["two_shards_ratio"] == min(
        report["two_shards"]["alone_samples_ratio"], report["two_shards"]["alone_inserts_ratio"]
    )
    assert report["peers"] == dict.fromkeys(peers.PEERS)
    assert set(report["targets"]) == {target.path for target in TARGETS}
    assert report["settings"]["players"] == {"pong": "expert"}
    assert any(line.startswith("two_shards_ratio") for line in table)
