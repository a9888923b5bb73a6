"""The in-process engine: the same every time, resumable, and complete from command to summary."""

import dataclasses
import math
import threading

import pytest
import signals
import torch
from runs import read_metrics, read_summary, save_random_expert, teacher_options

from actors.config import ActorConfig
from engines.engine import claim_serial
from engines.local.engine import LocalEngine
from launch.multitask import main
from learner.checkpoint import list_checkpoints, load_newest, save_checkpoint
from learner.config import LearnerConfig
from learner.objectives.config import ActorCriticConfig
from networks.config import NetworkConfig
from networks.student_file import load_student
from recipes.config import CheckpointConfig, EvaluationConfig, RunConfig
from recipes.recipe import Recipe
from records.summary import Summary
from replay.config import ReplayConfig
from replay.pace.slices import shard_of_rank

CPU = torch.device("cpu")
GAMES = tuple(spec.name for spec in signals.GAMES)


@pytest.fixture(scope="session")
def teachers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teachers")
    for seed, game in enumerate(GAMES):
        save_random_expert(folder, game, torso="minatar", seed=seed)
    return folder


@pytest.fixture
def config(teachers):
    return RunConfig(
        games=GAMES,
        num_steps=400,
        engine="local",
        seed=3,
        actors=("2", f"{GAMES[1]}=3"),
        teachers=tuple(f"{game}={teachers / game}.safetensors" for game in GAMES),
        actor=ActorConfig(num_envs=2, chunk_steps=8),
        replay=ReplayConfig(
            batch_size=16,
            capacity_per_game=200,
            min_size_per_game=40,
            samples_per_insert=2.0,
            samples_per_insert_cap=4.0,
            error_buffer=100.0,
            num_shards=2,
        ),
        learner=LearnerConfig(publish_period=5),
        network=NetworkConfig(torso="minatar"),
        evaluation=EvaluationConfig(num_episodes=2, num_envs=2),
        checkpoint=CheckpointConfig(keep=2),
    )


def endless(engine, *, until=math.inf):
    """Play to the end, or until so many updates are made."""
    while engine.advance(0.002) and engine.progress().updates < until:
        pass


def test_a_run_plays_its_steps_also_where_the_learner_may_be_ahead_by_all_of_them(config):
    replay = dataclasses.replace(config.replay, error_buffer=1e6)
    engine = LocalEngine(Recipe(dataclasses.replace(config, replay=replay)), device=CPU)
    endless(engine)
    progress = engine.progress()
    engine.close()
    assert progress.updates == 400 * 2 / 16
    # The last round of all seven actors plays to its end.
    assert 400 <= progress.steps < 400 + 7 * 2 * 8


class TracedLosses:
    """An objective that keeps every loss."""

    def __init__(self, objective, losses):
        self.num_successors = objective.num_successors
        self.state = objective.state
        self.load_state = objective.load_state
        self.after_update = objective.after_update
        self._objective = objective
        self._losses = losses

    def __call__(self, batch):
        result = self._objective(batch)
        self._losses.append(result.loss.item())
        return result


@dataclasses.dataclass(frozen=True)
class TracedRecipe(Recipe):
    """Keeps every loss."""

    losses: list = dataclasses.field(default_factory=list)

    def build_objective(self, network, device):
        objective = Recipe.build_objective(self, network, device)
        return TracedLosses(objective, self.losses)


def loss_trace(config) -> list[float]:
    recipe = TracedRecipe(config)
    engine = LocalEngine(recipe, device=CPU)
    endless(engine)
    engine.close()
    assert len(recipe.losses) == config.num_updates == 50
    return recipe.losses


# The same every time


def test_the_same_seed_gives_the_same_losses_and_another_seed_others(config):
    first = loss_trace(config)
    assert loss_trace(config) == first
    other = loss_trace(dataclasses.replace(config, seed=4))
    assert all(a != b for a, b in zip(first, other, strict=True))


def test_how_the_time_is_cut_does_not_change_the_run(config):
    in_one_piece = LocalEngine(Recipe(config), device=CPU)
    assert not in_one_piece.advance(math.inf)
    in_pieces = LocalEngine(Recipe(config), device=CPU)
    endless(in_pieces)
    assert same(in_pieces.state(), in_one_piece.state())
    assert in_pieces.progress().steps == in_one_piece.progress().steps > 0


def test_stopping_at_numbers_of_updates_is_exact_and_does_not_change_the_run(config):
    uncut = LocalEngine(Recipe(config), device=CPU)
    assert not uncut.advance(math.inf)
    cut = LocalEngine(Recipe(config), device=CPU)
    for updates in (0, 1, 8, 8, 9, 30):  # A round has more than one update, so some cut it.
        cut.advance_to(updates)
        assert cut.snapshot().version.updates == updates
    assert not cut.advance(math.inf)
    assert same(cut.state(), uncut.state())
    cut.advance_to(1_000)
    assert cut.snapshot().version.updates == config.num_updates


def same(left, right) -> bool:
    """Whether nested containers hold equal tensors and values."""
    if isinstance(left, torch.Tensor):
        return torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    return left == right


def test_a_run_makes_its_updates_and_keeps_to_samples_per_insert(config):
    engine = LocalEngine(Recipe(config), device=CPU)
    endless(engine)
    progress = engine.progress()
    assert progress.updates == 50
    sampled = sum(game.sampled for game in progress.games.values())
    assert sampled == 50 * 16
    # What was stored before learning began does not count; 100 is the error buffer.
    inserted = sum(game.inserted for game in progress.games.values())
    assert abs(2.0 * (inserted - 2 * 40) - sampled) <= 2 * (2 * 100 + 2 * 2 * 16 + 2 * 40)
    assert [game.actors for game in progress.games.values()] == [2, 3]
    assert all(0 < game.replay.size <= 200 for game in progress.games.values())
    assert progress.faults == {}


@pytest.mark.parametrize("num_shards", [1, 2, 3])
def test_serial_numbers_are_new_and_tie_a_rank_to_its_shard(num_shards):
    unused, serials = 0, []
    for game_index, rank in ((0, 0), (0, 1), (1, 2), (1, 0), (2, 1), (0, 1), (2, 2), (1, 0)):
        serial = claim_serial(unused, game_index=game_index, rank=rank, num_shards=num_shards)
        assert unused <= serial < unused + num_shards
        assert serial % num_shards == shard_of_rank(game_index, rank, num_shards)
        serials.append(serial)
        unused = serial + 1
    assert len(set(serials)) == len(serials)


# Going on from a checkpoint


@pytest.fixture
def halfway(config, tmp_path):
    """An engine stopped after about 20 updates, and what its checkpoint gives back."""
    engine = LocalEngine(Recipe(config), device=CPU)
    endless(engine, until=20)
    save_checkpoint(tmp_path, engine.state(), num_updates=20, keep=1)
    return engine, load_newest(tmp_path)


def test_a_resumed_run_begins_where_its_checkpoint_was_written(config, halfway):
    before, state = halfway
    after = LocalEngine(Recipe(config), device=CPU, state=state)
    old, new = before.progress(), after.progress()
    assert new.updates == old.updates >= 20
    assert {g: p.steps for g, p in new.games.items()} == {g: p.steps for g, p in old.games.items()}
    learner = after.state()["learner"]
    assert learner["num_updates"] == old.updates
    assert same(learner["network"], before.state()["learner"]["network"])
    optimizer = learner["optimizer"]
    assert same(optimizer, before.state()["learner"]["optimizer"])
    assert any(value["step"] == old.updates for value in optimizer["state"].values())
    assert learner["incarnation"] == before.state()["learner"]["incarnation"] + 1


def test_a_run_can_be_resumed_with_other_numbers_of_actors_and_shards(config, halfway):
    before, state = halfway
    replay = dataclasses.replace(config.replay, num_shards=1)
    wider = dataclasses.replace(config, actors=("3",), replay=replay)
    engine = LocalEngine(Recipe(wider), device=CPU, state=state)
    endless(engine)
    progress = engine.progress()
    assert progress.updates == 50
    assert [game.actors for game in progress.games.values()] == [3, 3]
    assert progress.steps > before.progress().steps


# Replay on disk


def engine_with_replay(config, folder, *, state=None, notes=None):
    return LocalEngine(
        Recipe(config),
        device=CPU,
        state=state,
        replay_dir=folder,
        note=(lambda line: None) if notes is None else notes.append,
    )


def replay_sizes(engine) -> dict:
    return {game: progress.replay.size for game, progress in engine.progress().games.items()}


def test_writing_replay_to_disk_does_not_change_a_run(config, tmp_path):
    often = dataclasses.replace(
        config, replay=dataclasses.replace(config.replay, snapshot_period_s=1e-6)
    )
    recipe = TracedRecipe(often)
    engine = LocalEngine(recipe, device=CPU, replay_dir=tmp_path)
    endless(engine)
    assert engine.progress().snapshots.num_written > 5
    engine.close()
    assert recipe.losses == loss_trace(config)


@pytest.mark.parametrize("num_shards", [2, 1])
def test_a_resumed_run_begins_with_the_replay_that_it_ended_with(config, tmp_path, num_shards):
    before = engine_with_replay(config, tmp_path)
    endless(before, until=20)
    before.close()
    sizes, state, notes = replay_sizes(before), before.state(), []
    replay = dataclasses.replace(config.replay, num_shards=num_shards)
    config = dataclasses.replace(config, replay=replay)
    after = engine_with_replay(config, tmp_path, state=state, notes=notes)
    assert replay_sizes(after) == sizes
    assert min(sizes.values()) > 40
    assert len([line for line in notes if "goes on with" in line]) == num_shards
    endless(after)
    assert after.progress().updates == config.num_updates
    for shard in after._shards:
        shard.check_valid()
    after.close()
    assert len(list(tmp_path.iterdir())) == num_shards


def test_a_resumed_run_never_gives_an_actor_a_number_that_replay_knows(config, tmp_path):
    before = engine_with_replay(config, tmp_path)
    endless(before, until=5)
    old = before.state()  # A checkpoint that is older than the snapshots.
    old["next_serial"] = 0
    before.close()
    after = engine_with_replay(config, tmp_path, state=old)
    endless(after)
    assert after.progress().updates == config.num_updates


def test_settings_of_a_game_change_in_all_shards_or_in_none(config):
    engine = LocalEngine(Recipe(config), device=CPU)
    endless(engine, until=10)
    # Game 1 has three actors, so it is in both shards, and each has half of its quota.
    settings = engine.configure(GAMES[1], share=2.0, quota=150, samples_per_insert_cap=3.0)
    assert (settings.share, settings.quota, settings.samples_per_insert_cap) == (2.0, 150, 3.0)
    assert [s.stats().tables[GAMES[1]].capacity for s in engine._shards] == [75, 75]
    before = [shard.stats() for shard in engine._shards]
    with pytest.raises(ValueError, match=r"must not be below replay\.samples_per_insert"):
        engine.configure(GAMES[1], share=3.0, samples_per_insert_cap=1.0)
    assert [shard.stats() for shard in engine._shards] == before
    assert engine.progress().games[GAMES[1]].replay.share == 2.0
    endless(engine)
    assert engine.progress().updates == config.num_updates


def test_a_run_with_more_shards_than_actors_of_a_game_reaches_its_end(config):
    replay = dataclasses.replace(config.replay, num_shards=3)
    recipe = TracedRecipe(dataclasses.replace(config, actors=("1", f"{GAMES[1]}=2"), replay=replay))
    engine = LocalEngine(recipe, device=CPU)
    endless(engine)
    assert len(recipe.losses) == config.num_updates
    held = [[table.size > 0 for table in shard.stats().tables.values()] for shard in engine._shards]
    assert held == [[True, False], [False, True], [False, True]]
    for shard in engine._shards:
        shard.check_valid()


def test_what_the_newest_policy_has_played_needs_no_correction(config):
    """Weights are rounded to half precision on their way to actors, and nothing else differs."""
    sequences = ActorCriticConfig(sequence_length=4)
    config = dataclasses.replace(config, objective="actor_critic", actor_critic=sequences)
    engine = LocalEngine(Recipe(config), device=CPU)
    engine.advance_to(1)
    assert engine.progress().metrics["v_trace_clipped"] < 1e-3
    engine.close()


# The command


@pytest.fixture
def options(teachers, tmp_path, monkeypatch):
    """A smoke run of the signal games, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return [
        *("--preset", "smoke", "--engine", "local", "--games", *GAMES),
        *teacher_options(teachers, GAMES),
        *("--network.torso", "minatar", "--num-steps", "300", "--report-period-s", "0.05"),
        *("--evaluation.num-episodes", "3", "--evaluation.num-envs", "3"),
        *("--evaluation.period-steps", "200", "--seed", "5"),
        *("--report-at-end", "False"),
    ]


def test_a_whole_run_in_one_process_ends_with_a_valid_summary(options, tmp_path, capsys):
    main([*options, "--run-dir", "run"])
    run = tmp_path / "run"
    summary = read_summary(run)
    Summary.model_validate(summary)
    assert (summary["preset"], summary["seed"], summary["updates"]) == ("smoke", 5, 19)
    assert set(summary["games"]) == set(GAMES)
    for game in GAMES:
        row = summary["games"][game]
        assert row["student"]["episodes"] == row["teacher"]["episodes"] == 3
        assert 0.0 <= row["agreement"] <= 1.0
        assert summary["steps"][game] > 0
    assert not any(summary["faults"].values())
    assert "the run has reached its end" in capsys.readouterr().out


def test_a_finished_run_goes_on_when_it_is_resumed_with_more_steps(options, tmp_path, capsys):
    main([*options, "--run-dir", "run"])
    first = read_summary(tmp_path / "run")
    main(["--resume", "run", "--num-steps", "600", "--actors", "2"])
    second = read_summary(tmp_path / "run")
    Summary.model_validate(second)
    assert second["updates"] == 38
    assert "goes on with" in capsys.readouterr().out
    assert all(second["steps"][game] > first["steps"][game] for game in GAMES)
    assert second["wall_seconds"] > first["wall_seconds"]
    assert second["preset"] == "smoke"
    rows = read_metrics(tmp_path / "run")
    # From the checkpoint, which is before the last test.
    seconds = [row["seconds"] for row in rows if not any(key.startswith("test/") for key in row)]
    assert seconds == sorted(seconds), "the clock of a resumed run goes on"
    assert {row["updates"] for row in rows} >= {19, 38}


def test_what_a_checkpoint_cannot_follow_is_refused(options, tmp_path):
    main([*options, "--run-dir", "run"])
    before = (tmp_path / "run" / "summary.json").read_bytes()
    for words in (
        ["--learner.optimizer", "centered_rmsprop"],
        ["--protocol", "modern"],
        ["--replay.batch-size", "64"],
        ["--replay.samples-per-insert", "1"],
    ):
        name = words[0].removeprefix("--").replace("-", "_")
        with pytest.raises(ValueError, match=f"--resume cannot change {name}"):
            main(["--resume", "run", "--num-steps", "600", *words])
    with pytest.raises(ValueError, match=r"has made 19 updates, and --num-steps 100 asks for"):
        main(["--resume", "run", "--num-steps", "100"])
    assert (tmp_path / "run" / "summary.json").read_bytes() == before


def test_a_run_does_not_go_on_with_other_teachers(options, teachers, tmp_path):
    main([*options, "--run-dir", "run"])
    other = save_random_expert(tmp_path, GAMES[1], torso="minatar", seed=9)
    swapped = [f"{GAMES[0]}={teachers / GAMES[0]}.safetensors", f"{GAMES[1]}={other}"]
    with pytest.raises(ValueError, match="--resume cannot change teachers_of"):
        main(["--resume", "run", "--num-steps", "600", "--teachers", *swapped])


def test_a_folder_that_cannot_be_used_is_refused_before_anything_is_tried(options, tmp_path):
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "notes.txt").write_text("mine")
    for folder, said in (("used", "has something in it already"), ("a b", "cannot be the name")):
        with pytest.raises(ValueError, match=said):
            main([*options, "--run-dir", folder, "--teachers", f"{GAMES[0]}=nowhere.safetensors"])


def test_a_run_that_ended_before_its_first_checkpoint_begins_anew(options, tmp_path):
    main([*options, "--run-dir", "run"])
    for path in (tmp_path / "run" / "checkpoints").iterdir():
        path.unlink()
    main(["--resume", "run"])
    assert read_summary(tmp_path / "run")["updates"] == 19
    assert load_newest(tmp_path / "run" / "checkpoints")["learner"]["incarnation"] == 0


@pytest.fixture
def interrupted(options, monkeypatch):
    """Interrupts a long run after its third look."""
    rounds = []

    def interrupt(engine, seconds, *, until_updates):
        rounds.append(seconds)
        if len(rounds) == 3:
            raise KeyboardInterrupt
        return advance(engine, 0.01)

    advance = LocalEngine.advance
    monkeypatch.setattr(LocalEngine, "advance", interrupt)

    def run():
        with pytest.raises(KeyboardInterrupt):
            main([*options, "--num-steps", "100000", "--run-dir", "run"])

    return run


def test_an_interrupted_run_leaves_a_checkpoint_and_a_summary(interrupted, tmp_path):
    interrupted()
    run = tmp_path / "run"
    summary = read_summary(run)
    Summary.model_validate(summary)
    assert summary["games"][GAMES[0]]["student"]["mean"] is None
    state = load_newest(run / "checkpoints")
    assert state["learner"]["num_updates"] >= summary["updates"]
    assert state["steps"] == summary["steps"]
    assert sum(summary["steps"].values()) > 0


@pytest.mark.parametrize("failure", [TimeoutError(), RuntimeError("the learner has died")])
def test_an_interrupted_run_whose_learner_does_not_answer_has_a_summary(
    interrupted, tmp_path, monkeypatch, failure
):
    def wait_in_vain(engine):
        raise failure

    monkeypatch.setattr(LocalEngine, "snapshot", wait_in_vain)
    interrupted()
    Summary.model_validate(read_summary(tmp_path / "run"))
    assert list_checkpoints(tmp_path / "run" / "checkpoints") == []


def test_an_interrupted_run_does_not_wait_for_a_learner_that_hangs(
    interrupted, tmp_path, monkeypatch
):
    released = threading.Event()
    monkeypatch.setattr(LocalEngine, "snapshot", lambda engine: released.wait())
    monkeypatch.setattr("engines.supervisor._LAST_SAVE_S", 0.1)
    interrupted()
    released.set()
    Summary.model_validate(read_summary(tmp_path / "run"))


def test_a_run_interrupted_during_its_last_test_has_checkpoint_and_summary(
    options, tmp_path, monkeypatch
):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("recipes.evaluation.run_test", interrupt)
    with pytest.raises(KeyboardInterrupt):
        main([*options, "--evaluation.period-steps", "0", "--run-dir", "run"])
    summary = read_summary(tmp_path / "run")
    Summary.model_validate(summary)
    assert summary["updates"] == 19
    assert load_newest(tmp_path / "run" / "checkpoints")["learner"]["num_updates"] == 19


def test_training_that_diverges_says_so_and_keeps_a_checkpoint_that_is_sound(options, tmp_path):
    options = [
        *options,
        *("--learner.learning-rate", "1e30", "--checkpoint.period-s", "0.001"),
        # Time for a checkpoint before the learning begins.
        *("--replay.min-size-per-game", "500", "--report-period-s", "0.005"),
    ]
    # A look, and so a checkpoint, in every round: also before the learner has begun.
    options += ["--report-period-s", "0.0001"]
    with pytest.raises(ValueError, match="diverged"):
        main([*options, "--run-dir", "run"])
    kept = load_newest(tmp_path / "run" / "checkpoints")["learner"]
    assert all(value.isfinite().all() for value in kept["network"].values())
    assert load_student(tmp_path / "run" / "student").games == GAMES


def test_a_run_whose_summary_cannot_be_written_does_not_end_well(options, tmp_path):
    main([*options, "--run-dir", "run"])
    summary = tmp_path / "run" / "summary.json"
    summary.unlink()
    summary.mkdir()
    with pytest.raises(
        ValueError, match=r"reached its end, but summary\.json was not written: Is a"
    ):
        main(["--resume", "run", "--num-steps", "600"])
    assert load_newest(tmp_path / "run" / "checkpoints")["learner"]["num_updates"] == 38
