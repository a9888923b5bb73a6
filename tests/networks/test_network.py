"""Heads of one game or several, critics, quantiles, regressors and refusals of the network."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from games.registry import get_game
from networks.build import build_network
from networks.config import NetworkConfig, with_current_names
from networks.network import MultitaskNetwork
from networks.snapshots import take_snapshot
from networks.student_file import load_student, save_student
from networks.weights import WeightsVersion

GAMES = ("pong", "breakout", "seaquest")
SHAPE = (2, 10, 10)


def student_of(
    *, games: tuple[str, ...] = GAMES, torso: str = "minatar", **options: Any
) -> MultitaskNetwork:
    torch.manual_seed(0)
    return MultitaskNetwork(
        torso=torso,
        observation_shape=SHAPE,
        num_actions=6,
        games=games,
        **options,
        teacher_feature_sizes=dict(zip(games, (7, 9, 11), strict=False)),
    )


def observations(batch: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (batch, *SHAPE), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize(("torso", "count"), [("nature", 1_693_362), ("large", 35_216_146)])
def test_acting_part_has_the_papers_number_of_parameters(torso: str, count: int) -> None:
    with torch.device("meta"):
        student = MultitaskNetwork(
            torso=torso,
            observation_shape=(4, 84, 84),
            num_actions=18,
            games=GAMES,
            teacher_feature_sizes={"pong": 512},
        )
    acting = {
        name: parameter.numel()
        for name, parameter in student.named_parameters()
        if not name.startswith("feature_regressors.")
    }
    regressors = sum(p.numel() for p in student.parameters()) - sum(acting.values())
    assert sum(acting.values()) == count
    assert regressors == student.num_features * 512 + 512


def test_shared_head_does_not_care_about_the_game() -> None:
    student = student_of()
    expected = student(observations())
    assert expected.shape == (4, 6)
    assert torch.equal(student(observations(), torch.tensor([0, 1, 2, 0])), expected)
    assert torch.equal(student.act_as("seaquest")(observations()), expected)


def test_every_row_gets_the_head_of_its_own_game() -> None:
    student = student_of(heads="per_game")
    game_index = torch.tensor([2, 0, 1, 2])
    logits, features = student.forward_with_features(observations(), game_index)
    for row, game in enumerate(game_index.tolist()):
        weight = student.head.weight[game * 6 : (game + 1) * 6]
        bias = student.head.bias[game * 6 : (game + 1) * 6]
        torch.testing.assert_close(logits[row], weight @ features[row] + bias)


def test_gradient_reaches_only_the_heads_that_were_picked() -> None:
    student = student_of(heads="per_game")
    student(observations(2), torch.tensor([1, 1])).square().sum().backward()
    gradient = student.head.weight.grad
    assert gradient is not None
    per_game = gradient.reshape(3, 6, -1).abs().sum((1, 2))
    assert per_game[1] > 0
    assert per_game[[0, 2]].tolist() == [0.0, 0.0]


def test_regressor_is_one_affine_map_per_game_and_trains_the_torso() -> None:
    student = student_of()
    _, features = student.forward_with_features(observations())
    regressed = student.regress_features(features, "breakout")
    layer = student.feature_regressors["breakout"]
    assert regressed.shape == (4, 9)
    torch.testing.assert_close(regressed, features @ layer.weight.T + layer.bias)
    regressed.square().sum().backward()
    first = student.torso.convolutions[0].weight.grad
    assert first is not None
    assert first.abs().sum() > 0
    assert layer.bias.grad is not None
    assert student.feature_regressors["pong"].bias.grad is None


def test_logits_and_regressed_features_stay_in_float32_under_autocast() -> None:
    student = student_of(heads="per_game").act_as("pong")
    with torch.autocast("cpu", torch.bfloat16):
        logits, features = student.forward_with_features(observations())
        regressed = student.regress_features(features, "pong")
    assert {logits.dtype, features.dtype, regressed.dtype} == {torch.float32}
    assert not torch.equal(logits, logits.bfloat16().float())


@pytest.mark.parametrize(("old", "new"), [(True, "per_game"), (False, "joint")])
def test_settings_of_earlier_versions_are_read_under_their_present_names(
    old: bool, new: str
) -> None:
    settings = {"torso": "minatar", "dueling": False, "per_game_heads": old}
    config = NetworkConfig(**with_current_names(settings))
    assert (config.torso, config.heads) == ("minatar", new)


# Layers of single games


def test_dense_layers_of_single_games_lie_on_convolutions_that_all_share() -> None:
    network = student_of(heads="per_game_dense")
    index = torch.tensor([2, 0, 1, 2])
    scores, features = network.forward_with_features(observations(), index)
    shared = network.torso.convolutions(observations().float() / 255).flatten(1)
    for row, game in enumerate(index.tolist()):
        own = network.game_dense[game](shared[row : row + 1])[0]
        weight = network.head.weight[game * 6 : (game + 1) * 6]
        bias = network.head.bias[game * 6 : (game + 1) * 6]
        torch.testing.assert_close(features[row], own)
        torch.testing.assert_close(scores[row], weight @ own + bias)


def test_an_actor_computes_only_the_dense_layers_of_its_own_game() -> None:
    network = student_of(heads="per_game_dense")
    expected = network(observations(), torch.full((4,), 1))
    with torch.no_grad():
        for parameter in network.game_dense[0].parameters():
            parameter.fill_(torch.nan)
    found = network.act_as("breakout")(observations())
    torch.testing.assert_close(found, expected)
    assert network.act_as("pong")(observations()).isnan().all()


def test_a_gradient_reaches_the_dense_layers_of_its_game_and_the_shared_convolutions() -> None:
    network = student_of(heads="per_game_dense")
    network(observations(2), torch.tensor([1, 1])).square().sum().backward()
    sizes = [float(dense[0].weight.grad.abs().sum()) for dense in network.game_dense]
    assert sizes[1] > 0
    assert (sizes[0], sizes[2]) == (0.0, 0.0)
    assert network.torso.convolutions[0].weight.grad.abs().sum() > 0


@pytest.mark.parametrize("heads", ["joint", "per_game", "per_game_dense"])
def test_every_way_to_share_layers_has_as_many_weights_as_the_paper_draws(heads: str) -> None:
    network = MultitaskNetwork(
        torso="minatar", observation_shape=SHAPE, num_actions=6, games=GAMES, heads=heads
    )
    convolutions = (SHAPE[0] * 9 + 1) * 16
    dense, head = (16 * 8 * 8 + 1) * 128, (128 + 1) * 6
    copies = {"joint": (1, 1), "per_game": (1, 3), "per_game_dense": (3, 3)}[heads]
    total = convolutions + copies[0] * dense + copies[1] * head
    assert sum(parameter.numel() for parameter in network.parameters()) == total


# Dueling heads, critics and quantiles


def test_a_dueling_head_of_each_game_separates_that_games_value() -> None:
    network = student_of(heads="per_game", dueling=True)
    index = torch.tensor([2, 0, 1, 2])
    scores, features = network.forward_with_features(observations(), index)
    for row, game in enumerate(index.tolist()):
        value = network.value(features)[row, game]
        advantages = network.advantage(features)[row, game * 6 : (game + 1) * 6]
        torch.testing.assert_close(scores[row], value + advantages - advantages.mean())


def test_a_critic_gives_each_row_the_value_of_its_own_game() -> None:
    network = student_of(heads="per_game", has_critic=True)
    index = torch.tensor([2, 0, 1, 2])
    _, features = network.forward_with_features(observations(), index)
    values = network.values(features, index)
    assert torch.equal(values, network.critic(features)[torch.arange(4), index])


@pytest.mark.parametrize("heads", ["joint", "per_game"])
@pytest.mark.parametrize("dueling", [False, True])
def test_a_score_is_the_mean_of_an_actions_quantiles(heads: str, dueling: bool) -> None:
    network = student_of(heads=heads, dueling=dueling, num_quantiles=5)
    index = torch.tensor([2, 0, 1, 2])
    quantiles = network.forward_quantiles(observations(), index)
    assert quantiles.shape == (4, 6, 5)
    assert torch.equal(network(observations(), index), quantiles.mean(2))
    plain = network.without_quantiles()
    torch.testing.assert_close(plain(observations(), index), quantiles.mean(2))
    assert plain.state_dict().keys() == network.state_dict().keys()


@pytest.mark.parametrize("heads", ["joint", "per_game"])
@pytest.mark.parametrize("dueling", [False, True])
def test_quantiles_that_are_added_all_begin_at_the_score(heads: str, dueling: bool) -> None:
    network = student_of(heads=heads, dueling=dueling)
    index = torch.tensor([2, 0, 1, 2])
    scores = network(observations(), index)
    quantiles = network.with_quantiles(3).forward_quantiles(observations(), index)
    torch.testing.assert_close(quantiles, scores.unsqueeze(2).expand(-1, -1, 3))


# On disk


@pytest.mark.parametrize(
    "options", [{}, {"has_critic": True}, {"num_quantiles": 3}, {"num_quantiles": 1}]
)
@pytest.mark.parametrize("config", [{}, {"heads": "per_game"}, {"dueling": True}])
def test_a_saved_student_comes_back_with_whatever_its_objective_gave_it(
    tmp_path: Path, options: dict[str, Any], config: dict[str, Any]
) -> None:
    settings = NetworkConfig(torso="nature_quarter", **config)
    games = ("pong", "boxing")
    network = build_network(settings, [get_game(game) for game in games], **options)
    snapshot = take_snapshot(network, WeightsVersion(0, 7), half=False)
    save_student(tmp_path, snapshot, network=settings, games=games)
    loaded = load_student(tmp_path)
    observation = torch.zeros(2, 4, 84, 84, dtype=torch.uint8)
    index = torch.tensor([0, 1])
    assert torch.equal(loaded(observation, index), network(observation, index))
    assert (loaded.critic is None) == (network.critic is None)
