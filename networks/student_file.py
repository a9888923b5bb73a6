"""A trained student on disk: safetensors beside a small JSON file that says how to build it.

    student/
        weights.safetensors   float32, without feature regressors
        config.json           architecture, games in order, version, temperatures

Reading one runs no code from it.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any

from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from games.registry import get_game
from games.spec import GameSpec
from networks.atomic_file import write_atomically
from networks.build import build_network
from networks.config import NetworkConfig, with_current_names
from networks.network import MultitaskNetwork
from networks.snapshots import copy_arrays
from networks.weights import WeightSnapshot

_WEIGHTS = "weights.safetensors"
_CONFIG = "config.json"
STUDENT_FILES = (_WEIGHTS, _CONFIG)
"""Names of the files that a student's folder has."""


def save_student(
    folder: Path,
    snapshot: WeightSnapshot,
    *,
    network: NetworkConfig,
    games: tuple[str, ...],
    temperatures: Mapping[str, float] = MappingProxyType({}),
) -> None:
    """Write the acting weights in `snapshot`, of a student for `games` in this order.

    softmax(scores / temperature) is its policy in a game; 1 for games without a temperature.
    """
    folder.mkdir(parents=True, exist_ok=True)
    document = {
        "format": 1,
        "network": asdict(network),
        "games": list(games),
        "updates": snapshot.version.updates,
        "temperatures": {game: temperatures.get(game, 1.0) for game in games},
    }
    write_atomically(folder / _WEIGHTS, save_safetensors(snapshot.arrays))
    write_atomically(folder / _CONFIG, (json.dumps(document, indent=2) + "\n").encode())


def load_student(folder: Path) -> MultitaskNetwork:
    """The student in `folder`, on the CPU; ValueError if there is none, or it is damaged."""
    config, weights = folder / _CONFIG, folder / _WEIGHTS
    for path in (config, weights):
        if not path.is_file():
            raise ValueError(f"{folder} holds no student: {path.name} is missing")
    try:
        document = json.loads(config.read_text())
        network = NetworkConfig(**with_current_names(document["network"]))
        games = tuple(document["games"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{config} does not describe a student ({error})") from error
    try:
        arrays = load_safetensors(weights.read_bytes())
        specs = [get_game(game) for game in games]
        student = build_network(
            network,
            specs,
            num_quantiles=_num_quantiles(arrays, network, specs),
            has_critic="critic.weight" in arrays,
        )
        copy_arrays(student, arrays)
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"{weights} does not hold this student's weights ({error})") from error
    return student


def load_temperatures(folder: Path) -> dict[str, float]:
    """The temperature of each game, by its name; 1 for students of earlier versions.

    Raises:
        ValueError: the file is damaged.
    """
    path = folder / _CONFIG
    try:
        document = json.loads(path.read_text())
        known = document.get("temperatures", {})
        temperatures = {str(game): float(known.get(game, 1.0)) for game in document["games"]}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} does not describe a student ({error})") from error
    if not all(0 < temperature < math.inf for temperature in temperatures.values()):
        raise ValueError(f"{path}: a temperature must be a positive number, not {temperatures}")
    return temperatures


def _num_quantiles(
    arrays: Mapping[str, NDArray[Any]], network: NetworkConfig, specs: Sequence[GameSpec]
) -> int:
    """Quantiles of every action that the head's rows make room for; 0 for means alone."""
    bias = arrays.get("advantage.bias" if network.dueling else "head.bias")
    if bias is None or not specs:
        return 0
    num_heads = 1 if network.heads == "joint" else len(specs)
    per_action = len(bias) // (num_heads * specs[0].num_actions)
    return per_action if per_action > 1 else 0
