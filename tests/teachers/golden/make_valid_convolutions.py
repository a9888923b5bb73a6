"""Writes valid_convolutions.safetensors: first layers for the shipped experts without padding.

The shipped experts' first convolution has a padding of 1, that of other libraries none, so its
windows lie one pixel further right and down and the expert cannot be moved as it is. Here the first
layer is fitted anew: by least squares on its own outputs, then by the policy that comes out of the
whole network, whose other layers stay as they are.

    python tests/teachers/golden/make_valid_convolutions.py

takes two minutes for each game on one core and ends with the agreement of the best actions on
states that were not fitted. Scores of what comes out are in tests/support/foreign_models.py.
"""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from games.registry import get_game, make_vector_env
from teachers.expert import Expert, load_expert
from teachers.shipped import shipped_experts

NUM_STATES = 12_000
NUM_ENVS = 8
NUM_UPDATES = 1_500
BATCH = 64
LEARNING_RATE = 2e-3
TEMPERATURE = 0.05


def play(expert: Expert, num_states: int, seed: int) -> Tensor:
    """States of the expert's own play, 10 % of its actions at random."""
    env = make_vector_env(
        get_game(expert.spec.name), num_envs=NUM_ENVS, protocol="classic", seed=seed
    )
    random = np.random.default_rng(seed)
    observations = env.reset()
    states = []
    for _ in range(num_states // NUM_ENVS):
        states.append(torch.from_numpy(observations))
        best = expert.label(states[-1]).logits_BA.masked_fill(~expert.legal_A, -torch.inf).argmax(1)
        drawn = random.choice(expert.spec.legal_actions, NUM_ENVS)
        actions = np.where(random.random(NUM_ENVS) < 0.1, drawn, best.numpy())
        observations = env.step(actions).observations
    env.close()
    return torch.cat(states)


def least_squares(padded: nn.Conv2d, states: Tensor) -> nn.Conv2d:
    """The convolution without padding whose outputs are nearest to those with padding."""
    pixels = states.float() / 255
    with torch.no_grad():
        wanted = padded(pixels).flatten(2).mT.flatten(0, 1).double()
        windows = functional.unfold(pixels, 8, stride=4).mT.flatten(0, 1).double()
        inputs = torch.cat([windows, torch.ones(len(windows), 1, dtype=torch.double)], 1)
        moments = inputs.mT @ inputs + 1e-6 * len(inputs) * torch.eye(inputs.shape[1])
        solution = torch.linalg.solve(moments, inputs.mT @ wanted).float()
        valid = nn.Conv2d(4, padded.out_channels, 8, stride=4)
        valid.weight.copy_(solution[:-1].mT.reshape(valid.weight.shape))
        valid.bias.copy_(solution[-1])
    return valid


def fit(game: str) -> tuple[Tensor, Tensor]:
    """Weight and bias of the first layer without padding."""
    expert = load_expert(game)
    states, unseen = play(expert, NUM_STATES, seed=1), play(expert, 800, seed=7)
    torch.manual_seed(0)
    network = expert.network
    valid = least_squares(network.torso.convolutions[0], states[torch.randperm(len(states))[:300]])
    targets = torch.cat([expert.q_values(part) for part in states.split(256)])[:, expert.legal_A]

    def q_values(observations: Tensor) -> Tensor:
        maps = network.torso.convolutions[1:](valid(observations.float() / 255))
        return network._q_values(network.torso.dense(maps.flatten(1)))[:, expert.legal_A]

    optimizer = torch.optim.Adam(valid.parameters(), lr=LEARNING_RATE)
    decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, NUM_UPDATES)
    for _ in range(NUM_UPDATES):
        rows = torch.randint(len(states), (BATCH,))
        guess, target = q_values(states[rows]), targets[rows]
        divergence = functional.kl_div(
            (guess / TEMPERATURE).log_softmax(1),
            (target / TEMPERATURE).log_softmax(1),
            log_target=True,
            reduction="batchmean",
        )
        optimizer.zero_grad()
        (divergence + (guess - target).square().mean()).backward()
        optimizer.step()
        decay.step()
    with torch.no_grad():
        same = q_values(unseen).argmax(1) == expert.q_values(unseen)[:, expert.legal_A].argmax(1)
    print(f"{game}: same best action in {same.float().mean():.1%} of unseen states")
    return valid.weight.detach(), valid.bias.detach()


def main() -> None:
    """Fit the first layer of every shipped expert."""
    tensors = {}
    for game in shipped_experts():
        weight, bias = fit(game)
        tensors[f"{game}.weight"], tensors[f"{game}.bias"] = weight.half(), bias.half()
    save_file(tensors, Path(__file__).with_name("valid_convolutions.safetensors"))


if __name__ == "__main__":
    main()
