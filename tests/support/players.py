"""Networks and teachers for counting games: what they say of a state can be worked out by hand.

Shape suffixes:
    B  observations in the batch
    C, H, W  one observation
    A  joint action set
    F  features
"""

from __future__ import annotations

import counting
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from games.spec import GameSpec
from networks.network import MultitaskNetwork
from replay.columns import EntryShape
from replay.storage.ring import TableSpec
from teachers.card import TeacherCard
from teachers.expert import Expert, Labels, architecture_of

_FRAME_BYTES = int(np.prod(counting.FRAME_SHAPE))


class TagNetwork(nn.Module):
    """Scores that follow from the clock in the newest frame, plus a bias per action."""

    def __init__(self, factor: int = 7, modulus: int = 11) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(counting.NUM_ACTIONS))
        self._factor = factor
        self._modulus = modulus

    def forward(self, observations_BCHW: Tensor) -> Tensor:
        assert observations_BCHW.dtype == torch.uint8
        newest_BF = observations_BCHW.flatten(1)[:, -_FRAME_BYTES:].long()
        clock_B = newest_BF[:, 10] * 65_536 + newest_BF[:, 11] * 256 + newest_BF[:, 12]
        actions_A = torch.arange(counting.NUM_ACTIONS)
        scores_BA = (clock_B[:, None] * self._factor + 5 * actions_A) % self._modulus
        return scores_BA.float() + self.bias

    def scores(self, clock: int) -> NDArray[np.float32]:
        actions = np.arange(counting.NUM_ACTIONS)
        scores = (clock * self._factor + 5 * actions) % self._modulus
        return scores.astype(np.float32) + self.bias.detach().numpy()


class TagTeacher:
    """An Expert in all that actors and evaluators use, made of a TagNetwork.

    Its features are the bytes of the newest frame, its value is the clock.
    """

    num_features = _FRAME_BYTES

    def __init__(self, spec: GameSpec, network: TagNetwork | None = None) -> None:
        self.spec = spec
        self.network = network or TagNetwork(factor=3, modulus=13)
        self.legal_A = torch.from_numpy(spec.legal_mask())

    def label(self, observations_BCHW: Tensor) -> Labels:
        with torch.no_grad():
            q_BA = self.network(observations_BCHW)
        best_B = q_BA.masked_fill(~self.legal_A, -torch.inf).amax(1)
        logits_BA = (q_BA - best_B[:, None]).masked_fill(~self.legal_A, 0.0)
        features_BF = observations_BCHW.flatten(1)[:, -_FRAME_BYTES:].float()
        clock_B = features_BF[:, 10] * 65_536 + features_BF[:, 11] * 256 + features_BF[:, 12]
        return Labels(logits_BA, features_BF, clock_B)


def build_q_network(spec: GameSpec, seed: int = 0) -> MultitaskNetwork:
    torch.manual_seed(seed)
    return MultitaskNetwork(
        torso="minatar", observation_shape=spec.observation_shape, num_actions=spec.num_actions
    )


def build_expert(spec: GameSpec, network: MultitaskNetwork | None = None) -> Expert:
    network = network or build_q_network(spec, seed=100)
    card = TeacherCard(
        game=spec.name,
        algorithm="none",
        architecture=architecture_of(network),
        protocol="classic",
        trained_steps=0,
        scores=(),
        sha256="0" * 64,
        origin="made by a test",
        licence="MIT",
    )
    return Expert(spec, card, network)


def table_spec(
    spec: GameSpec,
    *,
    capacity: int = 1_000,
    num_teacher_actions: int = 0,
    num_teacher_features: int = 0,
    num_successors: int = 0,
) -> TableSpec:
    return TableSpec(
        game=spec.name,
        capacity=capacity,
        entry=EntryShape(
            frame_shape=spec.frame_shape,
            num_actions=spec.num_actions,
            num_teacher_actions=num_teacher_actions,
            num_teacher_features=num_teacher_features,
        ),
        num_stack=spec.num_stack,
        num_successors=num_successors,
    )
