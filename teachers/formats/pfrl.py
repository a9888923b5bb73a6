"""PFRL: the zip files with a `model.pt` of its DQN (and a bare model.pt), as `agent.save` makes.

Network: pfrl.nn.LargeAtariCNN and a linear layer,
https://github.com/pfnet/pfrl/blob/master/examples/atari/reproduction/dqn/train_dqn.py
"""

from pathlib import PurePosixPath

from games.spec import GameSpec
from teachers.card import Preprocessing
from teachers.formats.bounded_files import ZipMembers
from teachers.formats.imported import ImportedTeacher, describe
from teachers.formats.parts import NetworkParts, build_teacher, refuse_others, take_layer
from teachers.formats.torch_files import tensors_of

_MODEL = "model.pt"
_LAYERS = ("0.layers.0", "0.layers.1", "0.layers.2", "0.output", "1")
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
    names = [name for name in members.names if PurePosixPath(name).name == _MODEL]
    return names[0] if len(names) == 1 else None


def is_pfrl(content: object) -> bool:
    """Whether what torch.load gave is the DQN of PFRL."""
    tensors = tensors_of(content)
    return tensors is not None and "0.layers.0.weight" in tensors


def read_pfrl(content: object, spec: GameSpec, *, source: str) -> ImportedTeacher:
    """A DQN.

    Args:
        content: what torch.load gave for model.pt.
        spec: the game.
        source: file name for messages.

    Raises:
        ValueError: another network, or one that does not fit the game.
    """
    tensors = tensors_of(content)
    if tensors is None:
        raise ValueError(f"{source} is not a state_dict")
    if any(name.startswith(("main_stream", "a_stream", "conv_layers")) for name in tensors):
        raise ValueError(
            f"{source} is PFRL's dueling network (Rainbow, or a dueling DQN), whose two streams "
            "have no last hidden layer in common; read is its DQN"
        )
    layers = [take_layer(tensors, name, source=source) for name in _LAYERS]
    refuse_others([name.rpartition(".")[0] for name in tensors], _LAYERS, source=source)
    parts = NetworkParts(torso="nature_valid", hidden=layers[:-1], head=layers[-1])
    return ImportedTeacher(
        network=build_teacher(parts, spec, source=source),
        card_fields=describe(
            spec,
            algorithm="DQN",
            protocol="pfrl",
            source_format="pfrl",
            origin="PFRL",
            trained_steps=None,
            preprocessing=_PREPROCESSING,
        ),
        format="pfrl",
    )
