"""The ablation of samplers: fixed states, units that are done once, honest intervals."""

import dataclasses
import itertools
import json
import math
import random
import signal
import statistics

import numpy as np
import pytest
import signals
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from runs import command, save_random_expert, wait_until

from benchmarks.samplers.figures import (
    charts,
    curves_csv,
    format_table,
    results,
    t_interval,
)
from benchmarks.samplers.samplers import (
    SamplerOptions,
    check_settings,
    missing_units,
    run_units,
)
from benchmarks.samplers.states import (
    HeldOutStates,
    compare,
    load_states,
    open_states,
    play_states,
)
from benchmarks.samplers.units import (
    ARMS,
    TrainingClock,
    UnitSettings,
    make_states,
    read_unit,
    run_unit,
    unit_path,
)
from games.registry import get_game
from launch.bench import main
from networks.masking import masked_argmax
from teachers.expert import load_expert
from teachers.targets import mimic_distance

GAMES = tuple(spec.name for spec in signals.GAMES)
GAME = GAMES[0]
PRESET = {
    "actor": {"num_envs": 2, "chunk_steps": 8},
    "replay": {
        "batch_size": 16,
        "capacity_per_game": 200,
        "min_size_per_game": 40,
        "samples_per_insert": 3.0,
        "samples_per_insert_cap": 6.0,
        "error_buffer": 100,
    },
    "network": {"torso": "minatar"},
    "evaluation": {"num_envs": 2},
}


@pytest.fixture(autouse=True)
def one_thread():
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


@pytest.fixture(scope="module")
def teachers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teachers")
    for seed, game in enumerate(GAMES):
        save_random_expert(folder, game, torso="minatar", seed=seed)
    return tuple(f"{game}={folder / game}.safetensors" for game in GAMES)


@pytest.fixture(name="settings")
def unit_settings(teachers):
    return UnitSettings(
        preset_text=yaml.safe_dump(PRESET),
        games=GAMES,
        teachers=teachers,
        num_updates=20,
        period_updates=8,
        num_episodes=3,
    )


@pytest.fixture
def folder(settings, tmp_path):
    """With held-out states."""
    open_states(tmp_path, lambda: make_states(settings, 50))
    return tmp_path


def expert_of(teachers, game):
    return load_expert(teachers[GAMES.index(game)].partition("=")[2])


# The held-out states


def test_held_out_states_are_made_once_and_stay_what_they_were(settings, tmp_path):
    made = open_states(tmp_path, lambda: make_states(settings, 50))
    again = open_states(tmp_path, lambda: pytest.fail("made twice"))
    assert list(made) == list(again) == list(GAMES)
    for game in GAMES:
        assert len(made[game].observations) == len(made[game].teacher_logits) == 50
        assert made[game].checksum == again[game].checksum
        np.testing.assert_array_equal(made[game].observations, again[game].observations)
    # A seed of their own: whoever makes them, they are the same.
    anew = make_states(settings, 50)
    assert [anew[game].checksum for game in GAMES] == [made[game].checksum for game in GAMES]


@settings(deadline=None)
@given(place=st.integers(0, 2 * 3 * 4 - 1), change=st.integers(1, 255), of_labels=st.booleans())
def test_the_checksum_sees_every_change(place, change, of_labels):
    observations = np.zeros((2, 3, 4), np.uint8)
    logits = np.zeros((2, 12), np.float32)
    before = HeldOutStates(GAME, observations.copy(), logits.copy()).checksum
    (logits if of_labels else observations).reshape(-1)[place] += change
    assert HeldOutStates(GAME, observations, logits).checksum != before


def test_other_states_under_the_same_name_are_refused(folder):
    states = load_states(folder)[GAME]
    observations = states.observations.copy()
    observations[7, 0, 2, 3] ^= 1
    path = folder / "held_out" / f"{GAME}.npz"
    np.savez_compressed(path, observations=observations, teacher_logits=states.teacher_logits)
    with pytest.raises(ValueError, match=f"{GAME}.npz is not the set .*begin in a new folder"):
        load_states(folder)
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(ValueError, match=f"{GAME}.npz cannot be read .*begin in a new folder"):
        load_states(folder)


class CountingEnvs(signals.SignalEnvs):
    """Keeps what was played and where a game was only restarted."""

    def __init__(self, spec):
        super().__init__(spec, num_envs=4, seed=1)
        self.observed, self.actions, self.restarted = [], [], []

    def step(self, actions):
        self.observed.append(self._observations.copy())
        self.actions.append(actions)
        step = super().step(actions)
        self.restarted.append(step.restarted)
        return step


class Always(torch.nn.Module):
    """Prefers one action, whatever it sees."""

    def __init__(self, action):
        super().__init__()
        self._action = action

    def forward(self, observations):
        scores = torch.zeros(len(observations), signals.NUM_ACTIONS)
        scores[:, self._action] = 1.0
        return scores


def test_teacher_and_student_play_half_of_the_states_each_and_each_state_counts_once(teachers):
    spec, teacher = get_game(GAME), expert_of(teachers, GAME)
    env = CountingEnvs(spec)
    states = play_states(env, teacher, Always(spec.legal_actions[1]), num_states=70, seed=2)
    # Every tenth step of every environment; steps that only restart a game show no state.
    kept = [(env.observed[step][~env.restarted[step]]) for step in range(9, len(env.observed), 10)]
    np.testing.assert_array_equal(states.observations, np.concatenate(kept)[:70])
    assert any(restarted.any() for restarted in env.restarted[9::10])
    labels = teacher.label(torch.from_numpy(states.observations)).logits_BA.numpy()
    np.testing.assert_allclose(states.teacher_logits, labels, atol=1e-6)
    # One action in ten is random, a third of those by chance the one that is preferred.
    played = np.stack(env.actions)
    assert 0.85 < (played[:, :2] == spec.legal_actions[1]).mean() < 0.99
    wanted = np.stack(
        [
            masked_argmax(teacher.label(torch.from_numpy(seen)).logits_BA, teacher.legal_A).numpy()
            for seen in env.observed
        ]
    )
    assert 0.85 < (played[:, 2:] == wanted[:, 2:]).mean() < 0.99


def test_comparing_is_the_mean_over_all_states_at_the_temperature_given(teachers):
    teacher = expert_of(teachers, GAME)
    spec = get_game(GAME)
    observations = signals.random_observations(spec, 611, np.random.default_rng(0))
    frames = torch.from_numpy(observations)
    logits = teacher.label(frames).logits_BA
    states = HeldOutStates(GAME, observations, logits.numpy())
    other = expert_of(teachers, GAMES[1]).network
    found = compare(other, states, temperature=0.3)
    with torch.no_grad():
        scores = other(frames)
    legal = torch.from_numpy(spec.legal_mask())
    kl = mimic_distance(scores, logits, legal, temperature=0.3, kind="kl")
    same = masked_argmax(scores, legal) == masked_argmax(logits, legal)
    assert found.kl == pytest.approx(float(kl.mean()), rel=1e-5)
    assert found.agreement == pytest.approx(float(same.float().mean()))
    assert 0.0 < found.agreement < 1.0
    alike = compare(teacher.network, states, temperature=1.0)
    assert alike.agreement == 1.0
    assert alike.kl == pytest.approx(0.0, abs=1e-6)


# Units


def test_a_unit_writes_every_measurement_and_a_last_line(settings, folder):
    run_unit(settings, folder, "hierarchical", 5)
    records = read_unit(unit_path(folder, "hierarchical", 5))
    curve = [record for record in records if record["kind"] == "curve"]
    assert [(r["updates"], r["game"]) for r in curve] == list(
        itertools.product((0, 8, 16, 20), GAMES)
    )
    assert all((r["arm"], r["seed"]) == ("hierarchical", 5) for r in records)
    for name in ("cpu_s", "wall_s"):
        times = [record[name] for record in curve]
        assert times[0] == 0.0
        assert times == sorted(times)
        assert times[-1] > 0.0
    assert len({record["kl"] for record in curve}) > 4
    scores = [record for record in records if record["kind"] == "score"]
    assert [(r["game"], len(r["returns"])) for r in scores] == [(game, 3) for game in GAMES]


def test_equal_seeds_begin_alike_in_every_arm_and_learn_differently(settings, folder):
    def curve(arm, seed):
        run_unit(settings, folder, arm, seed)
        records = read_unit(unit_path(folder, arm, seed))
        return [record["kl"] for record in records if record["kind"] == "curve"]

    uniform, proportional = curve("uniform", 1), curve("proportional", 1)
    assert curve("uniform", 1) == uniform
    assert proportional[:2] == uniform[:2]
    assert proportional[-2:] != uniform[-2:]
    assert curve("uniform", 2)[:2] != uniform[:2]


def test_arms_differ_in_what_they_are_named_for_only(settings):
    configs = {arm: settings.recipe(arm, 1).config for arm in ARMS}
    chosen = {
        arm: (config.replay.sampler, config.mimic.importance_exponent)
        for arm, config in configs.items()
    }
    assert chosen == {
        "uniform": ("uniform", 0.0),
        "proportional": ("proportional", 0.0),
        "proportional_weighted": ("proportional", 1.0),
        "hierarchical": ("hierarchical", 1.0),
        "rank": ("rank", 0.0),
    }
    for config in configs.values():
        assert config.num_updates == 20
        alike = dataclasses.replace(
            config,
            replay=dataclasses.replace(config.replay, sampler="proportional"),
            mimic=dataclasses.replace(config.mimic, importance_exponent=0.0),
        )
        assert alike == configs["proportional"]


@pytest.mark.parametrize(
    ("num_updates", "batch_size", "samples_per_insert"),
    [(1, 128, 4.0), (3_000, 128, 4.0), (777, 33, 2.5), (20, 16, 3.0)],
)
def test_every_student_makes_exactly_the_updates_asked_for(
    num_updates, batch_size, samples_per_insert
):
    replay = {
        "batch_size": batch_size,
        "samples_per_insert": samples_per_insert,
        "samples_per_insert_cap": 8.0,
    }
    settings = UnitSettings(
        preset_text=yaml.safe_dump({"replay": replay}),
        games=GAMES,
        teachers=(),
        num_updates=num_updates,
        period_updates=7,
        num_episodes=1,
    )
    assert settings.recipe("uniform", 1).config.num_updates == num_updates
    assert settings.measured_at[0] == 0
    assert settings.measured_at[-1] == num_updates
    assert len(set(settings.measured_at)) == len(settings.measured_at)


def test_only_training_is_on_the_clock():
    now = {"cpu": 5.0, "wall": 100.0}

    def work():
        now["cpu"] += 2.0
        now["wall"] += 3.0

    clock = TrainingClock(cpu=lambda: now["cpu"], wall=lambda: now["wall"])
    clock.time(work)
    now["cpu"], now["wall"] = 50.0, 900.0
    clock.time(work)
    assert (clock.cpu_s, clock.wall_s) == (4.0, 6.0)


# Going on after an interruption


def write_unit(folder, arm, seed, lines):
    path = unit_path(folder, arm, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(lines))


COMPLETE = '{"kind": "complete"}\n'


@pytest.mark.parametrize(
    ("lines", "is_complete"),
    [
        (['{"kind": "score"}\n', COMPLETE], True),
        (['{"kind": "score"}\n'], False),
        (['{"kind": "score"}\n', COMPLETE[:10]], False),
        ([], False),
    ],
)
def test_a_unit_is_done_only_with_its_last_line(tmp_path, lines, is_complete):
    write_unit(tmp_path, "uniform", 1, lines)
    assert read_unit(unit_path(tmp_path, "uniform", 1)) == (
        [{"kind": "score"}] if is_complete else None
    )


def test_what_is_complete_is_not_done_again(tmp_path):
    options = SamplerOptions(output=tmp_path, arms=("uniform", "rank"), seeds=(1, 2))
    every = [("uniform", 1), ("rank", 1), ("uniform", 2), ("rank", 2)]
    assert missing_units(options) == every
    write_unit(tmp_path, "rank", 1, [COMPLETE])
    write_unit(tmp_path, "uniform", 2, ['{"kind": "curve"}\n'])
    assert missing_units(options) == [("uniform", 1), ("uniform", 2), ("rank", 2)]
    more = dataclasses.replace(options, arms=("rank",), seeds=(1, 3))
    assert missing_units(more) == [("rank", 3)]


def test_another_ablation_in_the_same_folder_is_refused(settings, tmp_path):
    check_settings(tmp_path, settings, 50)
    check_settings(tmp_path, settings, 50)
    for name, changed in (
        ("num_states", (settings, 51)),
        ("num_updates", (dataclasses.replace(settings, num_updates=21), 50)),
        ("games", (dataclasses.replace(settings, games=GAMES[:1]), 50)),
    ):
        with pytest.raises(ValueError, match=f"with another {name}; give the same, or another"):
            check_settings(tmp_path, *changed)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--arms", "uniform", "greedy"], "unknown arm 'greedy'; choose among uniform"),
        (["--seeds", "1", "1"], "--seeds must name at least one, and none twice"),
        (["--seeds", "7001"], "seed 7001 is that of the held-out states"),
        (["--num-workers", "0"], "num_workers must be at least 1"),
        (["--games", "pnog"], "pnog"),
        (["--preset", "nothing"], "unknown preset"),
    ],
)
def test_mistakes_are_named_before_anything_is_written(tmp_path, capsys, words, message):
    with pytest.raises((SystemExit, ValueError)) as caught:
        main(["samplers", "--output", str(tmp_path / "new"), *words])
    told = str(caught.value) + capsys.readouterr().err
    assert message in " ".join(told.replace("\u2502", " ").split())
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_a_unit_that_fails_ends_the_ablation(settings, tmp_path, capfd):
    settings = dataclasses.replace(settings, games=("pong",), teachers=())
    # Without held-out states.
    with pytest.raises(RuntimeError, match="uniform, seed 1 ended with 1"):
        run_units(settings, tmp_path, [("uniform", 1), ("rank", 1)], num_workers=1)
    assert not unit_path(tmp_path, "rank", 1).exists()
    assert "FileNotFoundError" in capfd.readouterr().err


# Figures


def test_an_interval_by_hand():
    found = t_interval([1.0, 2.0, 6.0])
    half = 4.303 * math.sqrt(7.0) / math.sqrt(3)
    assert found.value == 3.0
    assert (found.low, found.high) == pytest.approx((3.0 - half, 3.0 + half))
    assert found.runs == 3
    alone = t_interval([4.0])
    assert (alone.value, alone.low, alone.high) == (4.0, None, None)


@pytest.mark.parametrize("num_seeds", [2, 3, 5, 12, 21])
def test_intervals_contain_the_truth_19_times_in_20(num_seeds):
    """A wrong quantile for this number of seeds would show: +- 0.007 is three standard errors."""
    rng = random.Random(num_seeds)
    num_trials, hits = 9_000, 0
    for _ in range(num_trials):
        found = t_interval([rng.gauss(10.0, 3.0) for _ in range(num_seeds)])
        hits += found.low < 10.0 < found.high
    assert hits / num_trials == pytest.approx(0.95, abs=0.007)


def unit_records(arm, seed, *, kl, returns):
    curve = {"kind": "curve", "arm": arm, "seed": seed, "game": GAME}
    return [
        {**curve, "updates": 0, "cpu_s": 0.0, "wall_s": 0.0, "kl": 9.0, "agreement": 0.1},
        {**curve, "updates": 5, "cpu_s": 4.0 * seed, "wall_s": 6.0, "kl": kl, "agreement": 0.5},
        {**curve, "updates": 9, "cpu_s": 8.0, "wall_s": 9.0, "kl": kl / 2, "agreement": 0.6},
        {"kind": "score", "arm": arm, "seed": seed, "game": GAME, "returns": returns},
    ]


def example_records():
    return [
        *unit_records("uniform", 1, kl=4.0, returns=[1.0, 3.0]),
        *unit_records("uniform", 2, kl=2.0, returns=[5.0, 7.0]),
        *unit_records("proportional", 2, kl=1.0, returns=[4.0]),
        *unit_records("proportional", 1, kl=2.0, returns=[2.0]),
    ]


def test_results_are_those_after_the_last_update_and_differences_pair_the_seeds():
    uniform, proportional = results(example_records(), ("uniform", "proportional"), (GAME,))
    assert uniform.kl.value == 1.5
    assert uniform.score.value == statistics.fmean([2.0, 6.0])
    assert uniform.agreement.value == 0.6
    # 2 - 1 of seed 1 and 1 - 0.5 of seed 2.
    assert uniform.kl_difference == t_interval([1.0, 0.5])
    assert uniform.score_difference == t_interval([0.0, 2.0])
    assert proportional.kl_difference is None


def test_curves_are_means_over_seeds_without_the_untrained_student():
    panels = charts(example_records(), ("uniform", "proportional"), (GAME,))
    assert len(panels) == 2 * 3
    kl_over_cpu = next(panel for panel in panels if panel.name == f"{GAME}_kl_cpu_s")
    uniform = kl_over_cpu.curves[0]
    assert uniform.x == (6.0, 8.0)
    assert uniform.y == (3.0, 1.5)
    assert uniform.low == (2.0, 1.0)
    assert uniform.high == (4.0, 2.0)


def test_the_table_shows_intervals_and_differences():
    table = format_table(results(example_records(), ("uniform", "proportional"), (GAME,)))
    low, high = (1.5 + sign * 12.706 * 0.5 for sign in (-1, 1))
    assert f"| {GAME} | uniform | 1.500 [{low:.3f}, {high:.3f}] | 0.600" in table
    assert f"| {GAME} | uniform | 0.750 [" in table.partition("minus proportional")[2]
    assert f"| {GAME} | proportional |" not in table.partition("minus proportional")[2]


def test_every_measurement_is_in_the_csv():
    lines = curves_csv(example_records()).splitlines()
    assert lines[0] == "arm,seed,game,updates,cpu_s,wall_s,kl,agreement"
    assert len(lines) == 1 + 4 * 3
    assert f"proportional,2,{GAME},9,8.0,9.0,0.5,0.6" in lines


# For real


TINY = (
    *("--preset", "smoke", "--games", "pong", "--num-updates", "12", "--period-updates", "6"),
    *("--num-states", "40", "--num-episodes", "1", "--arms", "uniform", "proportional"),
    *("--seeds", "1"),
)


@pytest.mark.slow
def test_an_ablation_that_is_interrupted_goes_on_where_it_was(tmp_path):
    output = tmp_path / "ablation"
    first, second = (unit_path(output, arm, 1) for arm in ("uniform", "proportional"))
    words = ("samplers", "--output", output, *TINY)
    with command("bench.py", *words, cwd=tmp_path) as running:
        running.wait_for(second.exists, timeout_s=240.0, what="the second unit begins")
        running.process.send_signal(signal.SIGTERM)
        assert running.wait(60.0).status == 130
        wait_until(lambda: not running.pids, timeout_s=30.0, what="no process is left")
    assert read_unit(first) is not None
    assert read_unit(second) is None
    done = first.read_bytes(), first.stat().st_mtime_ns
    checksums = (output / "held_out" / "index.json").read_bytes()
    with command("bench.py", *words, cwd=tmp_path) as running:
        ended = running.wait(240.0)
    assert ended.status == 0, ended.errors
    assert (first.read_bytes(), first.stat().st_mtime_ns) == done
    assert (output / "held_out" / "index.json").read_bytes() == checksums
    assert "uniform, seed 1: begins" not in ended.output
    report = json.loads(ended.output.splitlines()[-1])
    assert [(row["arm"], row["game"]) for row in report["results"]] == [
        ("uniform", "pong"),
        ("proportional", "pong"),
    ]
    assert all(-21.0 <= row["score"]["value"] <= 21.0 for row in report["results"])
    assert len((output / "curves.csv").read_text().splitlines()) == 1 + 2 * 3
    assert json.loads((output / "results.json").read_text()) == report
    pytest.importorskip("matplotlib")
    assert (output / "samplers.png").read_bytes().startswith(b"\x89PNG")
