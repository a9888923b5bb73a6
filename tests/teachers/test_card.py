"""Cards: what is kept, and that a wrong field is refused by name."""

import copy
import json
from pathlib import Path

import pytest

from networks.atomic_file import write_atomically
from teachers.card import TeacherCard, dump_card, load_card, parse_card

SCORE = {
    "mean": 19.5,
    "std": 1.25,
    "max": 21.0,
    "episodes": 30,
    "protocol": "classic",
    "epsilon": 0.05,
    "precision": "half",
}
DOCUMENT: dict[str, object] = {
    "format": 1,
    "game": "pong",
    "algorithm": "double dqn, 3-step",
    "architecture": {
        "torso": "nature",
        "dueling": False,
        "num_actions": 18,
        "observation_shape": [4, 84, 84],
        "num_features": 512,
    },
    "protocol": "classic",
    "trained_steps": 1_000_000,
    "scores": [SCORE, {**SCORE, "protocol": "modern", "mean": 18.0, "precision": "full"}],
    "sha256": "0" * 63 + "a",
    "origin": "trained with launch/experts.py",
    "licence": "MIT",
    "command": "python -m launch.experts --games pong",
    "created": "2025-01-31T12:00:00Z",
    "wall_seconds": 5400.5,
    "hardware": "2 cores",
    "notes": None,
}


def changed(path: str, value: object) -> dict[str, object]:
    """The document with one field replaced; path like "scores.0.mean"."""
    document = copy.deepcopy(DOCUMENT)
    *parents, last = path.split(".")
    node: object = document
    for key in parents:
        node = node[int(key)] if isinstance(node, list) else node[key]  # type: ignore[index]
    node[last] = value  # type: ignore[index]
    return document


def test_card_survives_a_roundtrip_through_its_file(tmp_path: Path) -> None:
    card = parse_card(DOCUMENT, source="here")
    dump_card(card, tmp_path / "pong.json")
    assert load_card(tmp_path / "pong.json") == card
    assert json.loads((tmp_path / "pong.json").read_text()) == DOCUMENT
    assert [path.name for path in tmp_path.iterdir()] == ["pong.json"]


def test_whoever_reads_a_file_while_it_is_replaced_gets_the_whole_old_one(tmp_path: Path) -> None:
    path = tmp_path / "pong.json"
    write_atomically(path, b"old content")
    with path.open("rb") as reader:
        write_atomically(path, b"new")
        assert reader.read() == b"old content"
    assert path.read_bytes() == b"new"


IMPORTED = {
    **DOCUMENT,
    "architecture": {**DOCUMENT["architecture"], "head": "categorical", "num_atoms": 51},
    "weights_precision": "full",
    "source_format": "cleanrl",
    "preprocessing": {
        "frames": "gray, resize",
        "stack_start": "zeros",
        "fire_on_reset": True,
        "life_loss_ends_episode": False,
        "max_noops": 30,
        "repeat_action_probability": 0.25,
    },
}
"""A card of a teacher from another library."""


def test_an_imported_teachers_card_survives_a_roundtrip(tmp_path: Path) -> None:
    card = parse_card(IMPORTED, source="here")
    assert card.preprocessing is not None
    assert card.preprocessing.max_noops == 30
    dump_card(card, tmp_path / "pong.json")
    assert load_card(tmp_path / "pong.json") == card
    assert json.loads((tmp_path / "pong.json").read_text()) == IMPORTED


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"head": "deep"}, "must be 'q', 'categorical' or 'policy'"),
        ({"head": "policy"}, "'architecture.num_atoms' is 51, but 'architecture.head' is 'policy'"),
        ({"num_atoms": None}, "'architecture.num_atoms' is None"),
        ({"num_atoms": 10**9}, "must be less than or equal to 1024"),
        ({"dueling": True}, "only a 'q' head can be dueling"),
    ],
)
def test_a_head_that_cannot_be_is_refused(change: dict[str, object], message: str) -> None:
    document = {**IMPORTED, "architecture": {**IMPORTED["architecture"], **change}}
    with pytest.raises(ValueError, match=message):
        parse_card(document, source="here")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("format", 2, "'format' is 2; this program reads 1"),
        ("game", "", "'game' must not be empty"),
        ("algorithm", 3, "'algorithm' must be a valid string, not 3"),
        ("architecture", [], "'architecture' must be a dictionary"),
        ("architecture.dueling", 0, "'architecture.dueling' must be a valid boolean, not 0"),
        ("architecture.num_actions", "18", "'architecture.num_actions' must be a valid integer"),
        (
            "architecture.num_actions",
            0,
            "'architecture.num_actions' must be greater than or equal to 1",
        ),
        ("architecture.num_features", True, "'architecture.num_features' must be a valid integer"),
        (
            "architecture.observation_shape",
            [4, 84],
            "'architecture.observation_shape' must have three sizes",
        ),
        (
            "architecture.observation_shape",
            [4, 84, 0],
            r"'architecture.observation_shape\[2\]' must be",
        ),
        ("architecture.depth", 3, "unknown field 'architecture.depth'"),
        ("protocol", None, "'protocol' must be a valid string"),
        ("trained_steps", -1, "'trained_steps' must be greater than or equal to 0, not -1"),
        ("trained_steps", 1.5, "'trained_steps' must be a valid integer"),
        ("scores", {}, "'scores' must be a valid tuple"),
        ("scores", ["19.5"], r"'scores\[0\]' must be a dictionary"),
        ("scores.0.mean", float("nan"), r"'scores\[0\].mean' must be a finite number, not nan"),
        ("scores.1.std", -1, r"'scores\[1\].std' must be greater than or equal to 0"),
        ("scores.0.max", True, r"'scores\[0\].max' must be a valid number"),
        ("scores.0.episodes", 0, r"'scores\[0\].episodes' must be greater than or equal to 1"),
        ("scores.0.epsilon", 1.5, r"'scores\[0\].epsilon' must be less than or equal to 1"),
        ("scores.0.precision", "float16", r"'scores\[0\].precision' must be 'half' or 'full'"),
        ("scores.0.median", 1.0, r"unknown field 'scores\[0\].median'"),
        ("scores.0.mean", 10**400, r"'scores\[0\].mean' must be a valid number"),
        ("origin", "\x1b]0;mine\x07", "'origin' must be without control characters"),
        ("notes", "\udcff", "'notes' must be without control characters"),
        ("licence", "MIT \u202e0.2-ehcapA", "'licence' must be without control characters"),
        ("created", "2026-01-31T12:00\x1b[31m", "'created' String should match pattern"),
        ("sha256", "A" * 64, "'sha256' String should match pattern"),
        ("sha256", "0" * 63, "'sha256' String should match pattern"),
        ("licence", " ", "'licence' must not be empty"),
        ("created", "yesterday", "'created' String should match pattern"),
        ("created", "2025-01-31 noon", "'created' String should match pattern"),
        ("wall_seconds", -0.5, "'wall_seconds' must be greater than or equal to 0"),
        ("license", "MIT", "unknown field 'license'"),
    ],
)
def test_a_wrong_field_is_refused_with_file_and_field(
    path: str, value: object, message: str
) -> None:
    with pytest.raises(ValueError, match=f"^some/pong.json: .*{message}"):
        parse_card(changed(path, value), source="some/pong.json")


@pytest.mark.parametrize(
    ("parent", "name"),
    [("", "game"), ("", "format"), ("", "scores"), ("", "sha256"), ("architecture", "torso")],
)
def test_a_missing_field_is_refused_by_name(parent: str, name: str) -> None:
    document = copy.deepcopy(DOCUMENT)
    node = document[parent] if parent else document
    del node[name]  # type: ignore[attr-defined]
    path = f"{parent}.{name}" if parent else name
    with pytest.raises(ValueError, match=rf"pong.json: field '{path}' is missing"):
        parse_card(document, source="pong.json")


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_a_card_that_is_no_json_object_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "pong.json").write_text(text)
    with pytest.raises(ValueError, match=r"pong\.json"):
        load_card(tmp_path / "pong.json")


def test_a_card_that_could_not_be_loaded_again_is_not_written(tmp_path: Path) -> None:
    good = parse_card(DOCUMENT, source="here")
    path = tmp_path / "pong.json"
    dump_card(good, path)
    bad = TeacherCard(
        game="pong",
        algorithm="",
        architecture=good.architecture,
        protocol="classic",
        trained_steps=0,
        scores=(),
        sha256=good.sha256,
        origin="here",
        licence="MIT",
    )
    with pytest.raises(ValueError, match="'algorithm'"):
        dump_card(bad, path)
    assert load_card(path) == good
