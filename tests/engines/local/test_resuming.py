"""Runs of every objective that are cut and resumed, and what a resumed run reads and refuses."""

import shutil

import pytest
import signals
import torch
from runs import read_metrics, read_summary, save_random_expert

from launch.multitask import main
from learner.checkpoint import load_newest

GAMES = tuple(spec.name for spec in signals.GAMES)
FIRST = GAMES[0]


@pytest.fixture(autouse=True)
def one_thread():
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


@pytest.fixture
def teachers(tmp_path):
    """Of the first game alone, two; the other games learn from their rewards."""
    named = []
    for seed, name in enumerate(("a", "b")):
        (tmp_path / name).mkdir()
        named.append(
            f"{FIRST}={save_random_expert(tmp_path / name, FIRST, torso='minatar', seed=seed)}"
        )
    return named


@pytest.fixture
def common(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return [
        *(
            "--preset",
            "smoke",
            "--games",
            *GAMES,
            "--network.torso",
            "minatar",
            "--engine",
            "local",
        ),
        *("--num-steps", "320", "--report-period-s", "0.02", "--actor.chunk-steps", "8"),
        *("--replay.batch-size", "16", "--replay.min-size-per-game", "40", "--seed", "4"),
        *("--replay.capacity-per-game", "400", "--report-at-end", "False"),
        *("--evaluation.num-episodes", "1", "--evaluation.check-teachers", "0"),
    ]


LINEAR = ("--distillation.schedule", "linear", "--distillation.steps", "10000")


@pytest.mark.parametrize(
    ("words", "num_teachers"),
    [
        (["--objective", "dqn", "--network.heads", "per_game"], 0),
        (["--objective", "joint", *LINEAR], 1),
        (["--objective", "actor_critic", "--actor-critic.sequence-length", "4", *LINEAR], 2),
        (
            [
                *("--network.lstm-width", "8", "--objective", "actor_critic"),
                *("--actor-critic.sequence-length", "4", *LINEAR),
            ],
            1,
        ),
    ],
    ids=["dqn", "joint", "actor_critic", "lstm"],
)
def test_every_objective_goes_on_from_where_it_was(common, teachers, tmp_path, words, num_teachers):
    if num_teachers:
        words = [*words, "--teachers", *teachers[:num_teachers]]
    main([*common, *words, "--run-dir", "run"])
    before = load_newest(tmp_path / "run" / "checkpoints")["learner"]
    main(["--resume", "run", "--num-steps", "480"])
    after = load_newest(tmp_path / "run" / "checkpoints")["learner"]
    assert read_summary(tmp_path / "run")["updates"] == after["num_updates"]
    assert after["num_updates"] > before["num_updates"] > 0
    rows = read_metrics(tmp_path / "run")
    weights = [
        row[f"game/{FIRST}/distillation_weight"]
        for row in rows
        if f"game/{FIRST}/distillation_weight" in row
    ]
    if num_teachers:
        # Had the schedule begun anew, the weight would have risen again.
        assert weights == sorted(weights, reverse=True)
        assert weights[-1] < 1.0
    else:
        assert not weights
    second = [key for row in rows for key in row if key.endswith("distillation_weight_2")]
    assert bool(second) == (num_teachers == 2)


def test_a_schedule_cannot_change_on_the_way(common, teachers):
    words = ["--objective", "joint", "--teachers", teachers[0]]
    main([*common, *words, "--run-dir", "run"])
    for option, value in (("weight", "0.5"), ("schedule", "gap"), ("gated", "True")):
        with pytest.raises(
            ValueError, match=rf"--resume cannot change distillation\.{option}: the"
        ):
            main(["--resume", "run", "--num-steps", "480", f"--distillation.{option}", value])


def test_a_run_goes_on_without_the_weights_that_it_began_with(common, teachers, tmp_path):
    words = ["--objective", "dqn", "--games", FIRST]
    start = tmp_path / "start"
    shutil.copytree(tmp_path / "a", start)
    began = [*words, "--start-from", str(start / f"{FIRST}.safetensors")]
    main([*common, *began, "--run-dir", "run"])
    shutil.rmtree(start)
    main(["--resume", "run", "--num-steps", "480"])
    with pytest.raises(ValueError, match="start"):
        main([*common, *began, "--run-dir", "other"])


def test_a_point_that_has_been_passed_keeps_no_later_student(common, tmp_path):
    words = ["--objective", "dqn", "--run-dir", "run"]
    main([*common, *words, "--checkpoint.keep-at-steps", "100"])
    kept = tmp_path / "run" / "student_at"
    assert [path.name for path in kept.iterdir()] == ["100"]
    more = ["--checkpoint.keep-at-steps", "100", "200", "400"]
    main(["--resume", "run", "--num-steps", "640", *more])
    # 200 was passed before anybody asked for it.
    assert sorted(path.name for path in kept.iterdir()) == ["100", "400"]
