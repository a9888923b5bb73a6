"""Saves a student for one game as another library would have saved it, to be a teacher in turn.

    python tests/support/student_teachers.py runs/breakout/student sb3 breakout.zip

Formats: `sb3` (a PPO policy), `pfrl` (DQN), `cleanrl_jax` (C51) for the torso `nature_valid`, and
`cleanrl` (QDagger) for the torso `impala`.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import foreign_layouts as layouts
import torch
from foreign_layouts import Layer, NatureLayers
from foreign_models import TEMPERATURE, as_categorical, as_policy
from reference_networks import impala_state

from games.registry import get_game
from networks.network import MultitaskNetwork
from networks.student_file import load_student


def write_student(folder: Path, format_: str, path: Path) -> None:
    """Write the student in `folder`, whose Q-values become TEMPERATURE times its logits.

    Their softmax at TEMPERATURE is the student's own policy.

    Raises:
        ValueError: a student for several games, or a torso or format that is not offered.
    """
    student = load_student(folder)
    if len(student.games) != 1:
        raise ValueError(f"{folder} plays {', '.join(student.games)}; give a student for one game")
    known = [name for torso, name in _WRITERS if torso == student.torso_name]
    if format_ not in known:
        raise ValueError(
            f"a student with torso {student.torso_name} cannot be written as {format_}; "
            f"it can as: {', '.join(known) or 'nothing'}"
        )
    _WRITERS[student.torso_name, format_](path, student)


def _head(student: MultitaskNetwork) -> Layer:
    legal = list(get_game(student.games[0]).legal_actions)
    return (
        student.head.weight.detach()[legal] * TEMPERATURE,
        student.head.bias.detach()[legal] * TEMPERATURE,
    )


def _nature(student: MultitaskNetwork) -> NatureLayers:
    modules = [*student.torso.convolutions, *student.torso.dense]
    hidden = tuple(
        (module.weight.detach().contiguous(), module.bias.detach())
        for module in modules
        if hasattr(module, "weight")
    )
    return NatureLayers(hidden=hidden, head=_head(student))


def _write_qdagger(path: Path, student: MultitaskNetwork) -> None:
    head = _head(student)
    tensors = [tensor.contiguous() for tensor in student.torso.state_dict().values()]
    # Both list the same layers in the same order.
    torch.save(dict(zip(impala_state(len(head[1])), [*tensors, *head], strict=True)), path)


_WRITERS: dict[tuple[str, str], Callable[[Path, MultitaskNetwork], None]] = {
    ("nature_valid", "sb3"): lambda path, student: layouts.write_sb3_of_2021(
        path, as_policy(_nature(student)), kind="ppo"
    ),
    ("nature_valid", "pfrl"): lambda path, student: layouts.write_pfrl(path, _nature(student)),
    ("nature_valid", "cleanrl_jax"): lambda path, student: layouts.write_cleanrl_jax_c51(
        path, as_categorical(_nature(student))
    ),
    ("impala", "cleanrl"): _write_qdagger,
}


if __name__ == "__main__":
    write_student(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
