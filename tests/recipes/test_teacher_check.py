"""A run tries its teachers and says so when one cannot play by its rules."""

import dataclasses
import json

import pytest
import signals
from runs import read_metrics, save_network, save_random_expert, teacher_options

from actors.evaluator import EvaluationResult
from launch.multitask import main
from networks.network import MultitaskNetwork
from recipes.config import EvaluationConfig, RunConfig
from recipes.evaluation import TeacherTest, run_teacher_test
from recipes.recipe import Recipe
from recipes.teacher_check import find_alarm
from records.run_dir import RunDir
from teachers.expert import save_expert

GAMES = tuple(spec.name for spec in signals.GAMES)
GOOD, BAD = GAMES


def set_score(weights, mean: float, std: float, protocol: str = "classic") -> None:
    """What the card claims, over 30 episodes."""
    card = json.loads(weights.with_suffix(".json").read_text())
    score = card["scores"][0]
    card["scores"] = [score | {"mean": mean, "std": std, "episodes": 30, "protocol": protocol}]
    weights.with_suffix(".json").write_text(json.dumps(card))


@pytest.fixture(scope="module")
def teachers(tmp_path_factory):
    """One that plays well, and one that has learned nothing but claims to."""
    folder = tmp_path_factory.mktemp("teachers")
    set_score(
        save_network(folder, GOOD, signals.fit_best_policy(signals.GAMES[0], seed=0)), 9.6, 0.6
    )
    set_score(save_random_expert(folder, BAD, torso="minatar"), 9.6, 0.6)
    return folder


@pytest.fixture
def config(teachers):
    return RunConfig(
        games=GAMES,
        num_steps=100,
        teachers=tuple(f"{game}={teachers / game}.safetensors" for game in GAMES),
        evaluation=EvaluationConfig(num_envs=3, check_teachers=5),
    )


def test_a_teacher_plays_so_many_episodes_by_the_runs_settings(config):
    test = run_teacher_test(Recipe(config), GOOD)
    assert test.game == GOOD
    assert len(test.result.returns) == 5
    assert test.result.mean > 8.5
    assert test == run_teacher_test(Recipe(config), GOOD)
    other = dataclasses.replace(config, seed=2)
    drawn = {run_teacher_test(Recipe(c), BAD).result.returns for c in (config, other)}
    assert len(drawn) == 2


def test_only_the_teacher_that_cannot_play_raises_an_alarm(config, teachers):
    recipe = Recipe(config)
    assert find_alarm(recipe, run_teacher_test(recipe, GOOD)) is None
    alarm = find_alarm(recipe, run_teacher_test(recipe, BAD))
    assert alarm.startswith(f"the teacher of {BAD} is ")
    assert "its card says 9.6 +- 0.6 over 30; this run plays by classic" in alarm
    assert alarm.endswith(f"python launch/zoo.py verify {teachers / BAD}.safetensors")


def test_a_card_by_other_rules_is_compared_with_and_named(config, teachers, tmp_path):
    for suffix in (".safetensors", ".json"):
        (tmp_path / f"{BAD}{suffix}").write_bytes((teachers / f"{BAD}{suffix}").read_bytes())
    set_score(tmp_path / f"{BAD}.safetensors", 9.6, 0.6, protocol="sb3")
    recipe = Recipe(
        dataclasses.replace(config, teachers=(f"{BAD}={tmp_path / BAD}.safetensors",), games=(BAD,))
    )
    test = TeacherTest(BAD, EvaluationResult(returns=(2.0,) * 5, steps=50, agreement=None, kl=None))
    assert "over 30 by sb3; this run plays by classic" in find_alarm(recipe, test)


@pytest.fixture
def options(teachers, tmp_path, monkeypatch):
    """A smoke run of the signal games, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return [
        *("--preset", "smoke", "--engine", "local", "--games", *GAMES),
        *("--report-at-end", "False"),
        *teacher_options(teachers, GAMES),
        *("--network.torso", "minatar", "--num-steps", "200", "--run-dir", "run"),
    ]


def test_a_run_warns_on_the_console_and_in_its_folder(options, tmp_path, capsys):
    main([*options, "--evaluation.check-teachers", "5"])
    lines = capsys.readouterr().out.splitlines()
    (warning,) = (line for line in lines if line.startswith("warning: "))
    assert warning.startswith(f"warning: the teacher of {BAD} is ")
    assert lines.index(warning) < 3, "before anything was learned"
    assert RunDir.open_existing(tmp_path / "run").meta.warnings == (
        warning.removeprefix("warning: "),
    )
    rows = [row for row in read_metrics(tmp_path / "run") if f"teacher/{GOOD}/mean" in row]
    assert [row[f"teacher/{GOOD}/episodes"] for row in rows] == [5]


@pytest.fixture
def policy(tmp_path):
    """A teacher that is a policy."""
    spec = signals.GAMES[0]
    network = MultitaskNetwork(
        has_critic=True,
        torso="minatar",
        observation_shape=spec.observation_shape,
        num_actions=spec.num_actions,
    )
    card = {
        "game": GOOD, "algorithm": "PPO", "protocol": "sb3", "trained_steps": 1,
        "scores": [], "origin": "made by a test", "licence": "MIT",
    }  # fmt: skip
    path = tmp_path / "policy" / f"{GOOD}.safetensors"
    save_expert(network, card, path, half=False)
    return path
