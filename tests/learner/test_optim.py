"""The optimizers against plain loops, and the conversion from summed to averaged losses."""

import copy
import math

import numpy as np
import pytest
import torch

from learner.config import LearnerConfig
from learner.optim import ActorMimicAdam, CenteredRmsProp, build_optimizer


def gradients(seed: int, num_steps: int, size: int, scale: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return scale * rng.normal(size=(num_steps, size))


def build(name, params, **options):
    return build_optimizer(LearnerConfig(optimizer=name), params, **options)


def run(optimizer_class, start, grads, *, lr=2.5e-4, **options):
    """Parameters after each step, when the gradient is given."""
    param = torch.nn.Parameter(torch.tensor(start))
    optimizer = optimizer_class([param], lr, **options)
    history = []
    for grad in grads:
        param.grad = torch.tensor(grad)
        optimizer.step()
        history.append(param.detach().numpy().copy())
    return np.array(history)


def slow_actor_mimic_adam(start, grads, lr, beta1, beta2, constant):
    w, m, v = list(start), [0.0] * len(start), [0.0] * len(start)
    history = []
    for grad in grads:
        for i, g in enumerate(grad):
            m[i] = beta1 * m[i] + (1 - beta1) * g
            v[i] = beta2 * v[i] + (1 - beta2) * g * g
            step = lr * math.sqrt(1 - beta2) / (1 - beta1)
            w[i] -= step * m[i] / math.sqrt(v[i] + constant)
        history.append(list(w))
    return np.array(history)


def slow_centered_rmsprop(start, grads, lr, decay, constant):
    w, m, v = list(start), [0.0] * len(start), [0.0] * len(start)
    history = []
    for grad in grads:
        for i, g in enumerate(grad):
            m[i] = decay * m[i] + (1 - decay) * g
            v[i] = decay * v[i] + (1 - decay) * g * g
            w[i] -= lr * g / math.sqrt(v[i] - m[i] * m[i] + constant)
        history.append(list(w))
    return np.array(history)


@pytest.mark.parametrize("scale", [0.01, 1.0, 30.0])
def test_actor_mimic_adam_equals_a_plain_loop_over_several_steps(scale):
    start = np.array([1.0, -2.0, 0.5])
    grads = gradients(1, num_steps=8, size=3, scale=scale)
    expected = slow_actor_mimic_adam(start, grads, 2.5e-4, 0.95, 0.95, 0.01)
    np.testing.assert_allclose(run(ActorMimicAdam, start, grads), expected, rtol=1e-12)


@pytest.mark.parametrize("scale", [0.01, 1.0, 30.0])
def test_centered_rmsprop_equals_a_plain_loop_over_several_steps(scale):
    start = np.array([1.0, -2.0, 0.5])
    grads = gradients(3, num_steps=8, size=3, scale=scale)
    expected = slow_centered_rmsprop(start, grads, 2.5e-4, 0.95, 0.01)
    np.testing.assert_allclose(run(CenteredRmsProp, start, grads), expected, rtol=1e-12)


@pytest.mark.parametrize("name", ["actor_mimic_adam", "centered_rmsprop"])
def test_a_mean_loss_with_its_batch_size_takes_the_steps_of_the_summed_loss(name):
    inputs = torch.tensor(gradients(4, num_steps=32, size=5))
    weights = {}
    for reduction, mean_over in (("sum", None), ("mean", 32)):
        layer = torch.nn.Linear(5, 1, dtype=torch.float64)
        torch.nn.init.ones_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
        optimizer = build(name, layer.parameters(), mean_over=mean_over)
        for _ in range(5):
            optimizer.zero_grad()
            losses = layer(inputs).square()
            (losses.sum() if reduction == "sum" else losses.mean()).backward()
            optimizer.step()
        weights[reduction] = layer.weight.detach()
    torch.testing.assert_close(weights["mean"], weights["sum"], rtol=1e-12, atol=1e-14)
    assert not torch.equal(weights["sum"], torch.ones(1, 5, dtype=torch.float64))


@pytest.mark.parametrize("name", ["actor_mimic_adam", "centered_rmsprop", "adam"])
def test_resuming_from_a_saved_state_equals_an_uninterrupted_run(name):
    grads = [torch.tensor(grad) for grad in gradients(5, num_steps=6, size=4)]

    def steps(param, optimizer, some_grads):
        for grad in some_grads:
            param.grad = grad.clone()
            optimizer.step()

    whole = torch.nn.Parameter(torch.zeros(4, dtype=torch.float64))
    steps(whole, build(name, [whole]), grads)

    first = torch.nn.Parameter(torch.zeros(4, dtype=torch.float64))
    before = build(name, [first])
    steps(first, before, grads[:3])
    second = torch.nn.Parameter(first.detach().clone())
    after = build(name, [second])
    after.load_state_dict(copy.deepcopy(before.state_dict()))
    steps(second, after, grads[3:])
    assert torch.equal(second, whole)
