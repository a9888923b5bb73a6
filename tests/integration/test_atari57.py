"""One student of all 57 Atari games, in one run, within the memory that its plan has predicted."""

import re
from pathlib import Path

import pytest
from runs import command, read_metrics, read_summary, save_random_expert

from benchmarks.planning.cluster_file import Node
from benchmarks.planning.options import PlanOptions
from benchmarks.planning.plan import make_plan
from benchmarks.planning.probe import measure
from games import ATARI_GAMES
from recipes.loading import load_config, load_preset

# Small in all but the games: the preset is for a GPU and 60 CPUs.
SMALL = (
    "--engine", "local", "--device", "cpu", "--network.torso", "nature_quarter",
    "--actor.num-envs", "1", "--actor.chunk-steps", "8", "--replay.batch-size-per-game", "1",
    "--replay.capacity-per-game", "2000", "--replay.min-size-per-game", "8",
    "--evaluation.check-teachers", "0", "--report-at-end", "False",
)  # fmt: skip


@pytest.fixture(scope="module")
def pattern(tmp_path_factory):
    """Teachers with random weights, by one name for all games."""
    folder = tmp_path_factory.mktemp("collection")
    for game in ATARI_GAMES:
        save_random_expert(folder, game)
    return f"{folder}/{{game}}.safetensors"


def test_the_preset_has_the_57_games_and_needs_a_teacher_for_each():
    config = load_config((), preset_text=load_preset("atari57"))
    assert sorted(config.games) == sorted(ATARI_GAMES)
    assert config.replay.batch_size == 8 * 57


@pytest.mark.slow
def test_all_57_games_are_played_and_learned_in_one_run(pattern, tmp_path):
    options = (*SMALL, "--teachers", pattern)
    config = load_config(options, preset_text=load_preset("atari57"))
    probe = measure(config, seconds=0.1)
    assert set(probe.act_s) == set(ATARI_GAMES)
    here = Node(kind="here", cpus=2, memory_bytes=1 << 40)
    plan = make_plan(config, probe, PlanOptions(), None, here=here)
    predicted = sum(plan["estimates"][0]["memory_bytes"].values())

    words = ("--preset", "atari57", *options, "--run-dir", "run")
    with command("multitask.py", *words, cwd=tmp_path) as running:
        run = tmp_path / "run"
        running.wait_for(
            lambda: any(row["updates"] > 0 for row in read_metrics(run)),
            timeout_s=600.0,
            what="an update",
        )
        status = Path(f"/proc/{running.process.pid}/status").read_text()
        peak = int(re.search(r"VmHWM:\s*(\d+)", status)[1]) << 10
        running.interrupt()
        assert running.wait(120.0).status == 130
    summary = read_summary(run)
    assert set(summary["steps"]) == set(ATARI_GAMES)
    assert min(summary["steps"].values()) >= 8
    assert 1 << 28 < peak < predicted
    assert summary["games"]["pong"]["human"] == 14.6
