"""A student saved as another library's checkpoint teaches what the student plays."""

from pathlib import Path

import pytest
import torch
from foreign_models import TEMPERATURE
from student_teachers import write_student

from games.registry import get_game
from networks.build import build_network
from networks.config import NetworkConfig
from networks.network import MultitaskNetwork
from networks.snapshots import take_snapshot
from networks.student_file import save_student
from networks.weights import WeightsVersion
from teachers.expert import architecture_of
from teachers.formats import read_checkpoint


def saved_student(folder: Path, torso: str, games: tuple[str, ...]) -> MultitaskNetwork:
    torch.manual_seed(3)
    network = NetworkConfig(torso=torso)
    student = build_network(network, [get_game(game) for game in games])
    snapshot = take_snapshot(student, version=WeightsVersion(0, 1))
    save_student(folder, snapshot, network=network, games=games)
    return student


@pytest.mark.parametrize(
    ("torso", "format_", "head"),
    [
        ("nature_valid", "sb3", "policy"),
        ("nature_valid", "pfrl", "q"),
        ("nature_valid", "cleanrl_jax", "categorical"),
        ("impala", "cleanrl", "q"),
    ],
)
def test_the_teacher_has_the_students_logits(
    tmp_path: Path, torso: str, format_: str, head: str
) -> None:
    student = saved_student(tmp_path / "student", torso, ("breakout",))
    write_student(tmp_path / "student", format_, tmp_path / "file")
    imported = read_checkpoint(tmp_path / "file", game="breakout")
    assert imported.format == format_
    architecture = architecture_of(imported.network)
    assert (architecture.torso, architecture.head) == (torso, head)
    pictures = torch.randint(0, 256, (16, 4, 84, 84), dtype=torch.uint8)
    legal = list(get_game("breakout").legal_actions)
    with torch.no_grad():
        expected = student(pictures)[:, legal]
        found = imported.network(pictures)[:, legal]
    if head != "policy":
        found = found / TEMPERATURE
    assert expected.std(1).min() > 0.01
    # 51 atoms hold a mean less exactly.
    tolerance = 1e-2 if head == "categorical" else 1e-4
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    saved_student(tmp_path / "two", "nature_valid", ("pong", "breakout"))
    with pytest.raises(ValueError, match="plays pong, breakout"):
        write_student(tmp_path / "two", "sb3", tmp_path / "file")
    saved_student(tmp_path / "padded", "nature", ("pong",))
    with pytest.raises(ValueError, match="torso nature cannot be written as sb3"):
        write_student(tmp_path / "padded", "sb3", tmp_path / "file")
