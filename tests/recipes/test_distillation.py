"""Which schedule each teacher gets, and how many teachers a game may have."""

from dataclasses import replace

import pytest
import signals
from runs import save_random_expert

from learner.objectives.config import DistillationConfig
from networks.config import NetworkConfig
from recipes.config import RunConfig
from recipes.distillation import schedules_of
from recipes.gaps import ScoreGaps
from recipes.recipe import Recipe

GAMES = tuple(spec.name for spec in signals.GAMES)[:2]
FIRST, SECOND = GAMES


def test_what_is_said_of_a_game_is_for_all_of_its_teachers_or_for_each():
    config = DistillationConfig(
        weight=2.0,
        steps=100,
        weights=("pong=1.0,0.5",),
        schedules=("pong=linear,gap", "boxing=exponential"),
        durations=("boxing=7",),
        floors=("pong=0.25",),
    )
    found = schedules_of(config, {"pong": 2, "boxing": 2, "breakout": 1, "seaquest": 0})
    told = {
        game: [(c.weight, c.schedule, c.steps, c.floor) for c in own] for game, own in found.items()
    }
    assert told == {
        "pong": [(1.0, "linear", 100, 0.25), (0.5, "gap", 100, 0.25)],
        "boxing": [(2.0, "exponential", 7, 0.0)] * 2,
        "breakout": [(2.0, "constant", 100, 0.0)],
        "seaquest": [],
    }


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weights": ("pong=1,2,3",)}, r"distillation\.weights: pong has 2 teachers .* 3 values"),
        ({"weights": ("boxing=1,2",)}, "boxing has one teacher in this run, but 2 values"),
        ({"floors": ("seaquest=1",)}, "seaquest has no teacher in this run, but 1 values"),
        ({"weights": ("krull=1",)}, "names a game that is not in this run"),
        ({"weights": ("pong=-1",)}, "'pong=-1' has a bad value .*not negative"),
        ({"schedules": ("pong=sometimes",)}, "must be one of constant, linear, exponential, gap"),
        ({"durations": ("pong=1.5",)}, "'pong=1.5' has a bad value"),
        ({"schedules": ("pong=linear",)}, r"linear needs distillation\.steps"),
        ({"floors": ("pong=3",)}, "floor .3. lies above distillation.weight"),
    ],
)
def test_a_schedule_that_cannot_be_is_one_line(settings, message):
    with pytest.raises(ValueError, match=message):
        schedules_of(DistillationConfig(**settings), {"pong": 2, "boxing": 1, "seaquest": 0})


@pytest.fixture
def config(tmp_path):
    for name, game in (("a", FIRST), ("b", FIRST), ("c", SECOND)):
        (tmp_path / name).mkdir()
        save_random_expert(tmp_path / name, game, torso="minatar", seed=ord(name))
    named = [f"{FIRST}={tmp_path}/{name}/{FIRST}.safetensors" for name in "ab"]
    return RunConfig(
        games=GAMES,
        num_steps=100,
        objective="actor_critic",
        teachers=(*named, f"{SECOND}={tmp_path}/c/{SECOND}.safetensors"),
        network=NetworkConfig(torso="minatar"),
    )


def test_a_game_has_as_many_teachers_as_are_named(config):
    recipe = Recipe(config)
    recipe.check_teachers()
    assert [recipe.num_teachers(game) for game in GAMES] == [2, 1]
    first, second = recipe.find_teachers(FIRST)
    assert first.card.sha256 != second.card.sha256
    # The student is compared with the first.
    assert recipe.find_teacher(FIRST).card.sha256 == first.card.sha256
    # All games of a batch have labels of one width.
    widths = [recipe.table_spec(game, 64).entry.num_teacher_actions for game in GAMES]
    assert widths == [2 * signals.GAMES[0].num_actions] * 2


def test_each_teacher_has_its_own_gap(config):
    gap = replace(config, distillation=DistillationConfig(schedules=(f"{FIRST}=constant,gap",)))
    recipe = Recipe(gap)
    (score, _) = recipe.teacher_scores(FIRST)
    gaps = ScoreGaps(recipe).of({f"game/{FIRST}/return": score.mean})
    assert list(gaps) == [FIRST]
    assert gaps[FIRST][0] == 0.0
    assert len(gaps[FIRST]) == 2


@pytest.mark.parametrize("objective", ["mimic", "joint"])
def test_objectives_for_one_teacher_refuse_several(config, objective):
    with pytest.raises(ValueError, match=f"objective {objective} learns from one .* {FIRST} has 2"):
        Recipe(replace(config, objective=objective)).check_teachers()


def test_teachers_that_nobody_would_ask_are_refused(config):
    with pytest.raises(ValueError, match="objective dqn learns from rewards alone and asks no"):
        Recipe(replace(config, objective="dqn")).check_teachers()
    with pytest.raises(ValueError, match=r"distillation\.weight is 0, so that no teacher is asked"):
        Recipe(replace(config, distillation=DistillationConfig(weight=0.0))).check_teachers()
    asked = DistillationConfig(weight=0.0, weights=(f"{FIRST}=1",))
    Recipe(replace(config, distillation=asked)).check_teachers()


def test_values_are_softened_by_the_temperature_and_logits_are_a_policy_already(config):
    for objective, expected in (("actor_critic", 1.0), ("joint", 0.3), ("dqn", 0.3)):
        changed = replace(config, objective=objective, teachers=(), temperatures=(f"{FIRST}=0.3",))
        assert Recipe(changed).student_temperature(FIRST) == expected
