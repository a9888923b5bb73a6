"""What a library computes from a model it saved itself, the imported teacher computes too."""

import io
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import foreign_layouts as layouts
import foreign_models
import pytest
import torch
from foreign_layouts import NatureLayers, random_layers
from played_states import check_same_answers, played_states
from reference_networks import nature_same, nature_valid
from torch import Tensor

from games.registry import get_game
from launch import zoo
from teachers.expert import Expert, load_expert
from teachers.formats import read_checkpoint

pytestmark = [
    pytest.mark.formats,
    # Of the libraries; ours are errors everywhere else.
    pytest.mark.filterwarnings("ignore"),
]

GAME = "pong"
LEGAL = list(get_game(GAME).legal_actions)
NUM_LEGAL = len(LEGAL)

Forward = Callable[[NatureLayers, Tensor], tuple[Tensor, Tensor]]
"""Layers and pictures to features and outputs."""


@pytest.fixture(scope="module")
def library() -> ModuleType:
    """The libraries take seconds to import, so only these tests do."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import library_models
    return library_models


@pytest.fixture(scope="module")
def states() -> Tensor:
    """1,000 states of Pong as the shipped expert plays it, one action in ten at random."""
    return played_states(GAME)


def imported(path: Path) -> Expert:
    """As a user imports it."""
    folder = path.parent / "own"
    words = [str(path), "--game", GAME, "--out", str(folder), "--overwrite", "--unsafe-pickle"]
    zoo.main(["import", *words])
    return load_expert(folder / f"{GAME}.safetensors")


def check(path: Path, judge: Callable[[Tensor], Tensor], pictures: Tensor) -> Expert:
    """The same answers, from an import that was saved and loaded."""
    expert = imported(path)
    check_same_answers(expert, judge, pictures)
    return expert


def noise() -> Tensor:
    """Pictures that random weights tell apart."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (64, 4, 84, 84), dtype=torch.uint8, generator=generator)


def random_case(per_action: int = 1, *, same: bool = False) -> NatureLayers:
    """Random weights of which no action is the best in all pictures."""
    layers = random_layers(NUM_LEGAL * per_action, same=same)
    return centred(layers, nature_same if same else nature_valid, noise())


def centred(layers: NatureLayers, forward: Forward, pictures: Tensor) -> NatureLayers:
    """The same layers with outputs of mean 0 over these pictures."""
    weight, bias = layers.head
    return replace(layers, head=(weight, bias - forward(layers, pictures)[1].mean(0)))


PLAYING = {
    "dqn": foreign_models.nature_expert,
    "qrdqn": lambda game: foreign_models.as_quantiles(foreign_models.nature_expert(game)),
    "c51": lambda game: foreign_models.as_categorical(foreign_models.nature_expert(game)),
    "ppo": lambda game: foreign_models.as_policy(foreign_models.nature_expert(game)),
    "a2c": lambda game: foreign_models.as_policy(foreign_models.nature_expert(game)),
}
"""Layers of a teacher that plays, by the kind of its head."""
PER_ACTION = {"dqn": 1, "qrdqn": 200, "quantile": 200, "c51": 51, "ppo": 1, "a2c": 1}


# Stable-Baselines3


@pytest.mark.parametrize("kind", ["dqn", "qrdqn", "ppo", "a2c"])
def test_stable_baselines3(tmp_path: Path, library: ModuleType, states: Tensor, kind: str) -> None:
    path = tmp_path / "model.zip"
    judge, _ = library.save_sb3(path, random_case(PER_ACTION[kind]), kind, NUM_LEGAL)
    assert check(path, judge, noise()).card.trained_steps == 4321
    judge, act = library.save_sb3(path, PLAYING[kind](GAME), kind, NUM_LEGAL)
    expert = check(path, judge, states)
    best = expert.label(states).logits_BA.masked_fill(~expert.legal_A, -torch.inf).argmax(1)
    assert torch.equal(best, torch.tensor(LEGAL)[act(states)])


def test_the_critic_of_stable_baselines3(
    tmp_path: Path, library: ModuleType, states: Tensor
) -> None:
    path = tmp_path / "model.zip"
    library.save_sb3(path, random_case(), "ppo", NUM_LEGAL)
    theirs = library.sb3_values(path, states[:16])
    ours = imported(path).label(states[:16]).values_B
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "policy_kwargs", "message"),
    [
        ("ppo", {"share_features_extractor": False}, "a features extractor each"),
        ("ppo", {"net_arch": [64]}, "hidden layers behind the extractor"),
        ("dqn", {"net_arch": [64]}, "2 layers behind the extractor"),
    ],
)
def test_other_networks_of_stable_baselines3_are_refused(
    tmp_path: Path,
    library: ModuleType,
    kind: str,
    policy_kwargs: dict[str, object],
    message: str,
) -> None:
    path = tmp_path / "model.zip"
    library.save_sb3(path, random_case(), kind, NUM_LEGAL, **policy_kwargs)
    with pytest.raises(ValueError, match=message):
        read_checkpoint(path, game=GAME)


# PFRL, CleanRL in JAX, Dopamine


def test_pfrl(tmp_path: Path, library: ModuleType, states: Tensor) -> None:
    path = tmp_path / "best.zip"
    judge = library.save_pfrl(path, random_case(), NUM_LEGAL, tmp_path / "random")
    check(path, judge, noise())
    judge = library.save_pfrl(path, PLAYING["dqn"](GAME), NUM_LEGAL, tmp_path / "best")
    check(path, judge, states)


@pytest.mark.parametrize("kind", ["dqn", "c51", "ppo"])
def test_cleanrl_in_jax(tmp_path: Path, library: ModuleType, states: Tensor, kind: str) -> None:
    path = tmp_path / "model.cleanrl_model"
    judge = library.save_cleanrl_jax(path, random_case(PER_ACTION[kind]), kind)
    expert = check(path, judge, noise())
    assert expert.card.trained_steps == (None if kind == "dqn" else 4321)
    check(path, library.save_cleanrl_jax(path, PLAYING[kind](GAME), kind), states)


@pytest.mark.parametrize(
    ("kind", "protocol"), [("dqn", 2), ("dqn", 5), ("dqn", 4), ("c51", 4), ("quantile", 4)]
)
def test_dopamine(
    tmp_path: Path, library: ModuleType, states: Tensor, kind: str, protocol: int
) -> None:
    path = tmp_path / "ckpt.199"
    layers = random_case(PER_ACTION[kind], same=True)
    judge = library.save_dopamine(path, layers, kind, protocol=protocol)
    assert check(path, judge, noise()).card.trained_steps == 4321
    # Random weights take all screens for nearly the same one; centring shows the difference.
    layers = centred(layers, nature_same, states[::10])
    check(path, library.save_dopamine(path, layers, kind, protocol=protocol), states)


# The layouts that the other tests write by hand


def test_msgpack_written_by_hand_is_what_flax_writes(tmp_path: Path, library: ModuleType) -> None:
    layers = random_case()
    params = {"params": layouts.flax_params(layers)}
    assert layouts.to_msgpack(params) == library.flax.serialization.to_bytes(params)


@pytest.mark.parametrize("kind", ["dqn", "qrdqn", "ppo"])
def test_layers_written_by_hand_have_stable_baselines3s_names(
    tmp_path: Path, library: ModuleType, kind: str
) -> None:
    layers = random_case(PER_ACTION[kind])
    layouts.write_sb3_of_2021(tmp_path / "old.zip", layers, kind=kind)
    library.save_sb3(tmp_path / "new.zip", layers, kind, NUM_LEGAL)
    old, new = (_policy_of(tmp_path / name) for name in ("old.zip", "new.zip"))
    assert old.keys() <= new.keys()
    assert all(torch.equal(old[name], new[name]) for name in old)
    # What came later: the extractor under the names of its two uses.
    assert all(name.startswith(("pi_", "vf_")) for name in new.keys() - old.keys())


def _policy_of(path: Path) -> dict[str, Tensor]:
    with zipfile.ZipFile(path) as archive:
        return torch.load(io.BytesIO(archive.read("policy.pth")), weights_only=True)
