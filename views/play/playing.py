"""Plays one game step by step for people to look at: the screen, and what the networks think.

One network acts; any number of networks judge the states that it meets. Rules are those of a test:
raw scores, and a lost life does not end an episode.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from actors.policy import EpsilonGreedy
from games.camera import FilmedEnv
from games.env import get_protocol
from games.spec import GameSpec
from networks.masking import masked_softmax
from networks.network import MultitaskNetwork
from teachers.expert import Expert
from teachers.targets import teacher_policy

if TYPE_CHECKING:
    pass


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a network thinks of one state; float32 [A] each."""

    scores: NDArray[np.float32]
    """The largest legal one is played."""
    policy: NDArray[np.float32]
    """Probabilities; exactly 0 where an action is illegal."""


class Judge(Protocol):
    """A network that plays."""

    def judge(self, observations: Tensor) -> Judgement:
        """Of one observation, uint8 [1, S*C, H, W]."""
        ...


class StudentJudge:
    """A student in one game."""

    def __init__(self, student: MultitaskNetwork, spec: GameSpec) -> None:
        """Act as in `spec`'s game from now on."""
        self._student = student.act_as(spec.name).eval()
        self._legal_A = torch.from_numpy(spec.legal_mask())

    def judge(self, observations: Tensor) -> Judgement:
        """The student's policy is its masked softmax, without a temperature."""
        with torch.inference_mode():
            logits_BA = self._student(observations)
            policy_BA = masked_softmax(logits_BA, self._legal_A)
        return Judgement(logits_BA[0].numpy(), policy_BA[0].numpy())


class TeacherJudge:
    """A teacher, with the temperature that makes a policy of its values."""

    def __init__(self, teacher: Expert, temperature: float) -> None:
        """`temperature` is that which the student was taught with."""
        self._teacher = teacher
        self._temperature = temperature

    def judge(self, observations: Tensor) -> Judgement:
        """The policy is the one that a student is to imitate."""
        logits_BA = self._teacher.label(observations).logits_BA
        policy_BA = teacher_policy(logits_BA, self._teacher.legal_A, self._temperature)
        return Judgement(logits_BA[0].numpy(), policy_BA[0].numpy())


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One state of a game that is played, as it is shown."""

    screen: NDArray[np.uint8]
    """[H, W, 3]."""
    policies: Mapping[str, NDArray[np.float32]]
    """Of every judge: probabilities [A] in this state."""
    action: int | None
    """Joint action id that is played here; None after an episode's last step."""
    score: float
    """Of the episode, up to here."""
    step: int
    """Of the episode, from 0."""
    episode: int
    """From 0."""


def play(
    spec: GameSpec,
    player: str,
    judges: Mapping[str, Judge],
    *,
    protocol: str,
    epsilon: float,
    seed: int,
    num_episodes: int,
    num_steps: int,
) -> Iterator[Moment]:
    """Play until so many episodes or steps are over, whichever comes first.

    Args:
        spec: the game.
        player: which of the judges acts.
        judges: by name.
        protocol: name of the emulator's rules.
        epsilon: probability of a random legal action.
        seed: of the game and of random actions; the same seed starts the same game for everyone.
        num_episodes: at most.
        num_steps: at most, all episodes together.
    """
    env = FilmedEnv(spec, protocol=get_protocol(protocol), seed=seed)
    choose = EpsilonGreedy(spec.legal_mask(), np.random.default_rng(seed))
    try:
        observations = env.reset()
        step_count = episode = step = 0
        score = 0.0
        while step_count < num_steps and episode < num_episodes:
            judged = _judge(judges, observations)
            drawn = choose(judged[player].scores[None], np.array([epsilon], np.float32))
            action = int(drawn.actions[0])
            screen, result = env.screen, env.step(action)
            observations = result.observations
            if result.restarted[0]:
                continue  # Nobody has played: the emulator only began an episode.
            policies = {name: judgement.policy for name, judgement in judged.items()}
            yield Moment(
                screen=screen, policies=policies, action=action, score=score, step=step,
                episode=episode,
            )  # fmt: skip
            step_count, step = step_count + 1, step + 1
            score += float(result.rewards[0])
            if result.terminated[0] or result.truncated[0]:
                yield Moment(
                    screen=env.screen, policies=policies, action=None, score=score, step=step,
                    episode=episode,
                )  # fmt: skip
                episode, step, score = episode + 1, 0, 0.0
    finally:
        env.close()


def _judge(judges: Mapping[str, Judge], observations: NDArray[np.uint8]) -> dict[str, Judgement]:
    tensor = torch.from_numpy(observations)
    return {name: judge.judge(tensor) for name, judge in judges.items()}


TEACHER = "teacher"
STUDENT = "student"
STEPS_PER_SECOND = 15.0
"""Of an Atari game at its real speed: 60 frames a second, 4 frames a step."""


def play_together(
    spec: GameSpec,
    judges: Mapping[str, Judge],
    *,
    protocol: str,
    epsilon: float,
    seed: int,
    num_episodes: int,
    num_steps: int,
) -> Iterator[dict[str, Moment]]:
    """Every network plays its own game from the same start; who has finished stands still."""
    games = [
        play(
            spec,
            player,
            judges,
            protocol=protocol,
            epsilon=epsilon,
            seed=seed,
            num_episodes=num_episodes,
            num_steps=num_steps,
        )
        for player in judges
    ]
    latest: dict[str, Moment] = {}
    for moments in zip_longest(*games):
        latest |= {
            player: moment
            for player, moment in zip(judges, moments, strict=True)
            if moment is not None
        }
        yield dict(latest)
