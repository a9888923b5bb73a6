"""The papers' optimizers, with their constants explained.

Both differ from PyTorch's classes of similar name in where the small constant stands and in what
they do at the start, and both were tuned for gradients *summed* over the minibatch, as Torch7's
criteria deliver them. Here losses are usually averaged. Pass `mean_over=B` when the loss is a mean
over B transitions: since

    m_sum / sqrt(v_sum + c)  =  m_mean / sqrt(v_mean + c / B^2)

dividing the constant by B^2 gives exactly the steps that the summed loss would give, at the same
learning rate.

Neither corrects for a cold start, so neither keeps a step count.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any, Literal, overload

import torch
from torch import Tensor

OptimizerName = Literal["actor_mimic_adam", "centered_rmsprop", "adam"]

# The published rate of each: Actor-Mimic, Nature DQN, Rainbow.
DEFAULT_LEARNING_RATES: dict[str, float] = {
    "actor_mimic_adam": 2.5e-4,
    "centered_rmsprop": 2.5e-4,
    "adam": 6.25e-5,
}


class ActorMimicAdam(torch.optim.Optimizer):
    """Adam as the released Actor-Mimic code runs it.

    https://github.com/eparisotto/ActorMimic; for a gradient g:

        m <- beta1 * m + (1 - beta1) * g
        v <- beta2 * v + (1 - beta2) * g^2
        w <- w - lr * sqrt(1 - beta2) / (1 - beta1) * m / sqrt(v + epsilon)

    There is no bias correction that fades: the factor of the first step of Adam stays for good. At
    beta1 = beta2 = 0.95 it is 4.47, so lr = 2.5e-4 steps like 1.118e-3. The epsilon of 0.01 inside
    the root makes layers whose summed gradients are below 0.1 behave like momentum SGD.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 2.5e-4,
        *,
        betas: tuple[float, float] = (0.95, 0.95),
        epsilon: float = 0.01,
        mean_over: int | None = None,
    ) -> None:
        """Keep the hyper-parameters.

        Args:
            params: Parameters or parameter groups.
            lr: Learning rate before the constant factor.
            betas: Decay of the mean and of the mean square; both in [0, 1).
            epsilon: Inside the root, for gradients of a loss summed over the batch.
            mean_over: Number of transitions that the loss is averaged over; None for a summed loss.
        """
        if not all(0.0 <= beta < 1.0 for beta in betas):
            raise ValueError(f"betas must lie in [0, 1), got {betas}")
        _check_positive(lr=lr, epsilon=epsilon)
        defaults = {"lr": lr, "betas": betas, "epsilon": _per_mean(epsilon, mean_over)}
        super().__init__(params, defaults)

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update every parameter that has a gradient."""
        loss = _evaluate(closure)
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            params, grads, means, squares = _gather(self, group["params"])
            if not params:
                continue
            torch._foreach_lerp_(means, grads, 1.0 - beta1)
            torch._foreach_mul_(squares, beta2)
            torch._foreach_addcmul_(squares, grads, grads, 1.0 - beta2)
            roots = torch._foreach_add(squares, group["epsilon"])
            torch._foreach_sqrt_(roots)
            factor = math.sqrt(1.0 - beta2) / (1.0 - beta1)
            torch._foreach_addcdiv_(params, means, roots, -group["lr"] * factor)
        return loss


class CenteredRmsProp(torch.optim.Optimizer):
    """RMSProp of Nature DQN: the gradient over its standard deviation, without momentum.

    Mnih et al. 2015 (https://www.nature.com/articles/nature14236) and its released code; for a
    gradient g:

        m <- decay * m + (1 - decay) * g
        v <- decay * v + (1 - decay) * g^2
        w <- w - lr * g / sqrt(v - m^2 + epsilon)

    PyTorch's RMSprop(centered=True) adds its epsilon outside the root, where 0.01 means another
    thing.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 2.5e-4,
        *,
        decay: float = 0.95,
        epsilon: float = 0.01,
        mean_over: int | None = None,
    ) -> None:
        """Keep the hyper-parameters.

        Args:
            params: Parameters or parameter groups.
            lr: Learning rate.
            decay: Of both running means; in [0, 1).
            epsilon: Inside the root, for gradients of a loss summed over the batch.
            mean_over: Number of transitions that the loss is averaged over; None for a summed loss.
        """
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"decay must lie in [0, 1), got {decay}")
        _check_positive(lr=lr, epsilon=epsilon)
        defaults = {"lr": lr, "decay": decay, "epsilon": _per_mean(epsilon, mean_over)}
        super().__init__(params, defaults)

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update every parameter that has a gradient."""
        loss = _evaluate(closure)
        for group in self.param_groups:
            decay = group["decay"]
            params, grads, means, squares = _gather(self, group["params"])
            if not params:
                continue
            torch._foreach_lerp_(means, grads, 1.0 - decay)
            torch._foreach_mul_(squares, decay)
            torch._foreach_addcmul_(squares, grads, grads, 1.0 - decay)
            roots = torch._foreach_addcmul(squares, means, means, -1.0)
            # v - m^2 of a steady gradient can round to slightly below zero, and with the constant
            # divided by B^2 that would be the root of a negative number.
            torch._foreach_clamp_min_(roots, 0.0)
            torch._foreach_add_(roots, group["epsilon"])
            torch._foreach_sqrt_(roots)
            torch._foreach_addcdiv_(params, grads, roots, -group["lr"])
        return loss


def build_optimizer(
    name: str,
    params: Iterable[Tensor],
    lr: float | None = None,
    *,
    mean_over: int | None = None,
    epsilon: float | None = None,
) -> torch.optim.Optimizer:
    """Make the optimizer that a configuration names.

    Args:
        name: "actor_mimic_adam", "centered_rmsprop", or "adam" for PyTorch's own.
        params: What to optimize.
        lr: None takes the published rate (DEFAULT_LEARNING_RATES).
        mean_over: Number of transitions that the loss is averaged over; None for a summed loss.
        epsilon: None takes the published constant. Always meant for a summed loss, like the papers'
            0.01, except for "adam", whose 1.5e-4 (outside the root) is for a mean loss already.

    Raises:
        ValueError: Unknown name, or a rate or constant that is not positive.
    """
    if name not in DEFAULT_LEARNING_RATES:
        known = ", ".join(DEFAULT_LEARNING_RATES)
        raise ValueError(f"unknown optimizer {name!r}; choose one of {known}")
    lr = DEFAULT_LEARNING_RATES[name] if lr is None else lr
    if name == "adam":
        epsilon = 1.5e-4 if epsilon is None else epsilon
        _check_positive(lr=lr, epsilon=epsilon)
        # Fused: one pass over memory instead of a dozen, a quarter of the time on a CPU.
        return torch.optim.Adam(params, lr=lr, eps=epsilon, fused=True)
    epsilon = 0.01 if epsilon is None else epsilon
    if name == "actor_mimic_adam":
        return ActorMimicAdam(params, lr, epsilon=epsilon, mean_over=mean_over)
    return CenteredRmsProp(params, lr, epsilon=epsilon, mean_over=mean_over)


def _per_mean(epsilon: float, mean_over: int | None) -> float:
    if mean_over is None:
        return epsilon
    _check_positive(mean_over=mean_over)
    return epsilon / mean_over**2


def _check_positive(**values: float) -> None:
    for name, value in values.items():
        if not (value > 0.0 and math.isfinite(value)):
            raise ValueError(f"{name} must be a positive number, got {value}")


def _evaluate(closure: Callable[[], float] | None) -> float | None:
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()


def _gather(
    optimizer: torch.optim.Optimizer, params: list[Tensor]
) -> tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor]]:
    """The parameters that have gradients, those gradients, and their two running means."""
    with_grad = [param for param in params if param.grad is not None]
    for param in with_grad:
        state = optimizer.state[param]
        if not state:
            state["gradient_mean"] = torch.zeros_like(param)
            state["gradient_square_mean"] = torch.zeros_like(param)
    grads = [param.grad for param in with_grad if param.grad is not None]
    means = [optimizer.state[param]["gradient_mean"] for param in with_grad]
    squares = [optimizer.state[param]["gradient_square_mean"] for param in with_grad]
    return with_grad, grads, means, squares
