"""States of a real game, and whether an imported teacher answers there as its library does."""

from collections.abc import Callable

import torch
from torch import Tensor

from teachers.expert import Expert, load_expert
from teachers.similarity import play_states


def played_states(game: str) -> Tensor:
    """1,000 states as the shipped expert plays, one action in ten at random; uint8."""
    return play_states(load_expert(game), 1_000, seed=3)


@torch.no_grad()
def check_same_answers(expert: Expert, judge: Callable[[Tensor], Tensor], pictures: Tensor) -> None:
    """Same outputs to 1e-5 of their size and the same best actions, ties within that aside.

    Args:
        expert: as it was imported.
        judge: what the library computes from observations, one number for each legal action.
        pictures: uint8.
    """
    theirs = torch.cat([judge(part) for part in pictures.split(125)])
    tolerance = 1e-5 * max(1.0, float(theirs.abs().max()))
    outputs = torch.cat([expert.q_values(part) for part in pictures.split(125)])
    outputs = outputs[:, list(expert.spec.legal_actions)]
    if expert.card.architecture.head == "policy":
        # Logits mean the same whatever is added to all of them, and libraries differ in that.
        outputs, theirs = outputs.log_softmax(1), theirs.log_softmax(1)
    torch.testing.assert_close(outputs, theirs, rtol=1e-5, atol=tolerance)
    theirs = theirs - theirs.amax(1, keepdim=True)
    ours = torch.cat([expert.label(part).logits_BA for part in pictures.split(125)])
    ours = ours[:, list(expert.spec.legal_actions)]
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=tolerance)
    is_sure = -theirs.topk(2).values[:, 1] > tolerance
    assert torch.equal(ours.argmax(1)[is_sure], theirs.argmax(1)[is_sure])
    assert is_sure.float().mean() > 0.95
    assert len(theirs.argmax(1).unique()) > 2, "the outputs must tell states apart"
