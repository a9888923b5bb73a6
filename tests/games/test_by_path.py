"""Games named by the path of their module, an entry point, or a Gymnasium id."""

import pickle
import re
import subprocess
import sys

import gymnasium
import numpy as np
import pytest
from runs import ROOT, clean_environment

from games import get_game, make_vector_env
from games import registry as registry_module
from games.by_path import source_folders
from games.registry import try_game
from recipes.config import RunConfig

# As the page about games has it.
CATCH = re.search(r"```python\n(.*?)```", (ROOT / "docs" / "games.md").read_text(), re.DOTALL)[1]

PICTURES = """
import gymnasium
import numpy as np

class Pictures(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(0, 255, (20, 30, 3), np.uint8)
    action_space = gymnasium.spaces.Discrete(4)

    def reset(self, *, seed=None, options=None):
        self.count = 0
        return self.picture(), {}

    def step(self, action):
        self.count += 1
        return self.picture(), 1.0, self.count == 10, False, {}

    def picture(self):
        return np.full((20, 30, 3), self.count, np.uint8)

gymnasium.register("Pictures-v0", Pictures)
"""


@pytest.fixture(autouse=True)
def modules(tmp_path, monkeypatch):
    """A folder that commands are started from; what is imported from it is forgotten."""
    monkeypatch.setattr(registry_module, "_REGISTRY", dict(registry_module._REGISTRY))
    monkeypatch.setattr(sys, "path", list(sys.path))
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    before = set(sys.modules)
    yield folder
    gymnasium.registry.pop("Pictures-v0", None)
    for name in set(sys.modules) - before:
        if str(folder) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def test_the_game_of_the_page_is_short_and_plays(modules):
    assert len(CATCH.splitlines()) <= 33
    (modules / "catch.py").write_text(CATCH)
    spec = get_game("catch:spec")
    assert spec.name == "catch"
    env = make_vector_env(spec, num_envs=500, protocol="classic", seed=0)
    env.reset()
    returns = sum(env.step(np.full(500, 1)).rewards for _ in range(9))
    # The paddle stands still, and the ball falls anywhere: what the page gives as random play.
    assert returns.mean() == pytest.approx(spec.random_score, abs=0.05)
    assert env.step(np.full(500, 1)).restarted.all()


def test_every_copy_of_a_configuration_imports_the_games_in_its_own_process(modules, tmp_path):
    (modules / "pack").mkdir()
    (modules / "pack" / "__init__.py").write_text("")
    (modules / "pack" / "catch.py").write_text(CATCH)
    config = RunConfig(games=("pack.catch:spec",), num_steps=1)
    assert (config.games, config.game_sources) == (("catch",), ("pack.catch:spec",))
    assert source_folders(config.game_sources) == (str(modules),)
    assert pickle.loads(pickle.dumps(config)) == config
    code = (
        "import pickle, sys; config = pickle.load(sys.stdin.buffer)\n"
        "from games import get_game; print(get_game(config.games[0]).family, config.games)"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code],
        input=pickle.dumps(config),
        env=clean_environment(tmp_path),
        cwd="/",
        capture_output=True,
        check=False,
    )
    assert finished.stdout.split() == [b"catch", b"('catch',)"], finished.stderr


def test_a_game_of_the_folder_hides_none_of_the_projects_modules(modules):
    (modules / "learner.py").write_text("raise ImportError('not this one')")
    (modules / "catch.py").write_text(CATCH)
    get_game("catch:spec")
    assert sys.path.index(str(modules)) == len(sys.path) - 1


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        ("nowhere:spec", "", r"'nowhere:spec' cannot be imported: No module named 'nowhere'"),
        ("mine:spec", "import absent_thing", "cannot be imported: No module named 'absent_thing'"),
        ("mine:spec", "1 +", r"cannot be imported: invalid syntax .*\(SyntaxError\)"),
        ("mine:spec", "raise RuntimeError('a\\nb')", r"imported: a b \(RuntimeError\)"),
        ("mine:spec", "spec = 3", "is no GameSpec but int"),
        ("mine:other", CATCH, "is no GameSpec but NoneType"),
        ("mine:spec", CATCH.replace("register_gym_game(spec, Catch)", ""), "is not registered"),
        (":spec", "", "cannot be imported: Empty module name"),
    ],
)  # fmt: skip
def test_a_path_that_leads_to_no_game_is_refused_in_one_line(modules, text, code, message):
    (modules / "mine.py").write_text(code)
    with pytest.raises(ValueError, match=message) as refusal:
        RunConfig(games=(text,), num_steps=1)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("num_actions=3, legal_actions=(0, 1, 2)", "num_actions=5, legal_actions=(0, 1)"),
         "has 3 actions, but its spec has 2 legal ones out of 5"),
        (("frame_shape=(2, 10, 10)", "frame_shape=(1, 10, 10)"), "its spec says uint8"),
    ],
)  # fmt: skip
def test_a_spec_that_its_environment_disagrees_with_is_refused(modules, change, message):
    assert change[0] in CATCH
    (modules / "catch.py").write_text(CATCH.replace(*change))
    with pytest.raises(ValueError, match=message):
        try_game(get_game("catch:spec"), "classic")


def install(folder, name, value):
    """A package's record as pip leaves it, on the path."""
    record = folder / "someones_games-1.0.dist-info"
    record.mkdir()
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: someones-games\nVersion: 1.0\n")
    (record / "entry_points.txt").write_text(f"[actor_mimic.games]\n{name} = {value}\n")


def test_games_of_installed_packages_are_known_by_their_names(modules, monkeypatch):
    (modules / "catch.py").write_text(CATCH)
    install(modules, "catch", "catch:spec")
    monkeypatch.syspath_prepend(str(modules))
    assert RunConfig(games=("catch",), num_steps=1).game_sources == ()
    from games import installed_games

    assert installed_games() == ("catch",)


def test_an_entry_point_with_another_name_than_its_game_is_refused(modules, monkeypatch):
    (modules / "catch.py").write_text(CATCH)
    install(modules, "caught", "catch:spec")
    monkeypatch.syspath_prepend(str(modules))
    with pytest.raises(ValueError, match=r"'caught' of .* leads to the game 'catch'"):
        get_game("caught")


def test_a_variable_makes_games_known_where_nothing_else_names_them(modules, monkeypatch):
    (modules / "catch.py").write_text(CATCH)
    with pytest.raises(ValueError, match=r"unknown game 'catch'.*ACTOR_MIMIC_GAMES"):
        get_game("catch")
    monkeypatch.setenv("ACTOR_MIMIC_GAMES", "catch:spec")
    assert get_game("catch").family == "catch"


# Gymnasium's ids


def test_a_gymnasium_id_is_played_as_it_is(modules):
    (modules / "my_pictures.py").write_text(PICTURES)
    spec = get_game("gym:my_pictures:Pictures-v0")
    assert (spec.name, spec.family) == ("gym_pictures_v0", "gym_4_actions")
    assert (spec.observation_shape, spec.frames_per_step) == ((3, 20, 30), 1)
    assert source_folders(["gym:my_pictures:Pictures-v0"]) == (str(modules),)
    env = make_vector_env(spec, num_envs=2, protocol="classic", seed=0)
    assert env.reset().max() == 0
    assert (env.step(np.array([3, 0])).observations == 1).all()


def test_options_of_a_gymnasium_id_are_part_of_its_game(modules):
    (modules / "my_pictures.py").write_text(PICTURES)
    spec = get_game("gym:my_pictures:Pictures-v0@skip=4,gray=1,stack=2")
    assert spec.name == "gym_pictures_v0_skip4_gray1_stack2"
    assert (spec.observation_shape, spec.frames_per_step) == ((2, 20, 30), 4)
    env = make_vector_env(spec, num_envs=1, protocol="classic", seed=0)
    env.reset()
    step = env.step(np.array([0]))
    assert step.rewards[0] == 4.0
    assert step.observations[0, :, 0, 0].tolist() == [0, 4]
    steps = [env.step(np.array([0])) for _ in range(2)]
    assert steps[1].terminated[0]
    assert steps[1].rewards[0] == 2.0


def test_an_id_of_the_emulator_is_the_game_that_is_shipped():
    assert get_game("gym:ALE/SpaceInvaders-v5") is get_game("space_invaders")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gym:FrozenLake-v1", r"shows int64 \[\], but torsos see uint8 images"),
        ("gym:CartPole-v1@skip=4", "shows numbers, of which skip cannot keep the brighter ones"),
        ("gym:Pendulum-v1", "only Discrete ones are played"),
        ("gym:ALE/Pong-ram-v5", "cannot be made by Gymnasium: .*ram"),
        ("gym:NoSuch-v1", "cannot be made by Gymnasium: .*NoSuch"),
        ("gym:nowhere:Some-v0", "No module named 'nowhere'"),
        ("gym:CartPole-v1@speed=4", "options that are not known"),
        ("gym:CartPole-v1@skip", "options that are not known"),
        ("gym:CartPole-v1@gray=1", "cannot be made by Gymnasium"),
    ],
)
def test_an_id_that_no_torso_can_play_is_refused_with_the_reason(text, message):
    with pytest.raises(ValueError, match=message) as refusal:
        get_game(text)
    assert "\n" not in str(refusal.value)
