"""launch/transfer.py: a DQN on a new game from a student's weights, or from none."""

import pytest
import signals
import torch
from runs import read_summary, save_random_expert, teacher_options

from launch import multitask
from launch.transfer import main
from teachers.expert import load_expert

SOURCE, TARGET = (spec.name for spec in signals.GAMES)


@pytest.fixture(autouse=True)
def one_thread():
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


@pytest.fixture
def common(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return [
        *("--network.torso", "minatar", "--num-steps", "200", "--report-period-s", "0.05"),
        *("--actor.num-envs", "2", "--actor.chunk-steps", "8", "--engine", "local"),
        *("--replay.batch-size", "16", "--replay.min-size-per-game", "40"),
        *("--replay.capacity-per-game", "400", "--report-at-end", "False"),
        *("--evaluation.num-episodes", "2", "--evaluation.num-envs", "2"),
    ]


@pytest.fixture
def student(common, tmp_path):
    save_random_expert(tmp_path, SOURCE, torso="minatar")
    words = ["--preset", "smoke", "--games", SOURCE, *teacher_options(tmp_path, [SOURCE])]
    words += ["--checkpoint.keep-at-steps", "100", "1000000"]
    multitask.main([*words, *common, "--run-dir", "student"])
    return tmp_path / "student"


def test_a_new_game_is_learned_from_a_student_and_ends_with_an_expert(common, student, tmp_path):
    words = ["--game", TARGET, "--start-head", "rescale", "--run-dir", "run", *common]
    main(["--from", str(student), *words])
    summary = read_summary(tmp_path / "run")
    assert set(summary["games"]) == {TARGET}
    assert load_expert(tmp_path / "run" / f"{TARGET}.safetensors").card.score is not None


def test_the_students_of_set_points_are_kept_and_can_be_begun_with(common, student, tmp_path):
    assert [path.name for path in (student / "student_at").iterdir()] == ["100"]
    main([f"--from={student / 'student_at' / '100'}", f"--game={TARGET}", *common])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--game", TARGET], "name what the network begins with"),
        (["--from", "none", "--games", SOURCE, TARGET], "transfer.py trains on one game"),
        (["--from", "nothing/here", "--game", TARGET], "nothing/here"),
    ],
)
def test_a_mistake_is_told_before_anything_is_written(common, tmp_path, words, said):
    with pytest.raises(ValueError, match=said):
        main([*words, *common, "--run-dir", "run"])
    assert not (tmp_path / "run").exists()
