"""Where Ray's own files go when the usual places are missing, full, or somebody else's."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from engines.on_ray import surroundings
from engines.on_ray.surroundings import (
    find_temporary_folder,
    make_token_if_home_is_unusable,
    started_from_source,
)


@pytest.fixture
def short(tmp_path):
    """A link to a folder of the test's own, with a path that is short enough for sockets."""
    link = Path(f"/tmp/s{os.getpid()}")
    link.symlink_to(tmp_path)
    yield link
    link.unlink()


def test_a_folder_whose_sockets_would_have_too_long_paths_is_not_taken(tmp_path):
    long = tmp_path / ("x" * 60)
    long.mkdir()
    found = find_temporary_folder({"TMPDIR": str(long)})
    assert len(found) <= 39
    assert not list(long.iterdir())


def test_where_no_folder_will_do_each_is_told_with_its_reason(monkeypatch):
    monkeypatch.setattr(surroundings, "_what_is_wrong_with", lambda folder: "read-only file system")
    with pytest.raises(ValueError, match=r"\(/tmp: read-only file system; .*RAY_TMPDIR") as error:
        find_temporary_folder({})
    assert "\n" not in str(error.value)


def without_settings(monkeypatch):
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        # Set first, so that it is put back whatever the code does.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.mark.parametrize("home", ["/dev/null", "/proc", "/nowhere/at/all\0"])
def test_without_a_usable_home_the_run_has_a_token_of_its_own(monkeypatch, tmp_path, home):
    without_settings(monkeypatch)
    monkeypatch.setattr(Path, "home", lambda: Path(home.rstrip("\0")))
    if home.endswith("\0"):
        monkeypatch.setattr(Path, "home", refuse_home)
    make_token_if_home_is_unusable()
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64


def refuse_home():
    raise RuntimeError("Could not determine home directory.")


def test_a_token_of_the_users_or_none_at_all_is_left_as_it_is(monkeypatch):
    without_settings(monkeypatch)
    monkeypatch.setattr(Path, "home", refuse_home)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    make_token_if_home_is_unusable()
    assert "RAY_AUTH_TOKEN" not in os.environ
    monkeypatch.delenv("RAY_AUTH_MODE")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "mine")
    make_token_if_home_is_unusable()
    assert os.environ["RAY_AUTH_TOKEN"] == "mine"


def test_workers_are_started_from_the_source_and_the_launcher_comes_back(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with started_from_source():
        assert (Path.cwd() / "engines" / "on_ray" / "surroundings.py").exists()
    assert Path.cwd() == tmp_path.resolve()


def test_ray_does_not_start_workers_by_uv():
    program = "import engines.on_ray.session, ray._private.ray_constants as c; "
    program += "print(c.RAY_ENABLE_UV_RUN_RUNTIME_ENV)"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_ENABLE_UV")}
    finished = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert finished.stdout.strip() == "False"
