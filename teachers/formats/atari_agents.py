"""floringogianu/atari-agents: gzip files of torch.save, of DQN, M-DQN and C51.

The folder names say what was trained (MDQN_modern/Pong/0/model_50000000.gz), the file name how
long, in agent steps; the file itself says neither.

Network and layout: https://github.com/floringogianu/atari-agents/blob/master/play.py
"""

import re
from pathlib import Path

from games.spec import GameSpec
from teachers.card import Preprocessing
from teachers.formats.imported import Found
from teachers.formats.parts import take_all
from teachers.formats.torch_files import tensors_of

_PREFIX = "_AtariNet__"
_NAMES = tuple(
    f"{_PREFIX}{name}" for name in ("features.0", "features.2", "features.4", "head.0", "head.2")
)


def is_atari_agents(content: object) -> bool:
    """Whether what torch.load gave is from atari-agents."""
    return isinstance(content, dict) and "estimator_state" in content


def read_atari_agents(content: object, spec: GameSpec, *, source: str) -> Found:
    """A DQN, M-DQN or C51, of what torch.load gave."""
    state = content.get("estimator_state") if isinstance(content, dict) else None
    tensors = tensors_of(state)
    if tensors is None:
        raise ValueError(f"{source} has no state_dict under 'estimator_state'")
    atoms = tensors.pop(f"{_PREFIX}support", None)
    path = Path(source)
    folders = " ".join(path.parts[:-1]).lower()
    is_told = "modern" in folders or "classic" in folders
    # C51 was trained by the classic protocol alone.
    is_classic = "modern" not in folders if is_told else atoms is not None
    is_munchausen = any(part.startswith("MDQN") for part in path.parts)
    steps = re.search(r"model_(\d{1,12})", path.name)
    return Found(
        parts=take_all(tensors, _NAMES, torso="nature_valid", atoms=atoms, source=source),
        algorithm="C51" if atoms is not None else "M-DQN" if is_munchausen else "DQN",
        protocol="atari_agents_classic" if is_classic else "atari_agents_modern",
        origin="https://github.com/floringogianu/atari-agents",
        trained_steps=int(steps[1]) if steps else None,
        preprocessing=Preprocessing(
            frames="gray, resize, maximum of the last two",
            stack_start="zeros",
            fire_on_reset=False,
            life_loss_ends_episode=is_classic,
            max_noops=30 if is_classic else 0,
            repeat_action_probability=0.0 if is_classic else 0.25,
        ),
        notes=None
        if is_told or atoms is not None
        else "The protocol is assumed: no folder name says it.",
    )
