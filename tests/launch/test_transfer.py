"""launch/transfer.py: a DQN on a new game from a student's weights, or from none."""

import pytest
import signals
from runs import read_summary, save_random_expert, teacher_options

from launch import multitask
from launch.transfer import main
from teachers.expert import load_expert

SOURCE, TARGET = (spec.name for spec in signals.GAMES)


@pytest.fixture
def common(small_run):
    return [*small_run, "--engine", "local"]


def test_a_new_game_is_learned_from_a_student_of_any_time_and_ends_with_an_expert(common, tmp_path):
    save_random_expert(tmp_path, SOURCE, torso="minatar")
    words = ["--preset", "smoke", "--games", SOURCE, *teacher_options(tmp_path, [SOURCE])]
    words += ["--checkpoint.keep-at-steps", "100", "1000000"]
    multitask.main([*words, *common, "--run-dir", "student"])
    words = ["--game", TARGET, "--start-head", "rescale", "--run-dir", "run", *common]
    main(["--from", "student", *words])
    summary = read_summary(tmp_path / "run")
    assert set(summary["games"]) == {TARGET}
    assert load_expert(tmp_path / "run" / f"{TARGET}.safetensors").card.score is not None
    (kept,) = (tmp_path / "student" / "student_at").iterdir()
    assert kept.name == "100"
    main(["--from", str(kept), "--game", TARGET, *common])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--game", TARGET], "name what the network begins with"),
        (["--from", "none", "--games", SOURCE, TARGET], "transfer.py trains on one game"),
        (["--from", "none", "--game", TARGET, "--objective", "joint"], "--from none has nothing"),
        (["--from", "nothing/here", "--game", TARGET], "nothing/here"),
    ],
)
def test_a_mistake_is_told_before_anything_is_written(common, tmp_path, words, said):
    with pytest.raises(ValueError, match=said):
        main([*words, *common, "--run-dir", "run"])
    assert not (tmp_path / "run").exists()


def test_a_run_is_taught_by_a_students_run_and_a_new_game_is_held_near_it(common, tmp_path):
    save_random_expert(tmp_path, SOURCE, torso="minatar")
    words = ["--preset", "smoke", "--games", SOURCE, *common]
    multitask.main([*words, *teacher_options(tmp_path, [SOURCE]), "--run-dir", "first"])
    multitask.main([*words, "--teachers", f"{SOURCE}=first", "--run-dir", "second"])
    assert read_summary(tmp_path / "second")["games"][SOURCE]["agreement"] is not None
    words = ["--from", f"{TARGET}=first", "--game", TARGET, "--start-head", "rescale", *common]
    main([*words, "--objective", "joint", "--run-dir", "third"])
    config = (tmp_path / "third" / "config.yaml").read_text()
    assert f"{TARGET}={tmp_path / 'first'}" in config
