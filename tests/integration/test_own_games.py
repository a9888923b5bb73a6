"""A game of the user's own in whole runs: every process finds it by the path that names it."""

import re

import pytest
from ray_clusters import many_nodes
from runs import ROOT, read_summary, run_command

from engines.on_ray.game_check import check_games
from networks.config import NetworkConfig
from recipes.config import RunConfig
from recipes.recipe import Recipe

CATCH = re.search(r"```python\n(.*?)```", (ROOT / "docs" / "games.md").read_text(), re.DOTALL)[1]
OPTIONS = (
    "--games", "catch:spec", "--network.torso", "minatar", "--objective", "dqn",
    "--num-steps", "3000", "--replay.min-size-per-game", "500", "--evaluation.num-episodes", "2",
)  # fmt: skip


@pytest.mark.ray
@pytest.mark.parametrize("engine", ["ray", "local"])
def test_a_run_plays_a_game_of_the_folder_that_it_is_started_from(tmp_path, engine):
    (tmp_path / "catch.py").write_text(CATCH)
    options = (*OPTIONS, "--engine", engine, "--run-dir", "run")
    finished = run_command("multitask.py", *options, cwd=tmp_path, timeout_s=200.0)
    assert finished.status == 0, finished.errors
    assert read_summary(tmp_path / "run")["steps"]["catch"] >= 3000
    # Of a run that is there, every command learns where its games come from.
    played = run_command("evaluate.py", "run", "--episodes", "2", cwd=tmp_path)
    assert played.status == 0, played.errors
    assert "catch" in played.output


@pytest.mark.ray
@pytest.mark.slow
def test_a_node_that_cannot_import_a_game_is_named_before_anything_starts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "catch.py").write_text(CATCH)
    # Stands for what is installed here, but not on the node.
    only_here = 'import sys\nif "default_worker" in sys.argv[0]: import not_there\n'
    (tmp_path / "catch_here.py").write_text(only_here + CATCH.replace('"catch"', '"catch_here"'))
    configs = {
        path: RunConfig(games=(path,), num_steps=1, network=NetworkConfig(torso="minatar"))
        for path in ("catch:spec", "catch_here:spec")
    }
    with many_nodes(1, 1):
        check_games(Recipe(configs["catch:spec"]))
        with pytest.raises(ValueError, match=r"^on the node .*'catch_here:spec'.*not_there"):
            check_games(Recipe(configs["catch_here:spec"]))
