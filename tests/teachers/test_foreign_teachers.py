"""The playing teachers that other tests use: they are what they say they are, and they play."""

from collections.abc import Callable
from pathlib import Path

import foreign_layouts as layouts
import foreign_models
import numpy as np
import pytest
import torch
from foreign_layouts import ATOMS, NatureLayers
from played_states import check_same_answers, played_states
from reference_networks import categorical_mean, nature_valid
from torch import Tensor

from games.registry import get_game, make_vector_env
from networks.teacher_network import TeacherNetwork
from teachers.expert import architecture_of, load_expert, save_expert
from teachers.formats import read_checkpoint

GAMES = foreign_models.GAMES


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    return foreign_models.write_foreign_teachers(tmp_path_factory.mktemp("teachers"))


def states(game: str, num_steps: int = 60) -> Tensor:
    env = make_vector_env(get_game(game), num_envs=2, protocol="classic", seed=0)
    random = np.random.default_rng(0)
    env.reset()
    drawn = random.choice(get_game(game).legal_actions, (num_steps, 2))
    seen = [torch.from_numpy(env.step(actions).observations) for actions in drawn]
    env.close()
    return torch.cat(seen[::5])


@pytest.mark.slow
@pytest.mark.parametrize("game", GAMES)
def test_every_format_holds_the_same_player(
    game: str, written: dict[tuple[str, str], Path]
) -> None:
    legal = list(get_game(game).legal_actions)
    pictures = states(game)
    expected = nature_valid(foreign_models.nature_expert(game), pictures)[1]
    kinds = set()
    for (of, format_), path in written.items():
        if of != game:
            continue
        imported = read_checkpoint(path, game=game)
        assert imported.format == format_
        with torch.no_grad():
            outputs = imported.network(pictures)[:, legal]
        kind = architecture_of(imported.network).head
        kinds.add(kind)
        if kind == "policy":
            outputs = outputs * foreign_models.TEMPERATURE
        torch.testing.assert_close(outputs, expected, rtol=0, atol=1e-2 if kind != "q" else 1e-4)
    assert len(kinds) >= 2


@pytest.mark.slow
def test_players_of_libraries_that_do_not_install_answer_as_their_definitions_do(
    tmp_path: Path,
) -> None:
    # atari-agents and CleanRL's PyTorch scripts; the rest is in test_library_parity.py.
    plain = foreign_models.nature_expert("pong")
    returns = foreign_models.as_categorical(plain)
    writers: dict[str, tuple[Callable[[Path], None], Callable[[Tensor], Tensor]]] = {
        "dqn.cleanrl_model": (lambda p: layouts.write_cleanrl_dqn(p, plain), q_of(plain)),
        "c51.cleanrl_model": (lambda p: layouts.write_cleanrl_c51(p, returns), mean_of(returns)),
        "dqn.gz": (lambda p: layouts.write_atari_agents(p, plain), q_of(plain)),
        "c51.gz": (lambda p: layouts.write_atari_agents(p, returns, ATOMS), mean_of(returns)),
    }
    pictures = played_states("pong")
    assert len(pictures) == 1_000
    for name, (write, judge) in writers.items():
        write(tmp_path / name)
        teacher = read_checkpoint(tmp_path / name, game="pong")
        own = tmp_path / "own" / "pong.safetensors"
        save_expert(teacher.network, teacher.card_fields, own, half=False)
        check_same_answers(load_expert(own), judge, pictures)


def q_of(layers: NatureLayers) -> Callable[[Tensor], Tensor]:
    return lambda pictures: nature_valid(layers, pictures)[1]


def mean_of(layers: NatureLayers) -> Callable[[Tensor], Tensor]:
    return lambda pictures: categorical_mean(nature_valid(layers, pictures)[1], ATOMS)


@pytest.mark.slow
def test_a_pong_teacher_from_another_format_beats_the_computer(
    written: dict[tuple[str, str], Path],
) -> None:
    network = read_checkpoint(written["pong", "sb3"], game="pong").network
    assert mean_score(network, "pong", num_games=4) > 5


def mean_score(network: TeacherNetwork, game: str, *, num_games: int) -> float:
    """Whole games under the classic protocol at epsilon 0.05."""
    spec = get_game(game)
    legal = torch.from_numpy(spec.legal_mask())
    env = make_vector_env(spec, num_envs=num_games, protocol="classic", seed=1)
    random = np.random.default_rng(1)
    observations = env.reset()
    scores, is_over = np.zeros(num_games), np.zeros(num_games, bool)
    while not is_over.all():
        with torch.no_grad():
            outputs = network(torch.from_numpy(observations))
        best = outputs.masked_fill(~legal, -torch.inf).argmax(1).numpy()
        drawn = random.choice(spec.legal_actions, num_games)
        step = env.step(np.where(random.random(num_games) < 0.05, drawn, best))
        scores += step.rewards * ~is_over
        is_over |= step.terminated | step.truncated
        observations = step.observations
    env.close()
    return float(scores.mean())
