"""Settings of a population: which can be tuned, where they may lie, and how scores are scaled."""

import dataclasses

import pytest
import signals
from runs import save_random_expert

from games.registry import get_game
from learner.config import LearnerConfig
from learner.objectives.config import DistillationConfig
from recipes.config import RunConfig
from recipes.population import (
    ExploitConfig,
    PopulationConfig,
    check_same_population,
    dump_population,
    parse_population,
    read_population,
)
from recipes.population_plan import Range, plan_population
from recipes.recipe import Recipe
from recipes.tuning import get_settings, tunable_settings, with_settings

GAMES = tuple(spec.name for spec in signals.GAMES)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("experts")
    teachers = [f"{game}={save_random_expert(folder, game, torso='minatar')}" for game in GAMES]
    return RunConfig(games=GAMES, num_steps=6000, objective="joint", teachers=tuple(teachers))


def change(run, **settings):
    return dataclasses.replace(run, **settings)


def test_every_tunable_setting_is_a_number_whose_bounds_the_run_accepts(run):
    for name, bounds in tunable_settings().items():
        assert 0 < bounds.low < bounds.high
        for value in (bounds.low, bounds.high):
            changed = with_settings(run, {name: value})
            assert get_settings(changed, (name,)) == {name: value}


def test_what_is_tuned_without_a_word_is_what_the_objective_has(run):
    assert plan_population(PopulationConfig(), run).tuned == (
        "distillation.weight",
        "learner.learning_rate",
    )
    alone = change(run, objective="dqn", teachers=())
    assert plan_population(PopulationConfig(), alone).tuned == ("learner.learning_rate",)


def test_bounds_hold_for_first_values_unless_others_are_given(run):
    plan = plan_population(
        PopulationConfig(
            tune=("learner.learning-rate", "distillation.weight"),
            bounds=("learner.learning-rate=1e-5,1e-2",),
            initial=("distillation.weight=0.5,2",),
        ),
        run,
    )
    assert plan.bounds["learner.learning_rate"] == plan.initial["learner.learning_rate"]
    assert plan.bounds["learner.learning_rate"] == Range(low=1e-5, high=1e-2)
    assert plan.initial["distillation.weight"] == Range(low=0.5, high=2.0)
    assert plan.bounds["distillation.weight"].high > 2.0


@pytest.mark.parametrize(
    ("population", "of_run", "said"),
    [
        ({"tune": ("replay.batch-size",)}, {}, "replay.batch-size cannot be tuned"),
        ({"tune": ("nonsense",)}, {}, "nonsense cannot be tuned"),
        (
            {"tune": ("actor_critic.entropy_weight",)},
            {},
            "actor-critic.entropy-weight cannot be tuned: objective joint does not read it",
        ),
        (
            {"tune": ("distillation.weight",)},
            {"distillation": DistillationConfig(weights=(f"{GAMES[0]}=1",))},
            "gives games weights of their own",
        ),
        (
            {"tune": ("learner.adam_epsilon",)},
            {"learner": LearnerConfig(optimizer="centered_rmsprop")},
            "does not read it",
        ),
        ({"tune": ("learner.learning-rate", "learner.learning_rate")}, {}, "twice"),
        ({"bounds": ("learner.learning-rate=1e-3,1e-5",)}, {}, "out of order"),
        ({"bounds": ("learner.learning-rate=0,1e-5",)}, {}, "begin above 0"),
        ({"bounds": ("learner.learning-rate=1e-5",)}, {}, "two numbers"),
        ({"bounds": ("learner.learning-rate=nan,1",)}, {}, "begin above 0"),
        ({"bounds": ("learner.adam-epsilon=1e-5,1",)}, {}, "a setting that is tuned"),
        ({"initial": ("learner.learning-rate=1e-9,1e-3",)}, {}, "outside of its bounds"),
        (
            {"bounds": ("distillation.weight=0.1,1",)},
            {"distillation": DistillationConfig(floor=0.5)},
            "distillation.floor",
        ),
        ({"normalize": "human"}, {}, "no such score above random play is known"),
        ({"side_by_side": False}, {"engine": "ray"}, "engine local"),
        ({}, {"learner": LearnerConfig(num_replicas=2), "engine": "ray"}, "num-replicas"),
    ],
)
def test_a_mistake_is_one_line_that_names_it(run, population, of_run, said):
    with pytest.raises(ValueError, match=said) as refusal:
        plan_population(PopulationConfig(**population), change(run, **of_run))
    assert "\n" not in str(refusal.value)


def test_one_member_has_nobody_to_copy():
    with pytest.raises(ValueError, match="nobody to learn from"):
        PopulationConfig(members=1, exploit=ExploitConfig(enabled=True))
    assert not PopulationConfig(members=1).exploits
    assert PopulationConfig(members=2).exploits


def test_scores_are_0_at_random_play_and_1_at_the_teacher_each_game_capped():
    run = RunConfig(games=("pong", "boxing"), num_steps=6000, objective="joint")
    plan = plan_population(PopulationConfig(score_cap=1.0), run)
    assert plan.normalize == "teacher"
    teacher = {game: Recipe(run).teacher_score(game).mean for game in run.games}
    low = {game: get_game(game).random_score for game in run.games}
    assert plan.score(teacher) == pytest.approx(1.0)
    assert plan.score(low) == pytest.approx(0.0)
    one = low | {"pong": 100.0}
    assert plan.score(one) == pytest.approx(0.5)
    assert plan_population(PopulationConfig(), run).score(one) > 1.0
    raw = plan_population(PopulationConfig(normalize="none"), run)
    assert raw.score({"pong": 3.0, "boxing": 5.0}) == 4.0
    human = plan_population(PopulationConfig(normalize="human"), run)
    assert human.score({game: get_game(game).human_score for game in run.games}) == 1.0


def test_raw_scores_are_compared_where_no_scale_is_known(run):
    # These teachers' cards have no more than random play.
    assert plan_population(PopulationConfig(), run).normalize == "none"


def test_a_populations_own_options_are_taken_and_the_others_handed_on():
    own = ["--members", "3", "--tune", "distillation.weight", "--explore.factor", "1.5"]
    others = ["--games", "pong", "boxing", "--num-steps", "7"]
    population, handed_on = parse_population([*own, *others], prog="population.py")
    assert population.members == 3
    assert population.tune == ("distillation.weight",)
    assert population.explore.factor == 1.5
    assert handed_on == others


@pytest.mark.parametrize("change", [{"members": 3}, {"tune": ("x",)}, {"normalize": "none"}])
def test_members_stay_comparable_when_a_population_goes_on(change):
    before = PopulationConfig()
    check_same_population(before, PopulationConfig(slice_steps=9, burn_in_steps=3))
    with pytest.raises(ValueError, match=f"cannot change {next(iter(change))}"):
        check_same_population(before, PopulationConfig(**change))


def test_settings_come_back_from_their_file_and_a_damaged_one_is_one_line():
    config = PopulationConfig(
        members=3,
        tune=("distillation.weight",),
        bounds=("distillation.weight=0.1,2",),
        exploit=ExploitConfig(margin=0.2, enabled=False),
    )
    assert read_population(dump_population(config)) == config
    for damaged in ("members: many", "[", "members: 0", "[" * 20_000):
        with pytest.raises(ValueError, match=r"population\.yaml is damaged") as refusal:
            read_population(damaged)
        assert "\n" not in str(refusal.value)
