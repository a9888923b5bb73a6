"""Networks that begin with weights of the past: what becomes of the head, and every refusal."""

import dataclasses

import pytest
import signals
import torch
from runs import save_network

from actors.config import ActorConfig
from learner.config import LearnerConfig
from learner.objectives.config import (
    ActorCriticConfig,
    DistillationConfig,
    DqnConfig,
    MimicConfig,
)
from networks.config import NetworkConfig
from networks.network import MultitaskNetwork
from networks.snapshots import take_snapshot
from networks.student_file import save_student
from networks.weights import LocalWeights, WeightsVersion
from recipes.config import RunConfig
from recipes.loading import dump_config
from recipes.recipe import Recipe
from recipes.roles import build_learner, build_shard
from records.run_dir import RunDir
from replay.client import LocalReplayClient
from replay.config import ReplayConfig
from teachers.expert import load_expert

CPU = torch.device("cpu")
GAME = signals.GAMES[0].name
TAU = 0.25


def config(source, *, dueling=False, torso="minatar", learner=None, **changes):
    return RunConfig(
        games=(GAME,),
        objective="dqn",
        num_steps=100,
        start_from=(str(source),),
        network=NetworkConfig(torso=torso, dueling=dueling),
        actor=ActorConfig(num_envs=3, chunk_steps=4),
        replay=ReplayConfig(
            batch_size=8, capacity_per_game=200, min_size_per_game=40, error_buffer=1e4
        ),
        learner=learner or LearnerConfig(precision="float32", max_gradient_norm=0.0),
        **changes,
    )


def learner_of(run_config):
    recipe = Recipe(run_config)
    replay = LocalReplayClient([build_shard(recipe)])
    return build_learner(recipe, replay=replay, weights=LocalWeights(), device=CPU)


def random_network(**options):
    torch.manual_seed(7)
    spec = signals.GAMES[0]
    return MultitaskNetwork(
        torso="minatar",
        observation_shape=spec.observation_shape,
        num_actions=spec.num_actions,
        **options,
    )


@pytest.fixture
def student(tmp_path):
    """The run of a student with a head for all games, and its network."""
    other = RunConfig(
        games=tuple(spec.name for spec in signals.GAMES),
        num_steps=100,
        network=NetworkConfig(torso="minatar"),
        mimic=MimicConfig(temperature=TAU),
    )
    run = RunDir.create(tmp_path / "run", preset="", config_text=dump_config(other), seed=1)
    network = random_network(games=other.games)
    snapshot = take_snapshot(network, WeightsVersion(0, 3), half=False)
    save_student(run.student, snapshot, network=other.network, games=other.games)
    save_student(run.student_at(50), snapshot, network=other.network, games=other.games)
    return run, network


@pytest.mark.parametrize("place", ["", "student", "student_at/50"])
def test_a_student_gives_torso_and_head(student, place):
    run, source = student
    network = learner_of(config(run.path / place)).network
    expected = source.state_dict()
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, expected[name]), name


@pytest.mark.parametrize("place", ["", "student_at/50"])
def test_a_rescaled_head_gives_q_values_whose_softmax_is_the_students_policy(student, place):
    run, source = student
    network = learner_of(config(run.path / place, start_head="rescale")).network
    observations = torch.randint(0, 255, (5, *source.observation_shape), dtype=torch.uint8)
    q_BA = network(observations)
    torch.testing.assert_close(q_BA / TAU, source(observations))


def test_a_fresh_head_is_the_seeds_own_on_the_students_torso(student):
    run, source = student
    network = learner_of(config(run.path, start_head="fresh", dueling=True)).network
    alone = learner_of(dataclasses.replace(config(run.path, dueling=True), start_from=())).network
    for name, tensor in network.torso.state_dict().items():
        assert torch.equal(tensor, source.torso.state_dict()[name]), name
    assert torch.equal(network.advantage.weight, alone.advantage.weight)


@pytest.mark.parametrize("quantiles", [0, 4])
def test_an_expert_gives_torso_and_head_and_all_quantiles_begin_at_its_values(tmp_path, quantiles):
    weights = save_network(tmp_path, GAME, random_network(dueling=True))
    network = learner_of(config(weights, dueling=True, dqn=DqnConfig(quantiles=quantiles))).network
    assert network.num_quantiles == quantiles
    expected = load_expert(weights).network.state_dict()
    for name, tensor in network.without_quantiles().state_dict().items():
        assert torch.equal(tensor, expected[name]), name


def test_a_frozen_torso_learns_only_after_the_updates_that_were_set(student):
    run, _ = student
    learner = learner_of(
        config(run.path, learner=LearnerConfig(precision="float32", frozen_torso_updates=2))
    )
    before = {name: value.clone() for name, value in learner.network.state_dict().items()}
    for update in range(1, 4):
        learner.update(signals_batch(learner))
        now = learner.network.state_dict()
        is_moved = any(
            not torch.equal(now[name], before[name]) for name in now if name.startswith("torso")
        )
        assert is_moved == (update > 2)
        assert not torch.equal(now["head.weight"], before["head.weight"])


def signals_batch(learner):
    """A batch of played transitions, from the learner's own replay."""
    from recipes.roles import build_actor, build_own_inference

    recipe = Recipe(config("unused"))
    replay = learner._replay
    while (batch := replay.sample()) is None:
        weights = LocalWeights()
        actor = build_actor(
            recipe,
            GAME,
            rank=0,
            num_ranks=1,
            serial=next(_SERIALS),
            replay=replay,
            inference=build_own_inference(recipe, GAME, weights),
        )
        for _ in range(10):
            replay.add(actor.collect())
    return learner.load_batch(batch)


_SERIALS = iter(range(1000))


def zeroed(network):
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    return network


@pytest.mark.parametrize(
    ("network", "changes", "said"),
    [
        (random_network(dueling=True), {}, "use --start-head fresh"),
        (random_network(), {"start_head": "rescale"}, "use keep or fresh"),
        (zeroed(random_network()), {}, "all weights of .* are zero"),
    ],
)
def test_weights_that_have_no_place_are_refused_in_one_line(tmp_path, network, changes, said):
    weights = save_network(tmp_path, GAME, network)
    with pytest.raises(ValueError, match=said) as error:
        learner_of(config(weights, **changes))
    assert "\n" not in str(error.value)


def test_a_run_without_a_student_is_no_start(tmp_path):
    run = RunDir.create(
        tmp_path / "run", preset="", config_text="games: [pong]\nnum_steps: 9\n", seed=1
    )
    with pytest.raises(ValueError, match="has no student yet"):
        learner_of(config(run.path))


def test_a_policy_without_critic_begins_only_where_a_new_critic_learns_alone_first(tmp_path):
    expert = save_network(tmp_path, GAME, random_network())
    settings = dataclasses.replace(
        config(expert, dqn=DqnConfig()),
        objective="actor_critic",
        replay=ReplayConfig(
            batch_size=16, capacity_per_game=200, min_size_per_game=40, error_buffer=1e4
        ),
        distillation=DistillationConfig(weight=0.0),
    )
    with pytest.raises(ValueError, match=r"has no critic.*critic-warmup-steps"):
        learner_of(settings)
    warmed = dataclasses.replace(settings, actor_critic=ActorCriticConfig(critic_warmup_steps=50))
    network = learner_of(warmed).network
    assert torch.equal(network.head.weight, load_expert(expert, GAME).network.head.weight)
    assert network.critic is not None
