"""launch/experts.py: a run for each game, the best weights as an expert with a card, resuming."""

import json

import pytest
import signals
from runs import read_summary

from engines.keeping import BestExpert
from launch.experts import main
from records.run_dir import RunDir
from records.summary import Summary
from teachers.expert import load_expert

GAMES = tuple(spec.name for spec in signals.GAMES)


@pytest.fixture
def options(small_run):
    return [
        *(*small_run, "--games", *GAMES, "--num-steps", "300", "--actor.anneal-steps", "0"),
        *("--evaluation.num-episodes", "3", "--evaluation.num-envs", "3"),
        *("--evaluation.period-steps", "100", "--seed", "5"),
    ]


def test_every_game_is_a_run_of_its_own_that_ends_with_an_expert(options, tmp_path):
    main([*options, "--run-dir", "run"])
    for game in GAMES:
        folder = tmp_path / "run" / game
        summary = read_summary(folder)
        Summary.model_validate(summary)
        assert summary["updates"] == 75  # 300 steps, 4 samples of each, in batches of 16.
        row = summary["games"][game]
        assert row["teacher"]["mean"] is None
        expert = load_expert(folder / f"{game}.safetensors")
        assert [score.protocol for score in expert.card.scores] == ["classic", "modern"]
        # The summary gives what the expert on disk scored, not the newest weights.
        assert row["student"]["mean"] == expert.card.score.mean
    assert RunDir.open_carried(tmp_path / "run").path.name == GAMES[-1]


def test_quantiles_that_begin_from_an_expert_end_as_an_ordinary_one_and_its_card_says_so(
    options, tmp_path
):
    game = GAMES[0]
    options = [*options, "--games", game]
    main([*options, "--run-dir", "first"])
    start = tmp_path / "first" / game / f"{game}.safetensors"
    main(
        [*options, "--run-dir", "second", "--start-from", f"{game}={start}", "--dqn.quantiles", "4"]
    )
    before, after = (
        load_expert(tmp_path / run / game / f"{game}.safetensors") for run in ("first", "second")
    )
    assert before.card.algorithm == "double DQN, 3-step, proportional prioritized replay"
    assert before.card.notes is None
    assert after.card.algorithm.startswith("double QR-DQN with 4 quantiles, 3-step, ")
    assert after.card.notes == (
        f"Began with the weights of {start}; its own training is not in trained_steps."
    )
    assert after.card.architecture == before.card.architecture


def test_an_ended_expert_is_left_as_it_is_when_the_command_is_resumed(options, tmp_path):
    main([*options, "--run-dir", "run"])
    files = [tmp_path / "run" / game / f"{game}.safetensors" for game in GAMES]
    before = [path.read_bytes() for path in files]
    stamps = [path.stat().st_mtime_ns for path in files]
    main(["--resume", "run"])
    assert [path.read_bytes() for path in files] == before
    assert [path.stat().st_mtime_ns for path in files] == stamps


def test_a_resumed_command_goes_on_with_the_game_that_was_cut_off(options, tmp_path):
    main([*options, "--run-dir", "run"])
    (tmp_path / "run" / GAMES[1] / "summary.json").unlink()
    main(["--resume", "run", "--num-steps", "600"])
    assert [read_summary(tmp_path / "run" / game)["updates"] for game in GAMES] == [150, 150]
    command = json.loads((tmp_path / "run" / GAMES[0] / f"{GAMES[0]}.json").read_text())["command"]
    assert "--resume" not in command


def test_a_folder_of_an_earlier_version_is_refused_in_one_line(options, tmp_path):
    RunDir.create(tmp_path / "old", preset="experts", config_text="games: [pong]\n", seed=1)
    with pytest.raises(ValueError, match="written by an earlier version"):
        main(["--resume", "old", *options])


def test_an_expert_that_is_gone_at_the_end_costs_no_summary(options, tmp_path, monkeypatch):
    monkeypatch.setattr(BestExpert, "keep_tested", lambda *_, **__: None)
    with pytest.raises(ValueError, match="safetensors"):
        main([*options, "--run-dir", "run"])
    assert read_summary(tmp_path / "run" / GAMES[0])["updates"] == 75


def test_a_mistake_in_the_last_game_is_told_before_anything_is_written(options, tmp_path):
    with pytest.raises(ValueError, match="hierarchical"):
        main([*options, "--run-dir", "run", "--replay.sampler", "hierarchical"])
    assert not (tmp_path / "run").exists()
