"""What a user gets wrong: one message that names it, and nothing written or overwritten."""

import hashlib
import importlib
import json
import shutil
import sys

import pytest
import torch
from runs import run_command, save_random_expert, teacher_options
from safetensors.numpy import save

from games.registry import get_game
from networks.network import MultitaskNetwork
from networks.snapshots import take_snapshot
from networks.weights import WeightsVersion


def contents(folder) -> dict[str, str]:
    """Everything below a folder but locks, with a digest of what is in it."""
    return {
        str(path.relative_to(folder)): (
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        )
        for path in folder.rglob("*")
        if path.name != ".lock"
    }


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys):
    """Runs what a command does, which must be refused; returns the message.

    That such an error is one line and status 2 of every command is tested where commands end.
    """
    monkeypatch.chdir(tmp_path)

    def run(script: str, *args) -> str:
        before = contents(tmp_path)
        main = importlib.import_module(f"launch.{script.removesuffix('.py')}").main
        with pytest.raises(ValueError, match=r".") as refusal:
            main([str(word) for word in args])
        assert contents(tmp_path) == before, "it has written or overwritten something"
        assert "ray" not in sys.modules or not sys.modules["ray"].is_initialized()
        message = str(refusal.value)
        assert capsys.readouterr() == ("", "")
        assert "\n" not in message
        return message

    return run


# Games


@pytest.mark.parametrize(
    ("games", "expected"),
    [
        (["nowhere:spec"], "'nowhere:spec' cannot be imported: No module named 'nowhere'"),
        (["gym:CartPole-v1"], "nature does not fit gym_cart_pole_v1, which shows numbers; use"),
        (["pong", "--network.torso", "mlp"], "mlp does not fit pong, which shows images; use"),
        (
            ["gym:CartPole-v1", "--network.torso", "mlp", "--network.heads", "per_game_dense"],
            "shares the convolutions alone, and mlp has none; use per_game",
        ),
        (["gym:FrozenLake-v1"], "shows int64 [], but torsos see uint8 images"),
        (["pong", "gym:ALE/Pong-v5"], "games names one twice: pong pong"),
        (["dmlab_no_such_level"], "DMLab-30 has no task 'dmlab_no_such_level'"),
        (["dmlab_rooms_watermaze"], "DMLab games need the engine deepmind_lab"),
        (["combat"], "'combat' is a game for two players"),
        (["breakout@mode=7"], "breakout has no mode 7"),
    ],
)
def test_a_game_that_cannot_be_played_is_refused_with_the_reason(refused, games, expected):
    assert expected in refused("multitask.py", "--objective", "dqn", "--games", *games)


def test_games_of_different_shapes_are_no_games_of_one_student(refused):
    pytest.importorskip("minatar")
    words = ("--objective", "dqn", "--network.torso", "nature", "--games", "pong")
    said = refused("multitask.py", *words, "minatar_breakout")
    assert said.startswith("pong and minatar_breakout do not fit into one batch: observation_shape")


# The command line


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--games", "pnog", "boxing"], "unknown game 'pnog'; did you mean 'pong'?"),
        (
            ["--replay.batchsize", "3"],
            "--replay.batchsize, 3; perhaps you meant --replay.batch-size",
        ),
        (["--replay.batch-size", "lots"], "Error parsing --replay.batch-size"),
        (["--replay.batch-size", "0"], "replay.batch_size must be at least 1, got 0"),
        (["--actors", "0"], "actors: '0' has a bad value (must be a whole number above 0, not 0)"),
        (
            ["--replay.num-shards", "3"],
            "replay.num_shards is 3, but the run's 2 actors feed only 2",
        ),
        (["--seed", "1", "stray"], "Unrecognized options: stray"),
    ],
)
def test_a_wrong_option_is_named(refused, smoke_options, words, expected):
    assert expected in refused("multitask.py", *smoke_options, *words)


def test_a_gpu_that_is_not_there_is_refused(refused, smoke_options):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    said = refused("multitask.py", *smoke_options, "--device", "cuda")
    assert "no GPU is visible; use --device auto or cpu" in said


# Replay that cannot work


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--replay.capacity-per-game", "1000000000"], "use --replay.capacity-per-game "),
        (["--replay.error-buffer", "1"], "raise error_buffer to at least"),
        (["--replay.capacity-per-game", "4", "--replay.min-size-per-game", "2"], "capacity"),
        (["--actor.chunk-steps", "5000"], "inserting 10000 transitions"),
    ],
)
def test_replay_that_cannot_work_is_refused_before_the_run_begins(
    refused, smoke_options, words, expected
):
    said = refused("multitask.py", *smoke_options, *words)
    assert expected in said


# Teachers


def test_a_teacher_that_does_not_exist_is_refused_by_its_path(refused, smoke_options, tmp_path):
    teachers = ["--teachers", "pong=nowhere/pong.safetensors"]
    said = refused("multitask.py", *smoke_options, *teachers)
    assert said == f"expert {tmp_path}/nowhere/pong.safetensors is missing"


def test_a_game_without_a_teacher_is_refused_with_what_to_do(refused, smoke_options):
    said = refused("multitask.py", *smoke_options[:-1], "--games", "pong", "zaxxon")
    assert "no expert is shipped for zaxxon" in said
    assert "--teachers zaxxon=" in said


def test_a_damaged_teacher_is_refused(refused, smoke_options, teachers, tmp_path):
    for suffix in (".safetensors", ".json"):
        shutil.copy(teachers / f"pong{suffix}", tmp_path)
    path = tmp_path / "pong.safetensors"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    said = refused("multitask.py", *smoke_options, "--teachers", f"pong={path}")
    assert f"{path} is damaged" in said
    assert "fetch both files again" in said


def test_a_teacher_with_another_number_of_actions_is_refused(refused, smoke_options, tmp_path):
    path = save_random_expert(tmp_path, "pong")
    network = MultitaskNetwork(
        torso="nature_quarter", observation_shape=get_game("pong").observation_shape, num_actions=6
    )
    data = save(take_snapshot(network, WeightsVersion(0, 0)).arrays)
    card = json.loads(path.with_suffix(".json").read_text())
    card["architecture"]["num_actions"] = 6
    card["sha256"] = hashlib.sha256(data).hexdigest()
    path.write_bytes(data)
    path.with_suffix(".json").write_text(json.dumps(card))
    said = refused("multitask.py", *smoke_options, "--teachers", f"pong={path}")
    assert "'architecture.num_actions' is 6, but 'pong' has 18 joint actions" in said


# Redis


def test_a_redis_that_does_not_answer_is_refused_without_showing_its_password(
    refused, smoke_options
):
    url = "redis://:opensesame@127.0.0.1:1/0"
    said = refused("multitask.py", *smoke_options, "--redis-url", url)
    assert "cannot reach Redis at redis://***@" in said
    assert "opensesame" not in said


# Resuming


@pytest.mark.parametrize("kind", ["missing", "not a run"])
def test_only_a_run_can_be_resumed(refused, tmp_path, kind):
    path = tmp_path / "it"
    if kind == "not a run":
        path.mkdir()
        (path / "notes.txt").write_text("x")
    said = refused("multitask.py", "--resume", "it")
    assert "it is not the folder of a run" in said or "there is no run in it" in said


def test_a_checkpoint_cut_short_is_refused_by_its_path(refused, begun):
    (path,) = begun.checkpoints.iterdir()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    said = refused("multitask.py", "--resume", begun.path)
    assert f"checkpoint {path} cannot be read" in said
    assert "delete it to go on from the one before" in said


def test_a_run_is_not_resumed_with_another_network(refused, begun):
    said = refused("multitask.py", "--resume", begun.path, "--network.torso", "nature")
    assert "--resume cannot change network" in said
    assert "start a new run" in said


# The other commands


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--games", "pnog", "--num-steps", "5"], "did you mean 'pong'?"),
        (["--games", "pong", "--num-steps", "5", "--replay.error-buffer", "1"], "error_buffer"),
        (["--resume", "nowhere"], "there is no run in nowhere"),
    ],
)
def test_the_training_of_experts_refuses_likewise(refused, words, expected):
    assert expected in refused("experts.py", *words)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["nowhere/pong.safetensors"], "expert nowhere/pong.safetensors is missing"),
        (["pong", "--episodes", "0"], "episodes must be at least 1, got 0"),
        (["."], "not the folder of a run"),
    ],
)
def test_evaluation_refuses_likewise(refused, words, expected):
    assert expected in refused("evaluate.py", *words)


@pytest.mark.slow
def test_what_is_refused_here_is_accepted_when_it_is_mended(teachers, smoke_options, tmp_path):
    """Else all of the above might be refused for some other reason."""
    finished = run_command(
        "multitask.py",
        *smoke_options,
        *("--engine", "local", "--num-steps", "1", "--replay.min-size-per-game", "16"),
        *("--games", "boxing", "--evaluation.num-episodes", "1", "--run-dir", "run"),
        *("--evaluation.check-teachers", "0"),
        *teacher_options(teachers, ["boxing"]),
        cwd=tmp_path,
    )
    assert finished.status == 0, finished.errors
    assert (tmp_path / "run" / "summary.json").is_file()
