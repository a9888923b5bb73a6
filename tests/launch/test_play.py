"""Playing a student beside its teacher: whose game is shown, what both think, and the film."""

import numpy as np
import pytest
import torch
from PIL import Image
from recorded_runs import make_run

from actors.evaluator import evaluate
from games.env import get_protocol
from games.registry import get_game, make_vector_env
from launch.play import PlayOptions, main
from recipes.ranges import check_ranges
from teachers.expert import load_expert
from views.play.playing import Opinion, PlayingTeacher, play

SPEC = get_game("breakout")


class Always:
    """Prefers one action, and is as sure of it as it can be."""

    def __init__(self, action):
        self.action = action
        self.seen = 0

    def think(self, observations, before):
        self.seen += 1
        policy = np.zeros(SPEC.num_actions, np.float32)
        policy[self.action] = 1.0
        return Opinion(policy, policy)


def play_moments(networks, player="one", **kwargs):
    settings = {
        "protocol": "classic", "epsilon": 0.0, "seed": 3, "num_episodes": 1, "num_steps": 30,
    }  # fmt: skip
    return list(play(SPEC, player, networks, **{**settings, **kwargs}))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(
        tmp_path_factory.mktemp("runs") / "run",
        games=["pong", "breakout"],
        num_tests=1,
        num_looks=1,
    )


# Playing


def test_the_player_acts_and_everybody_judges_the_same_states():
    networks = {"one": Always(3), "other": Always(4)}
    moments = play_moments(networks)
    assert len(moments) == 30
    assert {moment.action for moment in moments} == {3}
    assert networks["one"].seen == networks["other"].seen == 30
    assert all(moment.policies["other"][4] == 1.0 for moment in moments)
    assert [moment.step for moment in moments] == list(range(30))


def test_an_illegal_favourite_is_never_played():
    moments = play_moments({"one": Always(17)})
    assert {moment.action for moment in moments} <= set(SPEC.legal_actions)


def test_steps_and_scores_are_those_of_an_evaluation():
    expert = load_expert("breakout")
    moments = play_moments(
        {"one": PlayingTeacher(expert, 1.0)}, num_episodes=2, num_steps=10**6, epsilon=0.9, seed=11
    )
    env = make_vector_env(SPEC, num_envs=1, protocol=get_protocol("classic"), seed=11)
    result = evaluate(expert, env, num_episodes=2, epsilon=0.9, seed=11)
    env.close()
    ends = [moment for moment in moments if moment.action is None]
    assert tuple(end.score for end in ends) == result.returns
    assert sum(end.step for end in ends) == result.steps
    assert sum(moment.action is not None for moment in moments) == result.steps


# What networks think


def observations():
    return torch.randint(0, 256, (1, 4, 84, 84), generator=torch.Generator().manual_seed(1)).to(
        torch.uint8
    )


# The command


def test_the_command_writes_a_film_of_both(run, tmp_path, capsys):
    out = tmp_path / "film.gif"
    main([str(run.path), "--game", "breakout", "--steps", "12", "--out", str(out), "--scale", "1"])
    with Image.open(out) as film:
        assert film.n_frames == 12
        assert film.width > 2 * 160
        assert film.info["duration"] == 70
    assert capsys.readouterr().out.startswith(f"{out}: 12 steps, 1 s")


@pytest.mark.parametrize("suffix", [".webp", ".png"])
def test_a_student_without_its_run_plays_beside_the_shipped_expert(run, tmp_path, suffix):
    out = tmp_path / f"film{suffix}"
    main([str(run.student), "--game", "pong", "--steps", "5", "--out", str(out), "--scale", "1"])
    with Image.open(out) as film:
        assert film.n_frames == 5


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--game", "qbert"], "the student does not play 'qbert'; it has pong, breakout"),
        (["--game", "pong", "--out", "film.avi"], "end its name in .webp"),
        (["--game", "pong", "--out", "nowhere/film.gif"], "there is no folder nowhere"),
        (["--game", "pong", "--teacher", "no.safetensors"], "expert no.safetensors is missing"),
        (["--game", "pong", "--watch"], "there is no terminal"),
    ],
)
def test_what_cannot_be_played_or_shown_is_refused(run, tmp_path, monkeypatch, words, expected):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=expected):
        main([str(run.path), *words])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"steps": 0}, "steps must lie between 1"),
        ({"epsilon": 1.5}, "epsilon must lie between"),
        ({"speed": 0.0}, "speed must lie between"),
        ({"seed": -1}, "seed must not be negative"),
        ({"protocol": "moden"}, "unknown protocol"),
        ({"watch": True, "out": "a.gif"}, "leave watch or out away"),
    ],
)
def test_options_that_make_no_sense_are_refused(changed, expected):
    with pytest.raises(ValueError, match=expected):
        check_ranges(PlayOptions(target="x", game="pong", **changed))


# The terminal


def test_an_expert_plays_by_itself(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main(["pong", "--steps", "40"])
    with Image.open(tmp_path / "pong.webp") as film:
        assert film.n_frames == 40
    assert "pong.webp: 40 steps" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pong", "--game", "breakout"], "pong plays pong and nothing else"),
        (["pong", "--teacher", "pong"], "an expert plays alone"),
    ],
)
def test_an_expert_is_not_asked_for_more(words, message):
    with pytest.raises(ValueError, match=message):
        main(words)


def test_a_student_is_asked_which_game(run):
    with pytest.raises(ValueError, match=r"which game\?"):
        main([str(run.path)])
