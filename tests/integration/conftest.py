"""Teachers and runs that the tests of whole commands share."""

import shutil

import pytest
import torch
from runs import save_random_expert, teacher_options

from engines.local.engine import LocalEngine
from learner.checkpoint import save_checkpoint
from recipes.loading import dump_config, load_config, load_preset
from recipes.recipe import Recipe
from records.run_dir import RunDir

GAMES = ("pong", "boxing")


@pytest.fixture(scope="session")
def teachers(tmp_path_factory):
    """Folder with teachers of two Atari games that have learned nothing."""
    folder = tmp_path_factory.mktemp("teachers")
    for seed, game in enumerate(GAMES):
        save_random_expert(folder, game, seed=seed)
    return folder


@pytest.fixture(scope="session")
def smoke_options(teachers):
    """The smoke preset with these teachers."""
    return ["--preset", "smoke", *teacher_options(teachers, GAMES)]


@pytest.fixture(scope="session")
def run_at_its_start(teachers, tmp_path_factory):
    """A run with one checkpoint, at update 0."""
    config = load_config(teacher_options(teachers, GAMES), preset_text=load_preset("smoke"))
    run = RunDir.create(
        tmp_path_factory.mktemp("runs") / "begun",
        preset="smoke",
        config_text=dump_config(config),
        seed=config.seed,
        argv=[],
    )
    engine = LocalEngine(Recipe(config), device=torch.device("cpu"))
    state = {**engine.state(), "seconds": 1.0}
    engine.close()
    save_checkpoint(run.checkpoints, state, num_updates=0, keep=1)
    return run


@pytest.fixture
def begun(run_at_its_start, tmp_path):
    """A copy of it that a test may spoil."""
    path = tmp_path / "begun"
    shutil.copytree(run_at_its_start.path, path)
    return RunDir.open_existing(path)
