"""floringogianu/atari-agents: gzip files of torch.save, of DQN, M-DQN and C51.

The folder names say what was trained (MDQN_modern/Pong/0/model_50000000.gz), the file name how
long, in agent steps; the file itself says neither.

Network and layout: https://github.com/floringogianu/atari-agents/blob/master/play.py
"""

import re
from pathlib import Path

from games.spec import GameSpec
from teachers.card import Preprocessing
from teachers.formats.imported import ImportedTeacher, describe
from teachers.formats.parts import NetworkParts, build_teacher, refuse_others, take_layer
from teachers.formats.torch_files import tensors_of

_PREFIX = "_AtariNet__"
_LAYERS = tuple(f"{_PREFIX}{name}" for name in ("features.0", "features.2", "features.4"))
_DENSE = tuple(f"{_PREFIX}{name}" for name in ("head.0", "head.2"))
_SUPPORT = f"{_PREFIX}support"
_FRAMES = "gray, resize, maximum of the last two"


def is_atari_agents(content: object) -> bool:
    """Whether what torch.load gave is from atari-agents."""
    return isinstance(content, dict) and "estimator_state" in content


def read_atari_agents(
    content: object, spec: GameSpec, *, path: Path, source: str
) -> ImportedTeacher:
    """A DQN, M-DQN or C51.

    Args:
        content: what torch.load gave.
        spec: the game.
        path: its folders may say the algorithm and the protocol, its name the steps.
        source: file name for messages.

    Raises:
        ValueError: another network, or one that does not fit the game.
    """
    state = content.get("estimator_state") if isinstance(content, dict) else None
    tensors = tensors_of(state)
    if tensors is None:
        raise ValueError(f"{source} has no state_dict under 'estimator_state'")
    support = tensors.pop(_SUPPORT, None)
    names = (*_LAYERS, *_DENSE)
    layers = [take_layer(tensors, name, source=source) for name in names]
    refuse_others([name.rpartition(".")[0] for name in tensors], names, source=source)
    parts = NetworkParts(torso="nature_valid", hidden=layers[:-1], head=layers[-1], atoms=support)
    steps = re.search(r"model_(\d{1,12})", path.name)
    is_classic, is_told = _is_classic(path, is_distributional=support is not None)
    return ImportedTeacher(
        network=build_teacher(parts, spec, source=source),
        card_fields=describe(
            spec,
            algorithm=_algorithm(path, is_distributional=support is not None),
            protocol="atari_agents_classic" if is_classic else "atari_agents_modern",
            source_format="atari_agents",
            origin="https://github.com/floringogianu/atari-agents",
            trained_steps=int(steps[1]) if steps else None,
            preprocessing=_preprocessing(is_classic=is_classic),
            notes=None if is_told else "The protocol is assumed: no folder name says it.",
        ),
        format="atari_agents",
    )


def _is_classic(path: Path, *, is_distributional: bool) -> tuple[bool, bool]:
    """Whether it was trained by the classic protocol, and whether a folder name says so."""
    folders = " ".join(path.parts[:-1]).lower()
    if "modern" in folders or "classic" in folders:
        return "modern" not in folders, True
    # C51 was trained by the classic protocol alone.
    return is_distributional, is_distributional


def _algorithm(path: Path, *, is_distributional: bool) -> str:
    if is_distributional:
        return "C51"
    return "M-DQN" if any(part.startswith("MDQN") for part in path.parts) else "DQN"


def _preprocessing(*, is_classic: bool) -> Preprocessing:
    return Preprocessing(
        frames=_FRAMES,
        stack_start="zeros",
        fire_on_reset=False,
        life_loss_ends_episode=is_classic,
        max_noops=30 if is_classic else 0,
        repeat_action_probability=0.0 if is_classic else 0.25,
    )
