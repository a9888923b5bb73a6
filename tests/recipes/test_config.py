"""Defaults, then the preset, then the command line; what is wrong is refused by name."""

import dataclasses
import typing
from pathlib import Path

import pytest
import yaml

from recipes.config import EvaluationConfig, RunConfig
from recipes.loading import dump_config, load_config, load_preset, preset_names
from recipes.recipe import Recipe

GOLDEN = Path(__file__).parents[1] / "launch" / "golden"
LEFT_OUT = {"preset", "run_dir", "resume", "redis_url"}
"""Where a run lies is not part of what it is, and a URL may hold a password."""

MINIMAL = ("--games", "pong", "boxing", "--num-steps", "1000")

GAMES_OF = {name: ("--games", "pong", "boxing") for name in ("experts", "transfer")}
"""Options that presets need which leave the games open."""


def load(*argv: str, preset: str = ""):
    return load_config(argv, preset_text=preset, prog="command.py")


def refusal(capsys, *argv: str, preset: str = "") -> str:
    """What was said, in one line, with nothing printed."""
    with pytest.raises(ValueError, match=r".") as refused:
        load(*argv, preset=preset)
    assert capsys.readouterr() == ("", "")
    said = str(refused.value)
    assert "\n" not in said
    return said


def leaves(config_class: type) -> dict[str, type]:
    """Dotted names of all options and their types."""
    found: dict[str, type] = {}
    hints = typing.get_type_hints(config_class)
    for field in dataclasses.fields(config_class):
        kind = hints[field.name]
        if dataclasses.is_dataclass(kind):
            found |= {f"{field.name}.{name}": value for name, value in leaves(kind).items()}
        else:
            found[field.name] = kind
    return found


def value_of(config, name: str):
    for part in name.split("."):
        config = getattr(config, part)
    return config


# Defaults, preset, command line


def test_a_preset_overrides_the_defaults_and_leaves_its_neighbours_alone():
    config = load(*MINIMAL, preset="replay: {batch_size: 7}\nseed: 5")
    assert (config.seed, config.replay.batch_size) == (5, 7)
    default = RunConfig(games=("pong", "boxing"), num_steps=1000)
    assert config.replay == dataclasses.replace(default.replay, batch_size=7)
    assert config.actor == default.actor


def test_the_command_line_overrides_the_preset_and_leaves_its_neighbours_alone():
    preset = "games: [pong]\nnum_steps: 5\nreplay: {batch_size: 7, capacity_per_game: 3000}"
    config = load("--replay.batch-size", "9", preset=preset)
    sizes = (config.replay.batch_size, config.replay.capacity_per_game, config.num_steps)
    assert sizes == (9, 3000, 5)


# Presets


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_loads(name):
    text = load_preset(name)
    config = load(*GAMES_OF.get(name, ()), preset=text)
    assert len(config.games) >= 2
    assert Recipe(config.for_games(config.games[0])).needs
    for key, value in yaml.safe_load(text).items():
        if not isinstance(value, dict):
            found = value_of(config, key)
            assert (list(found) if isinstance(found, tuple) else found) == value
            continue
        for inner, inner_value in value.items():
            assert value_of(config, f"{key}.{inner}") == inner_value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("games: [pong", "not valid YAML"),
        ("- pong", "must be a mapping"),
        ("pong", "must be a mapping"),
    ],
)
def test_a_preset_that_is_not_a_mapping_is_refused(capsys, text, message):
    said = refusal(capsys, *MINIMAL, preset=text)
    assert said.startswith("the preset")
    assert message in said


# The round trip


def other_values() -> list[str]:
    """A command line that gives every option another value than its default, if it may have one."""
    special = {
        "games": ["breakout", "pong"],
        "game_sources": ["gym:ALE/Boxing-v5"],
        "actors": ["2", "pong=3"],
        "teachers": ["pong=a/pong.safetensors"],
        "temperatures": ["pong=0.5"],
        "shares": ["breakout=2.5"],
        "quotas": ["breakout=3000"],
        "samples_per_insert_caps": ["pong=80.5"],
        "cluster_wait_s": ["30.5"],
        "network.torso": ["impala"],
        "network.dueling": ["False"],
        "checkpoint.keep_at_steps": ["5"],
        "network.heads": ["per_game"],
        "replay.batch_size_per_game": ["3"],
        "replay.samples_per_insert_cap": ["64.5"],
        "replay.min_size_per_game": ["1"],
        "replay.sampler": ["hierarchical"],
        # Only for another sampler.
        "replay.recent_size": ["4096"],
        "replay.recent_older_share": ["0.25"],
        # The local engine is one process: no other learners, no server.
        "engine": ["ray"],
        "learner.num_replicas": ["3"],
        "actor.inference": ["server"],
    }
    default = RunConfig(games=("pong",), num_steps=1)
    words: list[str] = []
    for name, kind in leaves(RunConfig).items():
        old = value_of(default, name)
        if typing.get_origin(kind) is typing.Literal:
            new = [next(choice for choice in typing.get_args(kind) if choice != old)]
        elif kind is bool:
            new = [str(not old)]
        elif kind is int:
            new = [str(old + 1)]
        elif kind is float:
            new = [str(old / 2 + 0.125)]
        else:
            new = ["x"]
        new = special.get(name, new)
        if name not in LEFT_OUT:
            words += [f"--{name.replace('_', '-')}", *new]
    return words


def test_a_dump_with_every_option_changed_is_a_preset_that_gives_the_same():
    config = load(*other_values())
    default = RunConfig(games=("pong",), num_steps=1)
    unchanged = {
        key for key in leaves(RunConfig) if value_of(config, key) == value_of(default, key)
    }
    of_another_sampler = {"replay.recent_size", "replay.recent_older_share"}
    assert unchanged == LEFT_OUT | {"network.dueling", "engine"} | of_another_sampler
    assert load(preset=dump_config(config)) == config


def test_the_quickstart_has_a_learning_curve_whose_tests_are_short():
    config = load(preset=load_preset("quickstart"))
    tests = config.evaluation
    on_the_way = (config.num_steps - 1) // tests.period_steps
    assert on_the_way == 5
    # As many episodes as the last test, which takes 8 % of the run (docs/quickstart.md).
    assert on_the_way * tests.episodes_meanwhile <= tests.num_episodes
    assert EvaluationConfig(num_episodes=20).episodes_meanwhile == 20


@pytest.mark.parametrize("preset", preset_names())
def test_every_preset_survives_being_dumped_and_loaded(preset):
    config = load(*GAMES_OF.get(preset, ()), preset=load_preset(preset))
    assert load(preset=dump_config(config)) == config


def test_a_dump_has_every_option_that_is_not_left_out():
    document = yaml.safe_load(dump_config(load(*MINIMAL)))

    def names(node, prefix=""):
        for key, value in node.items():
            if isinstance(value, dict):
                yield from names(value, f"{prefix}{key}.")
            else:
                yield f"{prefix}{key}"

    assert set(names(document)) == set(leaves(RunConfig)) - LEFT_OUT


def test_the_options_are_the_ones_that_files_of_users_may_contain():
    """A renamed or dropped option breaks presets and run folders: add to the golden file, and say
    in the change log what was taken out of it."""
    expected = (GOLDEN / "options.txt").read_text().split()
    assert sorted(leaves(RunConfig)) == expected


# Refusals

LSTM = ("--network.lstm-width", "8")


@pytest.mark.parametrize(
    ("preset", "said"),
    [
        ("seed: 3\nreplay: {batch_size: 8}\nreplay: {num_shards: 1}", "replay twice (line 3)"),
        ("replay:\n  batch_size: 8\n  batch_size: 9", "batch_size twice (line 3)"),
        ("seed: 3\n? [a, b]\n: 4", "line 2 has no name of a setting"),
    ],
)
def test_a_preset_of_which_a_part_would_be_lost_is_refused(capsys, preset, said):
    assert said in refusal(capsys, *MINIMAL, preset=preset)


def test_a_preset_that_is_no_utf_8_is_refused(tmp_path):
    (tmp_path / "own.yaml").write_bytes(b"games: [pong]  # \xe9\n")
    with pytest.raises(ValueError, match=r"own\.yaml cannot be read as UTF-8 text"):
        load_preset(str(tmp_path / "own.yaml"))


@pytest.mark.parametrize(
    ("preset", "name"),
    [
        ("batchsize: 3", "batchsize"),
        ("replay: {batchsize: 3}", "replay.batchsize"),
        ("replays: {batch_size: 3}", "replays"),
        ("dqn: {gama: 0.9}", "dqn.gama"),
    ],
)
def test_a_misspelled_key_in_a_preset_is_refused_by_its_name(capsys, preset, name):
    assert f"a preset cannot set {name}" in refusal(capsys, *MINIMAL, preset=preset)


@pytest.mark.parametrize("name", ["preset", "resume", "run_dir", "redis_url"])
def test_a_preset_cannot_say_where_a_run_lies(capsys, name):
    said = refusal(capsys, *MINIMAL, preset=f"{name}: somewhere")
    assert f"a preset cannot set {name}, which says where a run lies; use the option --" in said
    assert "did you mean" not in said


@pytest.mark.parametrize(
    ("preset", "name"),
    [
        ("replay: {batch_size: lots}", "--replay.batch-size"),
        ("replay: {batch_size: 1.5}", "--replay.batch-size"),
        ("replay: {batch_size: [1, 2]}", "2"),
        ("replay: {batch_size: true}", "--replay.batch-size"),
        ("learner: {learning_rate: fast}", "--learner.learning-rate"),
        ("engine: cloud", "--engine"),
        ("network: {dueling: maybe}", "--network.dueling"),
        ("replay: 3", "replay is a group of settings"),
        ("seed: {a: 1}", "seed is a single setting"),
        ("replay: {batch_size: 3.0e+2}", "--replay.batch-size"),
    ],
)
def test_a_wrong_type_in_a_preset_is_refused_by_its_name(capsys, preset, name):
    assert name in refusal(capsys, *MINIMAL, preset=preset)


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["--learner.num-replicas", "2"], "learner.num_replicas is 2"),
        (["--actor.inference", "server"], "actor.inference is server"),
    ],
)
def test_what_needs_more_than_one_process_is_refused_by_the_local_engine(capsys, words, name):
    assert load(*MINIMAL, *words).engine == "ray"
    said = refusal(capsys, *MINIMAL, *words, "--engine", "local")
    assert f"{name}, but the local engine has one process" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--replay.sampler", "hierarchical"], "replay.sampler hierarchical goes by a teacher's"),
        (["--objective", "mimic", "--network.dueling", "True"], "network.dueling separates"),
        (["--objective", "mimic", *LSTM], "objective mimic learns from single steps"),
        (["--objective", "dqn", *LSTM], "objective dqn learns from single steps"),
        (
            ["--objective", "joint", *LSTM],
            "use --objective actor_critic, or --network.lstm-width 0",
        ),
        (
            ["--objective", "actor_critic", *LSTM, "--actor.inference", "server"],
            "use --actor.inference actor",
        ),
        (["--objective", "mimic", "--mimic.divergence", "expected_entropy"], "needs rewards"),
        (["--objective", "joint", "--mimic.divergence", "expected_entropy"], "acts by Q-values"),
        (["--objective", "joint", "--mimic.feature-weight", "0.1"], "only with objective mimic"),
        (
            [
                *("--objective", "joint", "--distillation.weight", "0"),
                *("--replay.sampler", "hierarchical"),
            ],
            "learns without teachers",
        ),
        (["--objective", "actor_critic", "--network.dueling", "True"], "a critic of its own"),
        (["--objective", "actor_critic", "--actor.exploration", "ladder"], "draws actions"),
        (["--objective", "actor_critic", "--replay.batch-size", "40"], "use 32 or 48"),
    ],
)
def test_what_an_objective_has_no_use_for_is_refused(words, said):
    config = load("--games", "pong", "--num-steps", "9", "--objective", "dqn", *words)
    with pytest.raises(ValueError, match=said):
        _ = Recipe(config).needs


def test_objectives_with_rewards_need_no_teachers_at_all():
    words = ["--games", "enduro", "--num-steps", "9", "--objective"]
    for objective in ("joint", "actor_critic"):
        recipe = Recipe(load(*words, objective, "--distillation.weight", "0"))
        recipe.check_teachers()
        assert not recipe.needs.labels
    assert Recipe(load(*words, "dqn")).find_teacher("enduro") is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--quotas", "pong=1999"], "the quota of pong (1999) must not be below"),
        (["--samples-per-insert-caps", "pong=1.5"], "the samples-per-insert cap of pong (1.5) mu"),
        (["--quotas", "seaquest=9000"], "names a game that is not in this run"),
    ],
)
def test_settings_of_a_game_with_which_replay_could_stand_still_are_refused(capsys, words, said):
    assert said in refusal(capsys, *MINIMAL, *words)


FLOATS = [name for name, kind in leaves(RunConfig).items() if kind is float]


@pytest.mark.parametrize("name", FLOATS)
def test_no_number_may_be_endless_or_none_at_all(name):
    config = RunConfig(games=("pong",), num_steps=1)
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match=name.replace(".", r"\.")):
            changed(config, name, value)


def changed(config, name: str, value):
    """A copy with one option set."""
    part, _, rest = name.partition(".")
    inner = changed(getattr(config, part), rest, value) if rest else value
    return dataclasses.replace(config, **{part: inner})
