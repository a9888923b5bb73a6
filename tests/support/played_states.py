"""States of a real game, and whether an imported teacher answers there as its library does."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from games.registry import get_game, make_vector_env
from teachers.expert import Expert, load_expert

NUM_STATES = 1_000


def played_states(game: str) -> Tensor:
    """1,000 states as the shipped expert plays, one action in ten at random; uint8."""
    expert, num_envs = load_expert(game), 8
    spec = get_game(game)
    env = make_vector_env(spec, num_envs=num_envs, protocol="classic", seed=3)
    random = np.random.default_rng(3)
    observations, seen = env.reset(), []
    for step in range(NUM_STATES // num_envs * 4):
        frames = torch.from_numpy(observations)
        # Every fourth state: neighbours are nearly the same picture.
        seen += [frames] if step % 4 == 3 else []
        best = expert.label(frames).logits_BA.masked_fill(~expert.legal_A, -1).argmax(1).numpy()
        drawn = random.choice(spec.legal_actions, num_envs)
        observations = env.step(np.where(random.random(num_envs) < 0.1, drawn, best)).observations
    env.close()
    return torch.cat(seen)


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
