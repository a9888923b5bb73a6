"""A member of a population: what it copies, what it keeps, and what dying in between costs."""

import dataclasses
import math
import shutil

import pytest
import signals
import torch
from runs import save_random_expert

from actors.config import ActorConfig
from actors.evaluator import EvaluationResult
from engines.local.engine import LocalEngine
from engines.membership import Membership, digest_of
from learner.checkpoint import load_checkpoint, save_checkpoint
from networks.config import NetworkConfig
from recipes.config import RunConfig
from recipes.evaluation import StudentTest
from recipes.population import ExploitConfig, ExploreConfig, PopulationConfig
from recipes.population_plan import plan_population
from recipes.recipe import Recipe
from recipes.tuning import with_settings
from records.population import PopulationFiles
from records.run_dir import RunDir
from replay.config import ReplayConfig

GAME = signals.GAMES[0].name
CPU = torch.device("cpu")
SLICE_UPDATES = 20
RATE, WEIGHT = "learner.learning_rate", "distillation.weight"


@pytest.fixture
def config(tmp_path):
    teacher = save_random_expert(tmp_path, GAME, torso="minatar")
    return RunConfig(
        games=(GAME,),
        num_steps=2000,
        engine="local",
        objective="joint",
        teachers=(f"{GAME}={teacher}",),
        actor=ActorConfig(num_envs=2, chunk_steps=8),
        replay=ReplayConfig(
            batch_size=16,
            capacity_per_game=400,
            min_size_per_game=40,
            samples_per_insert=2.0,
            samples_per_insert_cap=4.0,
            error_buffer=100.0,
        ),
        network=NetworkConfig(torso="minatar"),
    )


class Member:
    """A member's engine and membership, carried by hand instead of a supervisor."""

    def __init__(self, population, number, settings, state=None):
        config = with_settings(population.config, settings)
        self.recipe = Recipe(dataclasses.replace(config, seed=number + 1))
        folder = population.files.member(number)
        self.run_dir = (
            RunDir.open_existing(folder)
            if folder.exists()
            else RunDir.create(folder, preset="", config_text="games: [pong]\n", seed=1)
        )
        self.notes = []
        self.engine = LocalEngine(self.recipe, device=CPU, state=state)
        self.place = Membership(
            population.plan,
            population.files,
            number,
            recipe=self.recipe,
            run_dir=self.run_dir,
            state=state,
            note=self.notes.append,
        )

    def play(self):
        assert self.engine.advance(math.inf, until_updates=self.place.slice_end)
        assert self.place.is_due(self.engine.progress().updates)

    def save(self):
        state = self.engine.state() | {"member": self.place.state()}
        updates = state["learner"]["num_updates"]
        return save_checkpoint(self.run_dir.checkpoints, state, num_updates=updates, keep=2)

    def score(self, mean):
        updates = self.engine.progress().updates
        self.place.begin_test(self.save(), updates=updates)
        result = EvaluationResult(returns=(mean,) * 3, steps=30, agreement=None, kl=None)
        self.place.take(StudentTest(GAME, updates, 320, result))

    def change(self):
        change = self.place.decide()
        if change is not None:
            self.engine.change_learner(change.recipe, state=change.state)
        self.place.adopt(change, steps=320, updates=self.engine.progress().updates)
        self.save()
        return change

    @property
    def weights(self):
        return self.engine.state()["learner"]["network"]

    @property
    def moments(self):
        return self.engine.state()["learner"]["optimizer"]["state"]


class Population:
    """Two members, of which the second is better."""

    def __init__(self, config, folder, **settings):
        self.config = config
        self.plan = plan_population(
            PopulationConfig(
                members=2,
                slice_steps=160,
                normalize="none",
                **{"explore": ExploreConfig(enabled=False), **settings},
            ),
            config,
        )
        self.files = PopulationFiles(folder)
        folder.mkdir()
        self.one = Member(self, 0, {RATE: 1e-3, WEIGHT: 0.5})
        self.other = Member(self, 1, {RATE: 2e-4, WEIGHT: 2.0})

    def play(self, one=1.0, other=9.0):
        for member, mean in ((self.one, one), (self.other, other)):
            member.play()
            member.score(mean)


@pytest.fixture
def population(config, tmp_path):
    return Population(config, tmp_path / "run")


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def test_a_clearly_worse_member_goes_on_from_weights_moments_and_settings_of_the_other(population):
    population.play()
    one, other = population.one, population.other
    own_before = one.engine.progress()
    change = one.change()
    assert change.decision.donor == 1
    assert same(one.weights, other.weights)
    for number, moments in other.moments.items():
        assert same(one.moments[number], moments)
    state = one.engine.state()["learner"]
    assert same(state["objective"], other.engine.state()["learner"]["objective"])
    # Its own count, actors and replay stay.
    after = one.engine.progress()
    assert after.updates == own_before.updates == SLICE_UPDATES
    assert after.steps == own_before.steps
    assert after.replay.size == own_before.replay.size > 0
    # Actors follow what is a later incarnation.
    assert one.engine.snapshot().version.incarnation == 1
    (actor, *_) = one.engine._of(GAME)
    actor.pull_weights()
    assert actor.version == one.engine.snapshot().version
    # And the better one keeps what it has.
    assert other.change() is None


def test_settings_of_a_living_learner_change_at_its_next_update(population):
    one, other = population.one, population.other
    population.play()
    one.change()
    one.engine.advance(math.inf, until_updates=SLICE_UPDATES + 1)
    learner = one.engine._learner
    assert learner._optimizer.param_groups[0]["lr"] == 2e-4
    (lambdas,) = learner._objective.teachers.values().values()
    assert lambdas == [2.0]
    assert other.engine._learner._objective.teachers.values()[GAME] == [2.0]


def test_the_line_of_a_copy_is_told_and_its_settings_are_kept(population):
    population.play()
    population.one.change()
    said = population.one.place.commit()
    assert "goes on from member 1" in said
    record = population.files.read_record(0)
    first, second = record.incarnations
    assert first.parent is None
    assert second.parent.model_dump() == {"member": 1, "incarnation": 0, "updates": SLICE_UPDATES}
    assert second.settings == {WEIGHT: 2.0, RATE: 2e-4}
    assert "learning_rate: 0.0002" in population.one.run_dir.config_path.read_text()


def test_a_member_that_dies_before_it_has_changed_decides_the_same_once_more(population):
    population.play()
    one = population.one
    before = load_checkpoint(one.run_dir.checkpoints / f"updates_{SLICE_UPDATES:012d}.pt")
    record = population.files.read_record(0)
    first = one.place.decide()
    again = Member(population, 0, {RATE: 1e-3, WEIGHT: 0.5}, state=before)
    assert again.place.is_scored
    assert population.files.read_record(0) == record
    second = again.place.decide()
    assert second.decision == first.decision
    # Changed before its first look, it begins the next slice, not the same one.
    again.place.adopt(second, steps=0, updates=0)
    assert again.place.slice_end == 2 * SLICE_UPDATES
    assert again.place.incarnation.updates == SLICE_UPDATES
    assert same(second.state["network"], first.state["network"])


def test_a_member_that_dies_before_its_record_is_written_goes_on_as_what_it_has_become(population):
    population.play()
    one = population.one
    one.change()
    # No commit: the checkpoint alone knows.
    assert len(population.files.read_record(0).incarnations) == 1
    state = load_checkpoint(one.run_dir.checkpoints / f"updates_{SLICE_UPDATES:012d}.pt")
    again = Member(population, 0, {RATE: 2e-4, WEIGHT: 2.0}, state=state)
    assert not again.place.is_scored
    assert again.place.position == (1, 1)
    (_, now) = population.files.read_record(0).incarnations
    assert now.parent.member == 1


def test_a_donor_that_dies_while_it_is_copied_leaves_the_old_weights(population, monkeypatch):
    population.play()
    one = population.one
    before = {name: value.clone() for name, value in one.weights.items()}
    cut = population.files.boundary(1).read_bytes()[:-1000]

    def copy_part(source, target):
        target.write_bytes(cut)

    monkeypatch.setattr(shutil, "copyfile", copy_part)
    assert one.change() is None
    assert same(one.weights, before)
    assert "could not be copied" in one.notes[0]
    assert one.place.incarnation.number == 0
    assert one.place.position == (1, 1)


def test_a_donor_that_scores_anew_while_it_is_copied_is_read_once_more(population, monkeypatch):
    population.play()
    one, other = population.one, population.other
    copy, tries = shutil.copyfile, []

    def copy_late(source, target):
        tries.append(source)
        copy(source, target)
        if len(tries) == 1:
            other.change()
            other.play()
            other.score(11.0)

    monkeypatch.setattr(shutil, "copyfile", copy_late)
    change = one.place.decide()
    assert len(tries) == 2
    assert change.copied.updates == 2 * SLICE_UPDATES
    assert same(change.state["network"], other.weights)


def test_a_donor_without_a_checkpoint_or_with_another_than_was_scored_is_not_copied(population):
    population.play()
    path = population.files.boundary(1)
    shutil.copyfile(population.files.boundary(0), path.with_suffix(".other"))
    path.with_suffix(".other").replace(path)
    assert population.one.place.decide() is None
    path.unlink()
    assert population.one.place.decide() is None


def test_what_was_scored_stays_for_others_while_the_member_goes_on(population):
    population.play()
    other = population.other
    scored = population.files.boundary(1)
    digest = digest_of(scored)
    other.change()
    other.play()
    other.place.begin_test(other.save(), updates=2 * SLICE_UPDATES)
    # Its test is under way: others still find what its record tells of.
    assert digest_of(scored) == digest == population.files.read_record(1).boundaries[-1].digest


def test_a_population_told_not_to_exploit_copies_nothing(config, tmp_path):
    population = Population(config, tmp_path / "run", exploit=ExploitConfig(enabled=False))
    population.play()
    assert population.one.change() is None
