"""The folder of a run: what it refuses, what it records, and what it must not record."""

import errno
import fcntl
import json
import math
import os
import shutil
import subprocess

import pytest
from small_disks import small_disk

from records.hiding import hide_secrets
from records.latest import follow_latest
from records.run_dir import RunDir

CONFIG = "games: [pong]\nseed: 3\n"


def create(path, **options) -> RunDir:
    options = {"preset": "smoke", "config_text": CONFIG, "seed": 3, "argv": ["x.py"]} | options
    return RunDir.create(path, **options)


def meta_of(run: RunDir) -> dict:
    return json.loads((run.path / "meta.json").read_text())


def test_a_new_run_can_be_opened_again(tmp_path):
    run = create(tmp_path / "runs" / "first")
    assert run.config_path.read_text() == CONFIG
    assert run.path.name == "first"
    assert vars(RunDir.open_existing(tmp_path / "runs" / "first")) == vars(run)
    assert RunDir.open_existing(str(tmp_path / "runs" / "first")).preset == "smoke"


def test_without_a_path_the_name_is_made_of_preset_and_time_and_never_taken(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs = [create("", preset="my preset/8") for _ in range(3)]
    assert len({run.path for run in runs}) == 3
    for run in runs:
        assert run.path.parent == tmp_path / "runs"
        assert run.path.name.startswith("my-preset-8-2")
        assert run.preset == "my preset/8"


def test_a_folder_with_something_in_it_is_refused_and_left_alone(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(ValueError, match="has something in it already"):
        create(tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("name", ["my run", "a:b", "latest", "x" * 201])
def test_a_name_that_cannot_be_used_everywhere_is_refused_before_anything_is_made(tmp_path, name):
    with pytest.raises(ValueError, match="run"):
        create(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_a_run_is_not_opened(tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        RunDir.open_existing(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"not the folder of a run.*meta\.json"):
        RunDir.open_existing(tmp_path)
    create(tmp_path / "run").config_path.unlink()
    with pytest.raises(ValueError, match=r"not the folder of a run.*config\.yaml"):
        RunDir.open_existing(tmp_path / "run")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Invalid JSON"),
        ("[]", "Input should be an object"),
        ("{}", "format: Field required"),
        ('{"format": 1', "Invalid JSON"),
        ('{"format": 1}', r"id: Field required \(and \d more\)"),
        ('{"format": 1, "id": 7, "preset": "smoke"}', "id: Input should be a valid string"),
    ],
)
def test_damaged_meta_data_is_refused_in_one_line_that_says_where(tmp_path, text, message):
    run = create(tmp_path / "run")
    (run.path / "meta.json").write_text(text)
    with pytest.raises(ValueError, match=rf"meta\.json is damaged: {message}") as refused:
        RunDir.open_existing(run.path)
    assert "\n" not in str(refused.value)


def test_meta_data_has_no_keys_beyond_the_allow_list_and_nothing_of_the_environment(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("SOME_API_KEY", "t0p-s3cret")
    run = create(tmp_path / "run", argv=["x.py", "--redis-url", "redis://:t0p-s3cret@host/0"])
    meta = meta_of(run)
    assert meta.keys() == {
        "format",
        "preset",
        "seed",
        "id",
        "argv",
        "created",
        "versions",
        "git",
        "hardware",
    }
    assert meta["hardware"].keys() == {
        "cpu",
        "machine",
        "cores",
        "usable_cores",
        "memory_bytes",
        "gpus",
    }
    for path in run.path.iterdir():
        assert "t0p-s3cret" not in path.read_text()


@pytest.mark.parametrize(
    ("argv", "shown"),
    [
        (["--redis-url", "redis://:pw@host:1/0"], ["--redis-url", "redis://***@host:1/0"]),
        (["--redis-url=rediss://u:pw@host/0"], ["--redis-url=rediss://***@host/0"]),
        (["--redis-url=unix:///tmp/redis.sock"], ["--redis-url=unix:///tmp/redis.sock"]),
        (["--redis.password", "pw", "--seed", "1"], ["--redis.password", "***", "--seed", "1"]),
        (["--auth-token=pw"], ["--auth-token=***"]),
        (["--token", "--seed", "1"], ["--token", "--seed", "1"]),
        (["--games", "pong", "a=b"], ["--games", "pong", "a=b"]),
    ],
)
def test_secrets_are_taken_out_of_a_command_line(argv, shown):
    assert hide_secrets(argv) == shown


def test_the_commit_and_its_changes_are_recorded(tmp_path, monkeypatch):
    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        command = ["git", "-C", str(source), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_text("1")
    git("init", "--quiet")
    git("add", "file")
    git("commit", "--quiet", "--no-gpg-sign", "-m", "first")
    monkeypatch.setattr("records.run_meta._SOURCE", source)
    clean = meta_of(create(tmp_path / "clean"))["git"]
    assert clean == {"commit": git("rev-parse", "HEAD"), "dirty": False}
    (source / "file").write_text("2")
    assert meta_of(create(tmp_path / "dirty"))["git"]["dirty"] is True


def test_the_newest_run_is_named_by_a_file_that_no_other_program_takes_for_a_run(tmp_path):
    (tmp_path / "latest").symlink_to("first", target_is_directory=True)
    create(tmp_path / "first")
    newest = create(tmp_path / "second")
    assert RunDir.open_existing(tmp_path / "latest").path == newest.path
    assert follow_latest(f"{tmp_path}/latest") == str(newest.path)
    assert sum(1 for _ in os.walk(tmp_path, followlinks=True)) == 3
    shutil.rmtree(newest.path)
    with pytest.raises(ValueError, match="latest: the folder does not exist"):
        RunDir.open_existing(tmp_path / "latest")


def test_a_summary_that_cannot_be_written_leaves_the_old_one_and_no_rubbish(tmp_path, monkeypatch):
    run = create(tmp_path / "run")
    run.write_summary({"updates": 1})
    before = sorted(run.path.iterdir())
    with pytest.raises(ValueError, match="JSON"):
        run.write_summary({"updates": math.nan})

    def full_disk(descriptor: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="no space"):
        run.write_summary({"updates": 2})
    assert json.loads(run.summary_path.read_text()) == {"updates": 1}
    assert sorted(run.path.iterdir()) == before


def test_a_run_is_carried_by_one_program_at_a_time(tmp_path):
    run = create(tmp_path / "run")
    again = RunDir.open_existing(run.path)
    with run.locked(), pytest.raises(ValueError, match="another program"), again.locked():
        pass
    with run.locked():
        pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_carries_the_run_and_leaves_a_warning(
    tmp_path, monkeypatch, number
):
    def no_locks(file, operation):
        raise OSError(number, os.strerror(number))

    run = create(tmp_path / "run")
    monkeypatch.setattr(fcntl, "flock", no_locks)
    with run.locked():
        pass
    (warning,) = run.meta.warnings
    assert "has no locks" in warning
    assert os.strerror(number) in warning


def test_a_folder_that_nothing_can_be_written_into_is_refused_and_none_stays_behind(tmp_path):
    with small_disk(tmp_path / "disk") as disk:
        begun = create(disk.folder / "begun")
        disk.fill()
        with pytest.raises(ValueError, match=r"cannot write into the run's folder.*No space left"):
            create(disk.folder / "run")
        assert not (disk.folder / "run").exists()
        disk.remount("ro")
        with pytest.raises(ValueError, match="Read-only file system"), begun.locked():
            pass


def test_warnings_are_kept_once_each_and_hide_nothing_of_the_meta_data(tmp_path):
    run = create(tmp_path / "run")
    before = meta_of(run)
    assert run.meta.warnings == ()
    for text in ("one", "two", "one"):
        run.add_warning(text)
    assert run.meta.warnings == ("one", "two")
    assert meta_of(run) == before | {"warnings": ["one", "two"]}
    assert vars(RunDir.open_existing(run.path)) == vars(run)
