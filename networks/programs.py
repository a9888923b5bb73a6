"""Writes a student in formats that need nothing of this project to run, and checks each of them.

PyTorch's program (.pt2, from torch.export) needs PyTorch, ONNX needs onnxruntime. Both take uint8
observations and the game's position in the student's list, and give logits in which illegal actions
are -inf, so that nobody can forget the mask. TorchScript is left out on purpose: PyTorch calls it
deprecated and torch.export its successor.

Shape suffixes:
    B  observations in the batch
    C, H, W  channels, height and width of one observation
    G  games
    A  joint action set
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from games.env import get_protocol
from games.registry import get_game, make_vector_env
from networks.masking import legal_matrix
from networks.network import MultitaskNetwork
from networks.quiet_logs import errors_only

ProgramFormat: TypeAlias = Literal["torch-export", "onnx"]

FILE_NAMES: dict[ProgramFormat, str] = {"torch-export": "student.pt2", "onnx": "student.onnx"}
# Largest difference of a logit between an exported program and the student; of Q-values that are
# larger than 1, as a share of the largest.
TOLERANCE = 1e-5
_ADVICE = "pip install -c constraints.txt -e '.[export]'"


class MaskedPolicy(nn.Module):
    """A student that leaves illegal actions out by itself."""

    legal_GA: Tensor

    def __init__(self, student: MultitaskNetwork) -> None:
        """Take the student over."""
        super().__init__()
        if student.memory is not None:
            raise ValueError(
                "a student with an LSTM is no program of one observation; export it as safetensors"
            )
        self.student = student
        legal_GA = legal_matrix([get_game(game) for game in student.games])
        self.register_buffer("legal_GA", legal_GA, persistent=False)

    def forward(self, observations_BCHW: Tensor, game_index_B: Tensor) -> Tensor:
        """logits_BA, -inf where an action is illegal."""
        logits_BA: Tensor = self.student(observations_BCHW, game_index_B)
        return logits_BA.masked_fill(~self.legal_GA[game_index_B], -torch.inf)


def check_can_write(formats: Sequence[str]) -> None:
    """Raises ValueError where a format needs a package that is not installed."""
    if "onnx" not in formats:
        return
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise ValueError(f"ONNX needs the package {error.name}: {_ADVICE}") from None


def write_program(
    policy: MaskedPolicy, kind: ProgramFormat, path: Path, example: tuple[Tensor, Tensor]
) -> None:
    """Write the policy as a program for batches of any size.

    Args:
        policy: on the CPU.
        kind: of the program.
        path: of the file.
        example: observations_BCHW and game_index_B, with at least two rows: PyTorch would take a
            size of 1 for a constant.
    """
    batch = torch.export.Dim("batch", min=1, max=1 << 20)
    shapes = {"observations_BCHW": {0: batch}, "game_index_B": {0: batch}}
    with _without_chatter():
        program = torch.export.export(policy, example, dynamic_shapes=shapes)
        if kind == "torch-export":
            torch.export.save(program, path)
            return
        torch.onnx.export(
            program,
            (),
            path,
            input_names=["observations", "game_index"],
            output_names=["logits"],
            dynamo=True,
            external_data=False,
            verbose=False,
        )


@contextlib.contextmanager
def _without_chatter() -> Iterator[None]:
    """PyTorch's exporter warns of its own deprecated calls, and of torchvision's absence."""
    with errors_only("torch.onnx"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def largest_difference(
    policy: MaskedPolicy, kind: ProgramFormat, path: Path, states: tuple[Tensor, Tensor]
) -> float:
    """Between the logits of the program in a file and the student's own.

    Raises:
        ValueError: it is above the tolerance, or the program allows other actions.
    """
    with torch.inference_mode():
        expected_BA = policy(*states).numpy()
    found_BA = _run(kind, path, states)
    legal_BA = np.isfinite(expected_BA)
    if not np.array_equal(legal_BA, np.isfinite(found_BA)):
        raise ValueError(f"{path.name} allows other actions than the student; it is not usable")
    difference = float(np.abs(found_BA[legal_BA] - expected_BA[legal_BA]).max())
    tolerance = TOLERANCE * max(1.0, float(np.abs(expected_BA[legal_BA]).max()))
    if not difference <= tolerance:
        raise ValueError(
            f"{path.name} differs from the student by {difference:.1e}, more than {tolerance:.0e}"
        )
    return difference


def _run(kind: ProgramFormat, path: Path, states: tuple[Tensor, Tensor]) -> NDArray[np.float32]:
    if kind == "torch-export":
        with _without_chatter(), torch.inference_mode():
            logits: NDArray[np.float32] = torch.export.load(path).module()(*states).numpy()
        return logits
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    inputs = {"observations": states[0].numpy(), "game_index": states[1].numpy()}
    found: NDArray[np.float32] = session.run(["logits"], inputs)[0]
    return found


def collect_states(
    games: Sequence[str], *, protocol: str, per_game: int, seed: int
) -> tuple[Tensor, Tensor]:
    """States of real games under random play, two steps apart: observations_BCHW, game_index_B."""
    rng = np.random.default_rng(seed)
    observations, indices = [], []
    for index, game in enumerate(games):
        spec = get_game(game)
        env = make_vector_env(spec, num_envs=1, protocol=get_protocol(protocol), seed=seed)
        try:
            newest = env.reset()
            for _ in range(per_game):
                observations.append(newest)
                indices.append(index)
                for _ in range(3):
                    newest = env.step(rng.choice(spec.legal_actions, size=1)).observations
        finally:
            env.close()
    return torch.from_numpy(np.concatenate(observations)), torch.tensor(indices)
