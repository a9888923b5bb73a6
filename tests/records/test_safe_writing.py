"""A run goes on where its files cannot be written: on file systems that really are full."""

import json
import shutil

import pytest
import torch
from small_disks import small_disk

from actors.actor import ActorCounts
from games.registry import get_game
from learner.checkpoint import list_checkpoints, load_newest, save_checkpoint
from records.progress import GameProgress, Progress
from records.recorder import Recorder
from records.safe_writing import SafeWriting


@pytest.fixture
def disk(tmp_path):
    with small_disk(tmp_path / "disk") as mounted:
        yield mounted


@pytest.fixture
def told():
    return []


@pytest.fixture
def recorder(disk, told):
    with Recorder(
        disk.folder / "metrics.jsonl",
        disk.folder / "tensorboard",
        [get_game("pong")],
        writing=SafeWriting(told.append),
    ) as opened:
        yield opened


def look(updates):
    games = {"pong": GameProgress(actors=1, played=ActorCounts(steps=updates))}
    return Progress(updates=updates, games=games)


def written(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["updates"] for line in lines]


# TensorBoard's own thread dies of the full disk, which pytest would take for a failure.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_rows_that_a_full_disk_has_refused_are_written_when_there_is_room(recorder, disk, told):
    recorder.record(look(1))
    disk.fill()
    for updates in range(2, 40):
        recorder.record(look(updates))
    complaint = "cannot write {}: No space left on device; the run goes on and tries again"
    assert sorted(told) == [
        complaint.format("TensorBoard's events"),
        complaint.format("metrics.jsonl"),
    ]
    disk.clear()
    recorder.record(look(40))
    assert written(disk.folder) == list(range(1, 41))
    assert "metrics.jsonl can be written again" in told


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_run_goes_on_while_its_folder_is_read_only(recorder, disk, told):
    recorder.record(look(1))
    recorder.record_event("something", look(1))
    recorder.close()
    disk.remount("ro")
    recorder.record(look(2))
    recorder.record_event("something else", look(2))
    disk.remount("rw")
    recorder.record(look(3))
    recorder.record_event("more", look(3))
    assert written(disk.folder) == [1, 2, 3]
    assert len((disk.folder / "events.jsonl").read_text().splitlines()) == 3
    assert "cannot write metrics.jsonl: Read-only file system" in " ".join(told)


def test_rows_go_to_a_folder_that_is_renamed_and_come_back_with_it(tmp_path, told):
    folder = tmp_path / "run"
    folder.mkdir()
    writing = SafeWriting(told.append)
    with Recorder(
        folder / "metrics.jsonl", folder / "board", [get_game("pong")], writing=writing
    ) as recorder:
        recorder.record(look(1))
        folder.rename(tmp_path / "elsewhere")
        recorder.record(look(2))
    assert written(tmp_path / "elsewhere") == [1, 2]
    assert told == []
    # TensorBoard's rows have gone with the folder, too.
    assert [path.name for path in tmp_path.iterdir()] == ["elsewhere"]


def test_rows_wait_for_a_folder_that_is_gone(tmp_path, told):
    folder = tmp_path / "run"
    folder.mkdir()
    writing = SafeWriting(told.append)
    with Recorder(
        folder / "metrics.jsonl", tmp_path / "board", [get_game("pong")], writing=writing
    ) as recorder:
        recorder.record(look(1))
        shutil.rmtree(folder)
        recorder.record(look(2))
        assert writing.unwritten() == ["metrics.jsonl was not written: No such file or directory"]
        folder.mkdir()
        recorder.record(look(3))
    assert written(folder) == [2, 3]
    assert writing.unwritten() == []


def test_the_newest_good_checkpoint_survives_a_disk_that_fills_while_the_next_is_written(
    disk, told
):
    writing = SafeWriting(told.append)
    checkpoints = disk.folder / "checkpoints"

    def save(num_updates):
        state = {"num_updates": num_updates, "weights": torch.zeros(50_000)}
        with writing.attempt("the checkpoint"):
            save_checkpoint(checkpoints, state, num_updates=num_updates, keep=1)

    save(1)
    disk.fill(pages_left=10)
    save(2)
    save(3)
    assert [path.name for path in list_checkpoints(checkpoints)] == ["updates_000000000001.pt"]
    assert load_newest(checkpoints)["num_updates"] == 1
    assert writing.unwritten() == [
        "the checkpoint was not written: No space left on device (2 times)"
    ]
    disk.clear()
    save(4)
    assert load_newest(checkpoints)["num_updates"] == 4
    assert writing.unwritten() == []
    assert told == [
        "cannot write the checkpoint: No space left on device; the run goes on and tries again",
        "the checkpoint can be written again",
    ]


def attempt(error):
    with SafeWriting().attempt("the student"):
        raise error


@pytest.mark.parametrize(
    "error",
    [ValueError("weights are not finite"), RuntimeError("CUDA error"), ConnectionError("Redis")],
)
def test_what_is_no_failed_write_ends_the_run(error):
    with pytest.raises(type(error)):
        attempt(error)
