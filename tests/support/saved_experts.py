"""Small experts in files of their own, for tests of loading and saving."""

import hashlib
import json
from pathlib import Path

import torch
from torch import Tensor

from networks.network import MultitaskNetwork
from teachers.card import ScoreRecord
from teachers.expert import save_expert

ATARI = (4, 84, 84)
SCORE = ScoreRecord(
    mean=20.0, std=1.0, max=21.0, episodes=10, protocol="classic", epsilon=0.05, precision="half"
)


def build_network(
    seed: int = 0, *, dueling: bool = False, num_actions: int = 18
) -> MultitaskNetwork:
    torch.manual_seed(seed)
    return MultitaskNetwork(
        torso="nature_quarter", observation_shape=ATARI, num_actions=num_actions, dueling=dueling
    )


def card_fields(game: str = "pong", **changes: object) -> dict[str, object]:
    fields: dict[str, object] = {
        "game": game,
        "algorithm": "double dqn",
        "protocol": "classic",
        "trained_steps": 1000,
        "scores": [SCORE],
        "origin": "made by a test",
        "licence": "MIT",
    }
    return {**fields, **changes}


def saved(folder: Path, game: str = "pong", **kwargs: bool) -> Path:
    path = folder / f"{game}.safetensors"
    save_expert(build_network(**kwargs), card_fields(game), path)
    return path


def edit_card(weights: Path, **changes: object) -> None:
    card = weights.with_suffix(".json")
    card.write_text(json.dumps({**json.loads(card.read_text()), **changes}))


def replace_weights(weights: Path, data: bytes) -> None:
    """New content with a card that vouches for it."""
    weights.write_bytes(data)
    edit_card(weights, sha256=hashlib.sha256(data).hexdigest())


def observations(batch: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (batch, *ATARI), dtype=torch.uint8, generator=generator)
