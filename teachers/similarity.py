"""How alike two teachers see the same states: CKA of their last hidden layers.

A guess at which sources help a new game, cheaper than training from each of them; that such a guess
is right is not shown anywhere (docs/transfer.md).

Shape suffixes:
    N  states
    C, H, W  channels, height and width of one observation
    F, G  features of two networks
"""

from __future__ import annotations

from contextlib import closing

import numpy as np
import torch
from torch import Tensor

from games.registry import make_vector_env
from networks.masking import masked_argmax
from teachers.expert import Expert

_NUM_ENVS = 8
# Share of random actions, so that states off the teacher's way are among them.
_EPSILON = 0.1
# Steps between two states that are kept: neighbours are nearly the same picture.
_PERIOD = 4
# The estimator divides by N - 3.
MIN_STATES = 4
_BATCH = 256


def play_states(teacher: Expert, num_states: int, *, seed: int) -> Tensor:
    """Observations [N, ...] of the game as its teacher plays it, N rounded up to eights."""
    spec = teacher.spec
    random = np.random.default_rng(seed)
    seen = []
    with closing(make_vector_env(spec, num_envs=_NUM_ENVS, protocol="classic", seed=seed)) as env:
        observations = env.reset()
        for step in range(_PERIOD * -(-num_states // _NUM_ENVS)):
            frames = torch.from_numpy(observations)
            if step % _PERIOD == _PERIOD - 1:
                seen.append(frames)
            best = masked_argmax(teacher.label(frames).logits_BA, teacher.legal_A).numpy()
            drawn = random.choice(spec.legal_actions, _NUM_ENVS)
            is_random = random.random(_NUM_ENVS) < _EPSILON
            actions = np.where(is_random, drawn, best)
            observations = env.step(actions).observations
    return torch.cat(seen)


def features_of(teacher: Expert, observations_NCHW: Tensor) -> Tensor:
    """The last hidden layer [N, F] of a teacher, for observations of any game of its shape."""
    parts = torch.split(observations_NCHW, _BATCH)
    return torch.cat([teacher.label(part).features_BF for part in parts])


def linear_cka(features_NF: Tensor, others_NG: Tensor) -> float:
    """Centred kernel alignment with linear kernels: 1 up to rotation and size, 0 unrelated.

    Kornblith et al. 2019, https://arxiv.org/abs/1905.00414, with the unbiased estimate of HSIC
    (Song et al. 2012), which does not grow with the number of features; it can be a little below 0.
    NaN for features that do not vary.
    """
    if len(features_NF) < MIN_STATES:
        raise ValueError(f"{len(features_NF)} states are too few; at least {MIN_STATES} are needed")
    gram, others = _gram(features_NF), _gram(others_NG)
    return float(_hsic(gram, others) / (_hsic(gram, gram) * _hsic(others, others)).sqrt())


def _gram(features_NF: Tensor) -> Tensor:
    centred = features_NF.double() - features_NF.double().mean(0)
    return (centred @ centred.T).fill_diagonal_(0)


def _hsic(first_NN: Tensor, second_NN: Tensor) -> Tensor:
    """N (N - 3) times the unbiased estimate, of kernels whose diagonals are 0."""
    n = len(first_NN)
    sums = first_NN.sum() * second_NN.sum() / ((n - 1) * (n - 2))
    rows = first_NN.sum(1) @ second_NN.sum(1)
    return (first_NN * second_NN).sum() + sums - 2 / (n - 2) * rows
