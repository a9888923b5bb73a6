"""DMLab-30 on an engine that is as strict as the real one; test_contract.py checks the rest."""

import sys

import fake_lab
import numpy as np
import pytest

from games import get_game, make_vector_env
from games.dmlab import ACTION_SETS, DMLAB_30, capped_mean_score
from games.registry import try_game
from recipes.config import RunConfig

NAME = "dmlab_rooms_watermaze"


@pytest.fixture
def lab(monkeypatch):
    """The module of the engine; its environments so far."""
    monkeypatch.setitem(sys.modules, "deepmind_lab", fake_lab)
    monkeypatch.setattr(fake_lab.Lab, "made", [])
    return fake_lab.Lab.made


def make(name=NAME, *, num_envs=1, seed=0):
    return make_vector_env(get_game(name), num_envs=num_envs, protocol="classic", seed=seed)


def test_a_task_is_played_to_its_end_and_again(lab):
    env = make(num_envs=2)
    first = env.reset()
    assert first.shape == (2, 3, 72, 96)
    steps = [env.step(np.array([0, 8])) for _ in range(51)]
    assert [bool(step.terminated.all()) for step in steps[48:]] == [False, True, False]
    assert steps[50].restarted.all()
    # Nothing can be seen after the end: the last picture before it stays.
    assert np.array_equal(steps[49].observations, steps[48].observations)
    assert lab[0].actions[0] == ((0, 0, 0, 1, 0, 0, 0), 4)
    assert lab[0].config == {"width": "96", "height": "72", "logLevel": "WARN"}
    assert len(lab[0].seeds) == 2
    assert len({*lab[0].seeds, *lab[1].seeds}) == 4
    env.close()


def test_pictures_are_kept_when_the_engine_draws_the_next_one(lab):
    env = make()
    before = env.reset()
    kept = before.copy()
    env.step(np.array([0]))
    assert np.array_equal(before, kept)


@pytest.mark.parametrize("num_actions", [9, 15])
def test_every_action_of_both_sets_is_taken_by_the_engine(lab, num_actions):
    spec = get_game(f"{NAME}@actions={num_actions}")
    assert spec.num_actions == len(set(ACTION_SETS[num_actions])) == num_actions
    assert get_game(spec.name) == spec
    env = make(spec.name)
    env.reset()
    for action in spec.legal_actions:
        env.step(np.array([action]))
    assert [given for given, _ in lab[0].actions] == list(ACTION_SETS[num_actions])
    looks = [given[0] for given, _ in lab[0].actions if given[0]]
    assert set(map(abs, looks)) == ({20} if num_actions == 9 else {10, 60})


def test_train_and_test_levels_are_those_of_the_literature(lab):
    for name in DMLAB_30:
        if not name.startswith("language_"):
            try_game(get_game(f"dmlab_{name}"), "classic")
            try_game(get_game(f"dmlab_{name}_test"), "classic")
    scripts = [made.level.removeprefix("contributed/dmlab30/") for made in lab]
    assert scripts[:2] == ["rooms_collect_good_objects_train", "rooms_collect_good_objects_test"]
    # 30 tasks are 32 scripts; four need language.
    assert len(set(scripts)) == 32 - 4
    for train, test in zip(lab[::2], lab[1::2], strict=True):
        assert "allowHoldOutLevels" not in train.config
        assert test.config["allowHoldOutLevels"] == "true"
        assert test.config["mixerSeed"] == str(0x600D5EED)


def test_maps_are_compiled_once_for_all_processes(lab, monkeypatch, tmp_path):
    monkeypatch.setenv("ACTOR_MIMIC_DMLAB_CACHE", str(tmp_path / "maps"))
    for seed in range(3):
        env = make(num_envs=3, seed=seed)
        env.reset()
        env.reset()
    assert sum(made.compiled for made in lab) == 2
    assert len(list((tmp_path / "maps").iterdir())) == 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("dmlab_no_such_level", "DMLab-30 has no task 'dmlab_no_such_level'; it has dmlab_rooms_"),
        ("dmlab_language_execute_random_task", "tells what to do in words"),
        (f"{NAME}@actions=7", "sets of 9 and of 15 actions, not of 7"),
        (f"{NAME}@stack=7", "has no task"),
        ("dmlab_", "has no task"),
    ],
)
def test_what_is_no_task_is_refused_by_name(name, message):
    with pytest.raises(ValueError, match=message):
        RunConfig(games=(name,), num_steps=1)


def test_a_missing_engine_is_one_line():
    with pytest.raises(ValueError, match=r"need the engine deepmind_lab.*docs/games\.md"):
        try_game(get_game(NAME), "classic")


def test_a_level_that_the_engine_lacks_is_one_line(lab):
    from games.dmlab_env import DmlabEnv

    with pytest.raises(ValueError, match="cannot load the level contributed/dmlab30/missing: Lev"):
        DmlabEnv("contributed/dmlab30/missing", ACTION_SETS[9], frame_size=(72, 96),
                 frames_per_step=4, holds_out_maps=False)  # fmt: skip


def test_the_capped_mean_is_that_of_the_literature():
    at = {task: get_game(f"dmlab_{task}") for task in DMLAB_30 if "language" not in task}
    people = {task: spec.human_score for task, spec in at.items()}
    assert capped_mean_score(people, at) == pytest.approx(100)
    assert capped_mean_score({t: 10 * s for t, s in people.items()}, at) == 100
    assert capped_mean_score({t: spec.random_score for t, spec in at.items()}, at) == 0
    # By hand: half of the way in one task, far above people in the other.
    scores = {"rooms_watermaze": (54 + 4.065) / 2, "skymaze_irreversible_path_hard": 1e6}
    assert capped_mean_score(scores, scores) == pytest.approx(75)
    with pytest.raises(ValueError, match="are missing: rooms_collect_good_objects"):
        capped_mean_score(scores)


# The stand-in is as strict as the engine


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: fake_lab.Lab("contributed/dmlab30/x", [], {"width": 96}),
        lambda: fake_lab.Lab("contributed/dmlab30/x", ["RGB_INTERLACED"]),
        lambda: opened().reset(seed=2**31),
        lambda: opened().reset(seed=np.int64(3)),
        lambda: opened().step(np.zeros(7, np.intc)),
        lambda: running().step(np.zeros(7, np.int64)),
        lambda: running().step(np.array([0, 0, 2, 0, 0, 0, 0], np.intc)),
        lambda: ended().observations(),
        lambda: ended().step(np.zeros(7, np.intc)),
    ],
)
def test_the_stand_in_refuses_what_the_engine_does(wrong):
    with pytest.raises((TypeError, ValueError, RuntimeError)):
        wrong()


def opened():
    return fake_lab.Lab("contributed/dmlab30/x", ["RGB_INTERLEAVED"], {"width": "96"})


def running():
    lab = opened()
    lab.reset(seed=1)
    return lab


def ended():
    lab = running()
    while lab.is_running():
        lab.step(np.zeros(7, np.intc), num_steps=100)
    return lab
