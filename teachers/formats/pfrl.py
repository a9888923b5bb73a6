"""PFRL: the zip files with a `model.pt` of its DQN (and a bare model.pt), as `agent.save` makes.

Network: pfrl.nn.LargeAtariCNN and a linear layer,
https://github.com/pfnet/pfrl/blob/master/examples/atari/reproduction/dqn/train_dqn.py
"""

from pathlib import PurePosixPath

from games.spec import GameSpec
from teachers.card import Preprocessing
from teachers.formats.bounded_files import ZipMembers
from teachers.formats.imported import Found
from teachers.formats.parts import take_all
from teachers.formats.torch_files import tensors_of

_NAMES = ("0.layers.0", "0.layers.1", "0.layers.2", "0.output", "1")
_PREPROCESSING = Preprocessing(
    frames="maximum of the last two, gray, resize (area)",
    stack_start="first_frame",
    fire_on_reset=False,
    life_loss_ends_episode=True,
    max_noops=30,
    repeat_action_probability=0.0,
)


def find_model(members: ZipMembers) -> str | None:
    """The member that holds the network, in whatever folder; None if there is none, or several."""
    names = [name for name in members.names if PurePosixPath(name).name == "model.pt"]
    return names[0] if len(names) == 1 else None


def is_pfrl(content: object) -> bool:
    """Whether what torch.load gave is the DQN of PFRL."""
    tensors = tensors_of(content)
    return tensors is not None and "0.layers.0.weight" in tensors


def read_pfrl(content: object, spec: GameSpec, *, source: str) -> Found:
    """A DQN, of what torch.load gave for model.pt."""
    tensors = tensors_of(content)
    if tensors is None:
        raise ValueError(f"{source} is not a state_dict")
    if any(name.startswith(("main_stream", "a_stream", "conv_layers")) for name in tensors):
        raise ValueError(
            f"{source} is PFRL's dueling network (Rainbow, or a dueling DQN), whose two streams "
            "have no last hidden layer in common; read is its DQN"
        )
    return Found(
        parts=take_all(tensors, _NAMES, torso="nature_valid", source=source),
        algorithm="DQN",
        protocol="pfrl",
        origin="PFRL",
        preprocessing=_PREPROCESSING,
    )
