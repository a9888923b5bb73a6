"""Whether games get in each other's way: cosines of their gradients in the shared torso.

A cosine below 0 says that a step for one game undoes a part of a step for another one. Gradients of
few transitions are mostly noise, which pulls every cosine towards 0, so each comes with its floor:
the cosine of the same game's gradients from two halves of its transitions. Games of equal gradients
would reach the floor of their own halves, unrelated games lie at 0.

Shape suffixes:
    V  gradients: two of each game that has rows, side by side
    P  parameters of the torso that learn
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from learner.batch import DeviceBatch

# Rows of a game below which it has no two halves worth comparing.
_MIN_ROWS = 4


def halves_of_games(batch: DeviceBatch) -> dict[str, tuple[Tensor, Tensor]]:
    """Sequences, or transitions, at even and at odd places of each game that has enough of them."""
    length = batch.sequences.length if batch.sequences else 1
    halves: dict[str, tuple[Tensor, Tensor]] = {}
    start = 0
    for game, rows in zip(batch.games, batch.game_counts, strict=True):
        stop = start + rows // length
        if stop - start >= _MIN_ROWS:
            places = torch.arange(start, stop, device=batch.actions_B.device)
            halves[game] = (places[::2], places[1::2])
        start = stop
    return halves


def gradients_of(
    loss_of: Callable[[DeviceBatch], Tensor],
    parameters: Sequence[Tensor],
    parts: Sequence[DeviceBatch],
) -> Tensor:
    """[V, P] Gradient of every part's loss."""
    return torch.stack([_flat_gradient(loss_of(part), parameters) for part in parts])


def _flat_gradient(loss: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    return torch.cat(
        [
            (torch.zeros_like(parameter) if gradient is None else gradient).flatten().float()
            for parameter, gradient in zip(parameters, gradients, strict=True)
        ]
    )


def adam_scale(optimizer: torch.optim.Optimizer, parameters: Sequence[Tensor]) -> Tensor | None:
    """[P] What Adam multiplies each gradient by, up to a factor; None for other optimizers."""
    scales = []
    for parameter in parameters:
        state = optimizer.state.get(parameter, {})
        if "exp_avg_sq" not in state:
            return None
        scales.append((state["exp_avg_sq"].sqrt() + optimizer.defaults["eps"]).reciprocal())
    return torch.cat([scale.flatten() for scale in scales])


def cosines(games: Sequence[str], gradients_VP: Tensor, suffix: str = "") -> dict[str, float]:
    """Mean cosine of different games, of the same game's halves, and of each game with the others.

    Args:
        games: at least two, with two gradients each, in this order.
        gradients_VP: an all-zero one has a cosine of 0 with every other.
        suffix: appended to the names.
    """
    units_VP = nn.functional.normalize(gradients_VP, dim=1)
    pairs_GG = (units_VP @ units_VP.T).view(len(games), 2, len(games), 2).mean((1, 3))
    same_G = (units_VP[::2] * units_VP[1::2]).sum(1)
    others_G = (pairs_GG.sum(1) - pairs_GG.diagonal()) / (len(games) - 1)
    means = {
        f"gradient_cosine{suffix}": float(others_G.mean()),
        f"gradient_cosine_floor{suffix}": float(same_G.mean()),
    }
    return means | {
        f"game/{game}/gradient_cosine{suffix}": float(cosine)
        for game, cosine in zip(games, others_G, strict=True)
    }
