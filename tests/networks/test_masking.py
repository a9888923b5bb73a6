"""Masked softmax and argmax against NumPy, and what may never leak out of the legal actions."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from games.spec import GameSpec
from networks.masking import legal_matrix, masked_argmax, masked_softmax

LEGAL = torch.tensor(
    [
        [True, False, True, True, False],
        [False, False, False, True, False],
        [True, True, True, True, True],
    ]
)


def logits(seed: int = 0) -> torch.Tensor:
    return torch.randn(3, 5, generator=torch.Generator().manual_seed(seed)) * 3


def toy_spec(name: str, legal_actions: tuple[int, ...], num_actions: int = 5) -> GameSpec:
    return GameSpec(
        name=name,
        family="toy",
        num_actions=num_actions,
        legal_actions=legal_actions,
        frame_shape=(1, 10, 10),
        num_stack=1,
        frames_per_step=1,
        random_score=None,
        human_score=None,
    )


def test_masked_softmax_equals_a_numpy_softmax_over_the_legal_entries() -> None:
    got = masked_softmax(logits(), LEGAL).numpy()
    for row in range(3):
        legal = LEGAL[row].numpy()
        exponentials = np.exp(logits()[row].numpy()[legal])
        np.testing.assert_allclose(got[row][legal], exponentials / exponentials.sum(), rtol=1e-5)


def test_illegal_actions_get_exactly_zero_even_with_the_largest_logit() -> None:
    values = logits()
    values[~LEGAL] = 1e9
    assert (masked_softmax(values, LEGAL)[~LEGAL] == 0).all()


def test_illegal_actions_get_exactly_zero_however_low_the_legal_logits_are() -> None:
    policy = masked_softmax(logits() - 1e9, LEGAL)
    assert (policy[~LEGAL] == 0).all()
    torch.testing.assert_close(policy.sum(1), torch.ones(3))


def test_illegal_logits_get_exactly_zero_gradient() -> None:
    values = logits().requires_grad_()
    weights = torch.randn(3, 5, generator=torch.Generator().manual_seed(1))
    (masked_softmax(values, LEGAL) * weights).sum().backward()
    assert values.grad is not None
    assert (values.grad[~LEGAL] == 0).all()
    # The row with a single legal action has a constant softmax, hence no gradient at all.
    assert (values.grad[[0, 2]][LEGAL[[0, 2]]] != 0).all()


def test_argmax_never_leaves_the_legal_actions() -> None:
    values = logits() - 1e6
    values[~LEGAL] = 1e6
    assert masked_argmax(values, LEGAL)[1].item() == 3
    assert LEGAL[torch.arange(3), masked_argmax(values, LEGAL)].all()


def test_legal_matrix_has_a_row_for_each_game_in_the_given_order() -> None:
    matrix = legal_matrix([toy_spec("second", (1, 4)), toy_spec("first", (0,))])
    assert matrix.dtype == torch.bool
    assert matrix.tolist() == [[False, True, False, False, True], [True, *[False] * 4]]


def test_legal_matrix_refuses_games_with_different_joint_action_sets() -> None:
    with pytest.raises(ValueError, match=r"'other' has 6 joint actions and 'toy' has 5"):
        legal_matrix([toy_spec("toy", (0,)), replace(toy_spec("other", (0,)), num_actions=6)])
