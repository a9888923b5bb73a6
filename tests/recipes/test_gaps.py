"""Gaps to teachers, from a row of metrics and the teachers' cards."""

import pytest
import signals
from runs import save_random_expert

from learner.objectives.config import DistillationConfig
from networks.config import NetworkConfig
from recipes.config import RunConfig
from recipes.gaps import ScoreGaps
from recipes.recipe import Recipe

GAMES = tuple(spec.name for spec in signals.GAMES)
FIRST, SECOND = GAMES[:2]


@pytest.fixture
def recipe(tmp_path):
    def build(schedule: str) -> Recipe:
        return Recipe(
            RunConfig(
                games=GAMES,
                num_steps=100,
                objective="joint",
                # The second game has no teacher, and learns from its rewards alone.
                teachers=(f"{FIRST}={save_random_expert(tmp_path, FIRST, torso='minatar')}",),
                network=NetworkConfig(torso="minatar"),
                distillation=DistillationConfig(schedule=schedule),
            )
        )

    return build


def test_a_gap_is_told_for_games_that_have_a_teacher_and_a_return(recipe):
    gaps = ScoreGaps(recipe("gap"))
    score = recipe("gap").teacher_score(FIRST).mean
    row = {f"game/{FIRST}/return": score, f"game/{SECOND}/return": 3.0}
    assert gaps.of(row) == {FIRST: [0.0]}
    assert gaps.of({"steps": 1.0}) == {}


def test_nothing_is_followed_where_the_schedule_does_not_ask_for_it(recipe):
    assert ScoreGaps(recipe("constant")).of({f"game/{FIRST}/return": 1.0}) == {}
