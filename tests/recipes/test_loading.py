"""What all command lines share: --preset, --resume, and how a command ends."""

import pytest

from recipes.loading import build_config, dump_config, load_config, parse_invocation
from records.run_dir import RunDir


@pytest.fixture
def run(tmp_path):
    config = load_config(["--games", "pong", "boxing", "--num-steps", "77", "--seed", "9"])
    return RunDir.create(
        tmp_path / "first", preset="mine", config_text=dump_config(config), seed=9, argv=[]
    )


def parse(*argv: str, default_preset: str = "quickstart"):
    return parse_invocation(argv, default_preset=default_preset)


def test_without_either_option_the_default_preset_is_taken():
    invocation = parse("--seed", "3")
    assert (invocation.preset, invocation.options) == ("quickstart", ("--seed", "3"))
    assert "breakout" in invocation.preset_text
    assert invocation.resumed is None


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["--games", "pong"], "custom"),
        (["--games=pong"], "custom"),
        (["--games", "pong", "--preset", "quickstart"], "quickstart"),
    ],
)
def test_other_games_than_the_default_presets_are_a_run_of_ones_own(words, name):
    assert parse(*words).preset == name


def test_a_resumed_run_gives_its_own_settings_and_options_override_them(run):
    invocation = parse("--resume", str(run.path), "--actors", "3")
    assert (invocation.resumed.path, invocation.preset) == (run.path, "mine")
    config = build_config(invocation, prog="x")
    assert (config.games, config.num_steps, config.seed) == (("pong", "boxing"), 77, 9)
    assert config.actors_of == {"pong": 3, "boxing": 3}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--preset", "smoke"], "leave --preset out"),
        (["--run-dir", "elsewhere"], "leave --run-dir out"),
        (["--run-dir=elsewhere"], "leave --run-dir out"),
        (["--run_dir", "elsewhere"], "leave --run-dir out"),
    ],
)
def test_what_contradicts_resuming_is_refused(run, words, message):
    with pytest.raises(ValueError, match=message):
        parse("--resume", str(run.path), *words)


def test_an_abbreviated_option_is_not_taken_for_another():
    assert parse("--pres", "smoke").options == ("--pres", "smoke")


# How a command ends


@pytest.mark.parametrize("option", ["--resume", "--preset"])
def test_an_option_without_its_value_is_one_line(option, capsys):
    with pytest.raises(ValueError, match=f"{option}: expected one argument"):
        parse_invocation([option], default_preset="smoke")
    assert capsys.readouterr() == ("", "")


def test_damaged_settings_of_a_run_that_is_resumed_are_said_to_be_the_runs(tmp_path):
    text = "games: [pong]\nnum_steps: many\n"
    RunDir.create(tmp_path / "run", preset="smoke", config_text=text, seed=1)
    invocation = parse_invocation(["--resume", str(tmp_path / "run")], default_preset="smoke")
    with pytest.raises(ValueError, match=r"run/config\.yaml is damaged: .*num-steps"):
        build_config(invocation, prog="multitask.py")


def test_a_mistake_in_the_options_of_a_run_that_is_resumed_is_not_said_to_be_the_runs(tmp_path):
    text = "games: [pong]\nnum_steps: 500\n"
    RunDir.create(tmp_path / "run", preset="smoke", config_text=text, seed=1)
    words = ["--resume", str(tmp_path / "run"), "--num-steps", "many"]
    invocation = parse_invocation(words, default_preset="smoke")
    with pytest.raises(ValueError, match=r"num-steps.*; see multitask\.py --help"):
        build_config(invocation, prog="multitask.py")
