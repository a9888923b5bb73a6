"""What a user may name a teacher by, without a network: the Hub is a folder here."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from foreign_layouts import random_layers, write_cleanrl_dqn, write_sb3_of_2021
from runs import ROOT, clean_environment, save_random_expert

from networks.config import NetworkConfig
from networks.network import MultitaskNetwork
from networks.snapshots import take_snapshot
from networks.student_file import save_student as write_student
from networks.weights import WeightsVersion
from recipes.config import RunConfig
from recipes.recipe import Recipe
from teachers import hub
from teachers.hub import (
    HubReference,
    Listing,
    fetch,
    fetch_folder,
    fill_in,
    find_folder,
    parse_hub_reference,
    pin,
)
from teachers.references import load_teacher

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class FolderHub:
    """Repositories as folders, each at one commit; keeps what was asked for."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.asked: list[tuple[str, ...]] = []

    def list(self, repo: str, revision: str | None) -> Listing:
        self.asked.append(("list", repo, str(revision)))
        folder = self.root / repo
        names = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
        return Listing(COMMIT, tuple(names))

    def fetch(self, repo: str, name: str, commit: str) -> Path:
        self.asked.append(("fetch", repo, name, commit))
        path = self.root / repo / name
        if not path.is_file():
            raise ValueError(f"hf://{repo}/{name}: there is no such file")
        return path


@pytest.fixture
def files(tmp_path):
    return FolderHub(tmp_path / "hub")


def save_student(files: FolderHub, repo: str, folder: str = "") -> None:
    path = files.root / repo / folder
    network = MultitaskNetwork(
        torso="nature_quarter", observation_shape=(4, 84, 84), num_actions=18, games=("pong",)
    )
    write_student(
        path, take_snapshot(network, WeightsVersion(0, 1)),
        network=NetworkConfig(torso="nature_quarter"), games=("pong",),
    )  # fmt: skip


@pytest.mark.parametrize("folder", ["", "students/one"])
def test_a_student_on_the_hub_teaches_what_it_is_named_for(files, folder):
    save_student(files, "me/two", folder)
    address = f"hf://me/two/{folder}" if folder else "hf://me/two"
    teacher = load_teacher(address, "pong", files=files)
    assert teacher.card.algorithm == "student of pong"
    assert load_teacher(address, "boxing", files=files).spec.name == "boxing"
    with pytest.raises(ValueError, match=f"--teachers GAME={address}"):
        load_teacher(address, files=files)
    if not folder:
        pinned = pin(address, game="pong", files=files)
        files.asked.clear()
        assert load_teacher(pinned, "pong", files=files).card.algorithm == "student of pong"
        assert {kind for kind, *_ in files.asked} == {"fetch"}


def add(files: FolderHub, repo: str, *names: str) -> None:
    for name in names:
        path = files.root / repo / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hf://sb3/dqn-PongNoFrameskip-v4", ("sb3/dqn-PongNoFrameskip-v4", None, None)),
        ("hf://a/b/c/d.zip", ("a/b", "c/d.zip", None)),
        ("hf://a/b@v1.0", ("a/b", None, "v1.0")),
        ("hf://a/b@v1.0/c/d.pt", ("a/b", "c/d.pt", "v1.0")),
        ("hf://a/b@refs/pr/3", ("a/b", None, "refs/pr/3")),
        ("hf://a/b@refs/pr/3/c.pt", ("a/b", "c.pt", "refs/pr/3")),
        ("hf://a/b@feature%2Fx/c.pt", ("a/b", "c.pt", "feature/x")),
    ],
)
def test_an_address_is_taken_apart_as_the_hub_does_and_put_together_again(text, expected):
    assert parse_hub_reference(text) == HubReference(*expected)
    assert str(parse_hub_reference(text)) == text
    theirs = pytest.importorskip("huggingface_hub.utils").parse_hf_uri(text)
    assert (theirs.id, theirs.path_in_repo or None, theirs.revision) == expected
    assert parse_hub_reference(theirs.to_uri()) == HubReference(*expected)


@pytest.mark.parametrize(
    ("text", "current"),
    [
        ("hf://a/b/c.pt@v1", "hf://a/b@v1/c.pt"),
        ("hf://a/b/c.pt@refs/pr/3", "hf://a/b@refs/pr/3/c.pt"),
        ("hf://a/b/c/d.pt@feature/x", "hf://a/b@feature%2Fx/c/d.pt"),
    ],
)
def test_the_form_of_earlier_versions_is_still_read(text, current):
    assert str(parse_hub_reference(text)) == current


@pytest.mark.parametrize(
    "text",
    ["hf://", "hf://a", "hf://a/", "hf:///b", "hf://a/b/../c.zip", "hf://a/b//c.zip", "hf://a/b@",
     "hf://a b/c", "hf://a/b/c.zip@x y", "hf://-a/b", "hf://a/b@../../x", "hf://a/b@/etc/passwd",
     "hf://a/b@x/../y", "hf://a/b/c\n.zip", "hf://a/b@%2F..", "hf://a/b@v1/", "hf://a/b@v1@v2",
     "hf://datasets/a/b", "hf://a/b@..%2Fx/c.pt"],
)  # fmt: skip
def test_what_is_no_address_is_refused_with_the_form(text):
    with pytest.raises(ValueError, match=r"write hf://OWNER/REPO\[@REVISION\]\[/PATH\]"):
        parse_hub_reference(text)


def test_the_one_checkpoint_of_a_repository_is_found_among_other_files(files):
    # As package_to_hub and rl-zoo leave it.
    add(files, "sb3/dqn", "dqn.zip", "train_eval_metrics.zip", "replay.mp4", "config.yml")
    add(files, "sb3/dqn", "dqn/policy.pth", "dqn/pytorch_variables.pth", "README.md")
    assert fetch("hf://sb3/dqn", files=files) == files.root / "sb3/dqn/dqn.zip"


def test_several_checkpoints_are_listed_and_none_is_guessed(files):
    add(files, "me/zoo", "b.safetensors", "a.zip")
    with pytest.raises(ValueError, match=r"several checkpoints: a\.zip, b\.safetensors; name one"):
        fetch("hf://me/zoo", files=files)
    with pytest.raises(ValueError, match=r"for example hf://me/zoo@v2/a\.zip"):
        fetch("hf://me/zoo@v2", files=files)


def test_pinning_names_commit_and_file_once_and_for_ever(files):
    add(files, "me/zoo", "pong.safetensors", "boxing.safetensors")
    pinned = pin("hf://me/zoo@main", game="pong", files=files)
    assert pinned == f"hf://me/zoo@{COMMIT}/pong.safetensors"
    # For all games of a run: the commit is fixed, each game still finds its own file.
    assert pin("hf://me/zoo", files=files) == f"hf://me/zoo@{COMMIT}"
    files.asked.clear()
    assert pin(pinned, game="pong", files=files) == pinned
    fetch(pinned, game="pong", files=files)
    assert not any(what[0] == "list" for what in files.asked), "the commit need not be looked up"


def test_a_teacher_on_the_hub_is_loaded_with_its_card(files):
    (files.root / "me/zoo").mkdir(parents=True)
    save_random_expert(files.root / "me/zoo", "pong")
    teacher = load_teacher("hf://me/zoo", "pong", files=files)
    assert teacher.spec.name == "pong"
    assert ("fetch", "me/zoo", "pong.json", COMMIT) in files.asked


def test_a_foreign_checkpoint_is_answered_with_the_command_that_imports_it(files, tmp_path):
    path = tmp_path / "dqn.zip"
    path.write_bytes(b"PK")
    with pytest.raises(ValueError, match=rf"zoo.py import {path} --game pong$"):
        load_teacher(path, "pong")
    with pytest.raises(ValueError, match=rf"zoo.py import {path} --game GAME$"):
        load_teacher(str(path))
    add(files, "sb3/dqn", "dqn.zip")
    with pytest.raises(ValueError, match=r"zoo\.py import hf://sb3/dqn --game GAME$"):
        load_teacher("hf://sb3/dqn", files=files)


# Collections: a repository for each game


COLLECTIONS = {
    "hf://sb3/dqn-{Name}NoFrameskip-v4": (
        "dqn-{Name}NoFrameskip-v4.zip",
        lambda path, layers: write_sb3_of_2021(path, layers, kind="dqn"),
        ("config.yml", "replay.mp4", "train_eval_metrics.zip"),
    ),
    "hf://cleanrl/{Name}NoFrameskip-v4-dqn_atari-seed1": (
        "dqn_atari.cleanrl_model",
        write_cleanrl_dqn,
        ("agent.pt", "dqn_atari.py", "README.md"),
    ),
}


@pytest.fixture(params=COLLECTIONS)
def collection(request, files, monkeypatch):
    """A pattern, and a Hub with the repositories of two games as these libraries publish them."""
    monkeypatch.setattr(hub, "HuggingFace", lambda: files)
    name, write, others = COLLECTIONS[request.param]
    for seed, game in enumerate(("pong", "space_invaders")):
        repo = parse_hub_reference(fill_in(request.param, game)).repo
        add(files, repo, *others)
        write(files.root / repo / fill_in(name, game), random_layers(6, seed=seed))
    return request.param


def test_a_pattern_is_the_address_of_each_game_pinned_and_played(collection, files):
    config = RunConfig(
        games=("pong", "boxing", "space_invaders"),
        num_steps=1,
        teachers=(collection, "boxing=boxing"),
    ).with_absolute_paths()
    assert config.teachers_of["boxing"] == ("boxing",)
    for game in ("pong", "space_invaders"):
        (reference,) = config.teachers_of[game]
        assert reference.startswith(fill_in(collection, game) + f"@{COMMIT}/")
        expert = load_teacher(reference, game, files=files)
        assert (expert.spec.name, expert.card.algorithm) == (game, "DQN")
        assert reference in expert.card.origin
    assert config.with_absolute_paths() == config


def test_a_game_that_a_collection_lacks_is_named(collection):
    config = RunConfig(games=("pong", "boxing"), num_steps=1, teachers=(collection,))
    with pytest.raises(ValueError, match="Boxing"):
        config.with_absolute_paths()


def test_a_pattern_is_of_folders_too(tmp_path):
    for game in ("pong", "boxing"):
        save_random_expert(tmp_path / game, game)
    pattern = f"{tmp_path}/{{game}}/{{game}}.safetensors"
    config = RunConfig(games=("pong", "boxing"), num_steps=1, teachers=(pattern,))
    Recipe(config.with_absolute_paths()).check_teachers()
    assert fill_in("{Name}", "up_n_down") == "UpNDown"


# The real library, offline, with a cache as it lays it out


@pytest.fixture
def cache(tmp_path):
    """A cache that holds me/zoo with one teacher."""
    pytest.importorskip("huggingface_hub")
    repo = tmp_path / "cache" / "models--me--zoo"
    snapshot = repo / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(COMMIT)
    (repo / "blobs").mkdir()
    save_random_expert(tmp_path / "made", "pong")
    for suffix in ("safetensors", "json"):
        blob = repo / "blobs" / f"{suffix}-etag"
        shutil.copy(tmp_path / "made" / f"pong.{suffix}", blob)
        (snapshot / f"pong.{suffix}").symlink_to(os.path.relpath(blob, snapshot))
    return tmp_path / "cache"


def run_offline(cache: Path, code: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Settings of huggingface_hub are read when it is imported, so a process of its own."""
    environment = clean_environment(tmp_path) | {
        "HF_HUB_CACHE": str(cache),
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    return subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    "reference",
    ["hf://me/zoo", "hf://me/zoo/pong.safetensors", "hf://me/zoo@main", f"hf://me/zoo@{COMMIT}"],
)
def test_what_is_in_the_librarys_cache_needs_no_network(cache, reference, tmp_path):
    code = (
        "from teachers.hub import pin\nfrom teachers.references import load_teacher\n"
        f"print(load_teacher({reference!r}, 'pong').spec.name, pin({reference!r}, game='pong'))"
    )
    finished = run_offline(cache, code, tmp_path)
    assert finished.stdout.split() == ["pong", f"hf://me/zoo@{COMMIT}/pong.safetensors"], (
        finished.stderr
    )


def test_what_is_not_in_the_cache_is_one_line_when_offline(cache, tmp_path):
    code = (
        "from teachers.references import load_teacher\n"
        "try: load_teacher('hf://me/other', 'pong')\n"
        "except ValueError as error: print(error)"
    )
    finished = run_offline(cache, code, tmp_path)
    (line,) = finished.stdout.splitlines()
    assert line.startswith("hf://me/other cannot be reached and is not in the cache: ")


def test_a_runs_addresses_are_pinned_before_it_begins(files, monkeypatch):
    add(files, "me/zoo", "pong.safetensors", "boxing.safetensors")
    monkeypatch.setattr(hub, "HuggingFace", lambda: files)
    config = RunConfig(
        games=("pong", "boxing"),
        num_steps=1,
        teachers=("pong=hf://me/zoo", "boxing=mine.safetensors"),
    ).with_absolute_paths()
    assert config.teachers_of == {
        "pong": (f"hf://me/zoo@{COMMIT}/pong.safetensors",),
        "boxing": (str(Path("mine.safetensors").absolute()),),
    }


@pytest.mark.parametrize(
    ("address", "inner"), [("hf://me/eight", ""), ("hf://me/eight/run/a", "run/a")]
)
def test_a_folder_is_fetched_with_the_files_that_it_must_have(files, address, inner):
    names = ("weights.safetensors", "config.json")
    add(files, "me/eight", *(f"{inner}/{name}".lstrip("/") for name in names), "README.md")
    folder = fetch_folder(address, names, files=files)
    assert folder == files.root / "me/eight" / inner
    asked = [(name, commit) for kind, _, name, *commit in files.asked if kind == "fetch"]
    assert asked == [(f"{inner}/{name}".lstrip("/"), [COMMIT]) for name in names]


@pytest.mark.parametrize("revision", ["", f"@{COMMIT}"])
def test_an_experts_file_that_is_called_like_a_students_is_no_student(files, revision):
    names = ("weights.safetensors", "config.json")
    add(files, "me/pong", names[0])
    assert find_folder(f"hf://me/pong{revision}/{names[0]}", names, files=files) is None
    add(files, "me/eight", *names)
    folder = find_folder(f"hf://me/eight{revision}/{names[0]}", names, files=files)
    assert folder == files.root / "me/eight"
    assert find_folder(f"hf://me/pong{revision}/exp_v1.0", names, files=files) is None


def test_a_folder_without_one_of_its_files_is_refused(files):
    add(files, "me/eight", "weights.safetensors")
    with pytest.raises(ValueError, match=r"config\.json: there is no such file"):
        fetch_folder("hf://me/eight", ("weights.safetensors", "config.json"), files=files)
