"""Counters are declared once, and added up by one rule."""

import json
from dataclasses import dataclass

import pytest
import signals
import torch
from runs import save_random_expert

import actors.actor as actor_module
import engines.local.engine as engine_module
from actors.actor import ActorCounts
from actors.config import ActorConfig
from games.registry import get_game
from networks.config import NetworkConfig
from recipes.config import RunConfig
from recipes.recipe import Recipe
from records.progress import add_up
from records.recorder import Recorder
from records.run_dir import RunDir
from replay.config import ReplayConfig
from replay.stats import TableStats
from replay.storage.table import TableCounts
from views.live.source import RunSource
from views.live.view import describe


def test_numbers_are_added_quantiles_averaged_and_settings_taken_from_the_last():
    empty = TableStats(counts=TableCounts(inserted=1), share=2.0)
    one = TableStats(size=3, counts=TableCounts(inserted=5), priority_quantiles=(1.0, 4.0))
    two = TableStats(
        size=4, counts=TableCounts(inserted=7), priority_quantiles=(3.0, 8.0), share=0.5
    )
    assert add_up([empty, one, two]) == TableStats(
        size=7, counts=TableCounts(inserted=13), priority_quantiles=(2.0, 6.0), share=0.5
    )


@dataclass(slots=True)
class CountsWithNaps(ActorCounts):
    """What an actor counts, and one thing more."""

    naps: int = 0


@pytest.fixture
def recipe(tmp_path):
    game = signals.GAMES[0].name
    teacher = save_random_expert(tmp_path, game, torso="minatar")
    return Recipe(
        RunConfig(
            games=(game,),
            num_steps=400,
            engine="local",
            actors=("3",),
            teachers=(f"{game}={teacher}",),
            actor=ActorConfig(num_envs=2, chunk_steps=8),
            replay=ReplayConfig(batch_size=16, capacity_per_game=200, min_size_per_game=40),
            network=NetworkConfig(torso="minatar"),
        )
    )


def test_a_new_counter_is_one_declaration_from_the_actor_to_the_page(tmp_path, recipe, monkeypatch):
    monkeypatch.setattr(actor_module, "ActorCounts", CountsWithNaps)
    monkeypatch.setattr(engine_module, "ActorCounts", CountsWithNaps)
    engine = engine_module.LocalEngine(recipe, device=torch.device("cpu"))
    for number, local in enumerate(engine._actors):
        local.actor.counts.naps += number
    (game,) = recipe.games
    run = RunDir.create(
        tmp_path / "run", preset="smoke", config_text=f"games: [{game}]\n", seed=0, argv=[]
    )
    recorder = Recorder(run.metrics_path, run.tensorboard, [get_game(game)])
    recorder.record(engine.progress())
    recorder.close()
    engine.close()
    expected = 0 + 1 + 2
    written = json.loads(run.metrics_path.read_text())
    assert written[f"game/{game}/naps"] == expected
    page = describe(RunSource(run).look())
    assert page["games"][0]["figures"]["naps"] == pytest.approx(expected)
