"""A study's file: what it means, and one clear line for every mistake in it."""

from pathlib import Path

import pytest

from studies.study import Study, read_study, shipped_studies

ARMS = "arms: {uniform: {replay.sampler: uniform}, rank: {replay.sampler: rank}}\n"


def write(folder: Path, text: str) -> str:
    path = folder / "mine.yaml"
    path.write_text(text)
    return str(path)


def test_every_shipped_study_is_accepted_by_its_commands_own_parser() -> None:
    assert {"dqn_settings", "expert_heads", "quickstart", "samplers", "smoke"} <= set(
        shipped_studies()
    )
    for name in shipped_studies():
        for unit in read_study(name)[1].units():
            assert unit.num_steps() > 0


def test_units_come_seed_by_seed_with_the_arms_options_over_the_shared_ones(tmp_path: Path) -> None:
    text = "options: {preset: smoke, num_steps: 9, seeded: 1}\narms: {a: {num-steps: 7}, b: {}}\n"
    _, study = read_study(write(tmp_path, text + "seeds: [4, 5]\ngames: [pong, boxing]\n"))

    units = study.units()

    assert [unit.name for unit in units[:3]] == ["a/pong/4", "b/pong/4", "a/boxing/4"]
    assert units[0].options[:6] == ("--games", "pong", "--preset", "smoke", "--num-steps", "7")
    assert len(units) == 8


def test_a_population_is_a_unit_whose_members_all_play_the_units_steps() -> None:
    study = Study(
        command="population",
        options={"preset": "smoke", "num-steps": 100, "objective": "joint", "members": 3},
        arms={"tuned": {"tune": ["distillation.weight"]}, "still": {"explore.enabled": "False"}},
        seeds=[1],
    )
    tuned, still = study.units()
    assert tuned.num_steps() == still.num_steps() == 300
    assert tuned.load_config().objective == "joint"
    assert tuned.fingerprint() != still.fingerprint()


def test_a_value_names_the_game_of_its_unit() -> None:
    study = Study(
        options={"teachers": ["{game}=runs/{game}.safetensors"]},
        arms={"a": {}},
        games=["pong", "boxing"],
        seeds=[1],
    )
    configs = [unit.load_config() for unit in study.units()]
    assert [config.teachers for config in configs] == [
        ("pong=runs/pong.safetensors",),
        ("boxing=runs/boxing.safetensors",),
    ]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (ARMS + "seeds: []\n", "seeds: List should have at least 1 item"),
        ("arms: {}\nseeds: [1]\n", "arms: Dictionary should have at least 1 item"),
        ("arms: {a: {}, a: {}}\nseeds: [1]\n", "a is there twice, below line 1"),
        (ARMS + "seeds: [1, 1]\n", "seeds has 1 twice"),
        (ARMS + "seeds: [-1]\n", "seeds.0: Input should be greater than or equal to 0"),
        (ARMS + "seeds: [1]\ngames: [pong, pung]\n", "unknown game 'pung'"),
        (ARMS + "seeds: [1]\nbaseline: rank\n", "baseline: Extra inputs are not permitted"),
        (ARMS + "seeds: [1]\nreference: rang\n", "'rang' is none of the arms uniform, rank"),
        ("arms: {../up: {}}\nseeds: [1]\n", "String should match pattern"),
        ("arms: {figures: {}}\nseeds: [1]\n", "cannot be called 'figures'"),
        ("arms: {a: {seed: 3}}\nseeds: [1]\n", "arm a sets seed, which every unit gets by itself"),
        ("arms: {a: {run_dir: x}}\nseeds: [1]\n", "arm a sets run-dir"),
        ("arms: {a: {games: [pong]}}\nseeds: [1]\ngames: [pong]\n", "arm a sets games, but"),
        ("- a\n", "valid dictionary"),
        ("arms: [\n", "while parsing"),
    ],
)
def test_a_mistake_in_the_file_is_one_line(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=r"mine\.yaml: ") as raised:
        read_study(write(tmp_path, text))
    assert complaint in str(raised.value)
    assert "\n" not in str(raised.value)


def test_the_fingerprint_follows_the_text_of_a_preset(tmp_path: Path) -> None:
    preset = tmp_path / "own.yaml"
    study = Study(options={"preset": str(preset)}, arms={"a": {}}, seeds=[1])
    preset.write_text("games: [pong]\n")
    before = study.units()[0].fingerprint()
    assert study.units()[0].fingerprint() == before
    preset.write_text("games: [boxing]\n")
    assert study.units()[0].fingerprint() != before
