"""What a name stands for: a student or an expert, decided in one place."""

import shutil

import pytest
from recorded_runs import make_run
from runs import save_random_expert

from actor_mimic import Student, evaluate, load_teacher, resume
from recipes.student import StudentTarget, find_trained
from teachers.expert import Expert


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    return make_run(folder, games=["pong"], num_tests=1, num_looks=1)


def test_folders_are_students_and_files_and_shipped_games_are_experts(run, tmp_path):
    path = save_random_expert(tmp_path, "qbert")
    for name in (run.path, run.path / "student"):
        assert isinstance(find_trained(str(name)), StudentTarget)
    for name, game in ((str(path), "qbert"), ("pong", "pong")):
        found = find_trained(name)
        assert isinstance(found, Expert)
        assert found.spec.name == game


def test_a_folder_does_not_hide_a_shipped_expert_and_is_reached_by_its_path(
    run, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pong").mkdir()
    assert isinstance(find_trained("pong"), Expert)
    for game in ("boxing", "qbert"):
        shutil.copytree(run.path / "student", tmp_path / game)
    assert isinstance(find_trained("boxing"), Expert)
    assert isinstance(find_trained("./boxing"), StudentTarget)
    # No expert of this game is shipped.
    assert isinstance(find_trained("qbert"), StudentTarget)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing", "there is no folder nothing; .*one of atlantis"),
        ("no/thing", "there is no folder no/thing"),
        ("qbert", "no expert for 'qbert' is shipped"),
        ("weights.zip", "import it first: python launch/zoo.py import weights.zip"),
        ("empty", "is not the folder of a run, nor that of a student"),
    ],
)
def test_what_is_neither_is_one_line(tmp_path, monkeypatch, name, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.zip").write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=message) as caught:
        find_trained(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("call", [Student.load, load_teacher, evaluate, resume])
@pytest.mark.parametrize("path", [None, 3, ["pong"]])
def test_what_is_no_path_is_one_line(call, path):
    with pytest.raises(ValueError, match="is named by its path, not by"):
        call(path)
