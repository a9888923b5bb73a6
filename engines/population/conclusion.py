"""Ends a population: picks the member that is kept, tests it once more, writes the run's results.

The run's folder then has what every other run's has: a summary, a student, and metrics, which are
those along the student's line of ancestors.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from actors.evaluator import EvaluationResult
from engines.keeping import keep_student
from engines.population.carrying import Population
from games.registry import get_game
from learner.checkpoint import load_newest
from networks.snapshots import take_snapshot
from networks.weights import WeightSnapshot, WeightsVersion
from recipes.evaluation import run_test
from recipes.evolution import confirming_seed, find_winner
from recipes.recipe import Recipe
from records.metric_files import JsonLines
from records.population import (
    Ancestor,
    Ending,
    PopulationSummary,
    Stretch,
    ancestral_rows,
    ancestry,
)
from records.recorder import Recorder
from records.run_record import read_document
from records.session_clock import SessionClock
from records.summary import with_students


def conclude(population: Population, lost: Mapping[int, str]) -> PopulationSummary:
    """Write summary.json, student/, metrics.jsonl and population.json into the population's folder.

    The student is picked by the last tests, and the luckiest of several is too good on average, so
    it is tested once more by another seed; that is what the run's summary says.

    Args:
        population: whose members have been carried.
        lost: why some members have not reached their end.

    Raises:
        ValueError: none has.
    """
    plan, files = population.plan, population.files
    ended = _summaries(population)
    if not ended:
        raise ValueError(f"all members are lost: {'; '.join(dict.fromkeys(lost.values()))}")
    scores = {number: plan.score(_means(summary)) for number, summary in ended.items()}
    kept = find_winner(scores, student=plan.config.student)
    line = ancestry(files.read_records(), kept)
    summary = ended[kept]
    recipe = Recipe(population.member_config(kept, line[-1].incarnation.settings if line else {}))
    snapshot = _load_weights(population, recipe, kept)
    results = _test_again(population, recipe, snapshot, steps=sum(summary["steps"].values()))
    _write_metrics(population, recipe, line, results, summary=summary)
    keep_student(recipe, population.run.student, snapshot)
    # Members wait for each other on their own clocks, those of earlier sessions among them.
    wall_s = max(time.monotonic() - population.began, *(x["wall_seconds"] for x in ended.values()))
    changed = {
        "preset": population.run.preset,
        "seed": population.config.seed,
        "wall_seconds": wall_s,
    }
    population.run.write_summary(with_students(summary | changed, results))
    outcome = PopulationSummary(
        members={
            str(number): Ending(
                score=scores.get(number),
                steps=_steps_of(population, number),
                lost=lost.get(number, ""),
            )
            for number in population.members
        },
        normalize=plan.normalize,
        student_of=kept,
        picked=plan.config.student,
        picked_score=scores[kept],
        confirmed_score=plan.score({game: result.mean for game, result in results.items()}),
        ancestry=tuple(
            Ancestor(member=stretch.member, incarnation=stretch.incarnation.number)
            for stretch in line
        ),
        steps=sum(_steps_of(population, number) for number in population.members),
        wall_seconds=wall_s,
        tuned=plan.tuned,
    )
    files.write_summary(outcome)
    return outcome


def _summaries(population: Population) -> dict[int, dict[str, Any]]:
    """Summaries of the members that have reached their end."""
    files = population.files
    return {
        number: document
        for number in population.members
        if population.has_ended(number)
        and (document := read_document(files.member(number) / "summary.json")) is not None
    }


def _means(summary: Mapping[str, Any]) -> dict[str, float]:
    return {game: row["student"]["mean"] for game, row in summary["games"].items()}


def _steps_of(population: Population, number: int) -> int:
    """Steps that a member has played; 0 for one that has not come to its first summary."""
    summary = read_document(population.files.member(number) / "summary.json")
    if summary is not None:
        return sum(summary["steps"].values())
    record = population.files.read_records().get(number)
    return record.boundaries[-1].steps if record and record.boundaries else 0


def _load_weights(population: Population, recipe: Recipe, number: int) -> WeightSnapshot:
    """A member's newest weights, in full precision."""
    state = load_newest(population.files.member(number) / "checkpoints")["learner"]
    network = recipe.build_network()
    network.load_state_dict(state["network"])
    version = WeightsVersion(int(state["incarnation"]), int(state["num_updates"]))
    return take_snapshot(network, version, half=False)


def _test_again(
    population: Population, recipe: Recipe, snapshot: WeightSnapshot, *, steps: int
) -> dict[str, EvaluationResult]:
    """Results by game, of episodes that no member was picked by."""
    other = Recipe(replace(recipe.config, seed=confirming_seed(population.plan)))
    num_episodes = recipe.config.evaluation.num_episodes
    return {
        game: run_test(other, game, snapshot, steps, num_episodes).result for game in recipe.games
    }


def _write_metrics(
    population: Population,
    recipe: Recipe,
    line: Sequence[Stretch],
    results: Mapping[str, EvaluationResult],
    *,
    summary: Mapping[str, Any],
) -> None:
    """Replace metrics.jsonl by the rows along a line of ancestors, the last test at its end."""
    path = population.run.metrics_path
    path.unlink(missing_ok=True)
    lines = JsonLines(path)
    last_s = 0.0
    for row in ancestral_rows(population.files, line):
        lines.write(row)
        last_s = row["seconds"]
    lines.close()
    with Recorder(
        path,
        population.run.tensorboard,
        [get_game(game) for game in recipe.games],
        teachers={game: recipe.teacher_score(game) for game in recipe.games},
        clock=SessionClock(counted_s=last_s),
    ) as recorder:
        steps, updates = sum(summary["steps"].values()), summary["updates"]
        for game, result in results.items():
            recorder.record_evaluation(game, steps=steps, updates=updates, result=result)
