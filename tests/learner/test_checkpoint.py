"""Checkpoints: whole or not there, the right ones kept, and nothing run that was not ours."""

import pickle
from collections import OrderedDict
from io import FileIO
from pathlib import Path

import pytest
import torch

from learner.checkpoint import list_checkpoints, load_checkpoint, load_newest, save_checkpoint


def build_state(value=1.0):
    return {
        "learner": {
            "num_updates": 7,
            "network": OrderedDict(weight=torch.full((300,), value), bias=torch.zeros(0)),
            "optimizer": {
                "state": {0: {"step": torch.tensor(7.0)}},
                "param_groups": [{"lr": 1e-3, "betas": (0.9, 0.999), "fused": None}],
            },
        },
        "steps": {"pong": 12},
        "name": "run",
    }


def save(folder, num_updates=7, *, keep=3, state=None):
    return save_checkpoint(folder, state or build_state(), num_updates=num_updates, keep=keep)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_what_was_saved_is_loaded(tmp_path):
    folder = tmp_path / "run" / "checkpoints"
    path = save(folder)
    loaded = load_checkpoint(path)
    expected = build_state()
    assert loaded["steps"] == {"pong": 12}
    assert loaded["name"] == "run"
    assert torch.equal(loaded["learner"]["network"]["weight"], torch.full((300,), 1.0))
    assert (
        loaded["learner"]["optimizer"]["param_groups"]
        == (expected["learner"]["optimizer"]["param_groups"])
    )
    assert loaded["learner"]["optimizer"]["state"][0]["step"] == 7
    assert names(folder) == [path.name]


def test_the_newest_is_the_one_with_most_updates(tmp_path):
    for updates in (9, 100, 20):
        save(tmp_path, updates, state=build_state(float(updates)))
    assert load_newest(tmp_path)["learner"]["network"]["weight"][0] == 100.0
    counts = [int(path.stem.removeprefix("updates_")) for path in list_checkpoints(tmp_path)]
    assert counts == [9, 20, 100]


def test_only_the_newest_are_kept_and_nothing_else_is_touched(tmp_path):
    others = ["notes.txt", "updates_1.pt", "updates_000000000001.pt.bak"]
    for other in others:
        (tmp_path / other).write_text("mine")
    for updates in (1, 2, 10, 30):
        save(tmp_path, updates, keep=2)
    kept = [f"updates_{updates:012d}.pt" for updates in (10, 30)]
    assert names(tmp_path) == sorted([*others, *kept])


def test_the_checkpoint_just_written_is_never_the_one_deleted(tmp_path):
    for updates in (500, 600):
        save(tmp_path, updates, keep=2)
    path = save(tmp_path, 3, keep=2)
    assert path.is_file()
    assert load_checkpoint(path)


class Spy:
    """Looks at the folder while it is being written."""

    def __init__(self, folder):
        self.folder = folder
        self.seen = None

    def __reduce__(self):
        self.seen = names(self.folder)
        return (str, ())


def test_a_file_appears_under_its_name_only_when_it_is_complete(tmp_path):
    save(tmp_path, 1)
    spy = Spy(tmp_path)
    save(tmp_path, 2, state={"spy": spy})
    assert "updates_000000000001.pt" in spy.seen
    assert "updates_000000000002.pt" not in spy.seen
    assert len(spy.seen) == 2


class Unsavable:
    def __reduce__(self):
        raise OSError("no space left on device")


def test_a_failed_save_leaves_the_last_checkpoint_and_nothing_else(tmp_path):
    before = save(tmp_path, 1)
    with pytest.raises(OSError, match="no space left"):
        save(tmp_path, 2, state={"weights": torch.zeros(1000), "bad": Unsavable()})
    assert names(tmp_path) == [before.name]
    load_newest(tmp_path)


def test_half_a_file_of_a_program_that_died_is_neither_listed_nor_in_the_way(tmp_path):
    (tmp_path / "checkpoint.partial").write_bytes(b"half")
    assert list_checkpoints(tmp_path) == []
    path = save(tmp_path)
    assert names(tmp_path) == [path.name]


def test_a_checkpoint_cut_short_anywhere_is_refused_by_its_name(tmp_path):
    path = save(tmp_path)
    data = path.read_bytes()
    for size in [*range(0, len(data), 97), len(data) - 1]:
        path.write_bytes(data[:size])
        with pytest.raises(ValueError, match=path.name):
            load_checkpoint(path)


def test_a_flipped_byte_in_the_weights_is_noticed(tmp_path):
    path = save(tmp_path)
    data = bytearray(path.read_bytes())
    weights = bytes(torch.full((300,), 1.0).numpy().tobytes())
    data[data.index(weights) + 500] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=f"{path.name}.*cut short, damaged"):
        load_checkpoint(path)


class Intruder:
    """Would leave a file behind if it were unpickled."""

    def __init__(self, victim):
        self.victim = victim

    def __reduce__(self):
        return (type(self.victim).touch, (self.victim,))


@pytest.mark.parametrize("write", ["pickle", "torch"])
def test_foreign_pickles_are_refused_and_not_run(tmp_path, write):
    victim = tmp_path / "victim"
    path = tmp_path / "updates_000000000001.pt"
    if write == "pickle":
        path.write_bytes(pickle.dumps({"learner": Intruder(victim)}))
    else:
        torch.save({"learner": Intruder(victim)}, path)
    with pytest.raises(ValueError, match=path.name):
        load_checkpoint(path)
    assert not victim.exists()
    # The trap works, if one steps into it.
    pickle.loads(pickle.dumps(Intruder(victim)))
    assert victim.exists()


def test_a_file_that_is_no_state_is_refused(tmp_path):
    path = tmp_path / "updates_000000000001.pt"
    torch.save([1, 2], path)
    with pytest.raises(ValueError, match="does not hold a learner's state"):
        load_checkpoint(path)


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere.pt does not exist"):
        load_checkpoint(tmp_path / "nowhere.pt")
    for folder in (tmp_path, tmp_path / "none"):
        assert list_checkpoints(folder) == []
        with pytest.raises(ValueError, match=r"no checkpoint in .*cannot be resumed"):
            load_newest(folder)


def test_an_interrupt_while_a_checkpoint_is_written_stays_an_interrupt(tmp_path, monkeypatch):
    """PyTorch's writer follows it with an error about a file of the wrong length."""

    class Interrupted(FileIO):
        num_writes = 0

        def write(self, data):
            self.num_writes += 1
            if self.num_writes == 3:
                raise KeyboardInterrupt
            return super().write(data)

    monkeypatch.setattr(Path, "open", lambda path, mode: Interrupted(str(path), mode))
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tmp_path, {"weights": torch.zeros(1000)}, num_updates=1, keep=1)
    assert list(tmp_path.iterdir()) == []
