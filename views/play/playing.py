"""Plays one game step by step for people to look at: the screen, and what the networks think.

One network acts; any number of networks say what they think of the states that it meets. The rules
are those of a test: raw scores, and a lost life does not end an episode.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from actors.policy import EpsilonGreedy
from games.camera import FilmedEnv
from games.env import get_protocol
from games.spec import GameSpec, Observations
from networks.masking import masked_softmax
from networks.network import MultitaskNetwork
from teachers.expert import Expert
from teachers.targets import teacher_policy

TEACHER = "teacher"
STUDENT = "student"
# Pace of an Atari game at its real speed: 60 frames a second, 4 frames a step.
STEPS_PER_SECOND = 15.0


@dataclass(frozen=True, slots=True)
class Opinion:
    """What a network thinks of one state; float32 [A] each."""

    # The action with the largest legal score is played.
    scores: NDArray[np.float32]
    # Probabilities; exactly 0 where an action is illegal.
    policy: NDArray[np.float32]
    # What a network with an LSTM remembers after this state, [1, M].
    memory: Tensor | None = None


class PlayingNetwork(Protocol):
    """A network that can play one game and say what it thinks of a state."""

    def think(self, observations: Tensor, before: Opinion | None) -> Opinion:
        """The network's opinion of one observation [1, S*C, H, W], or [1, S*C].

        `before` is its opinion of the state before; None where an episode begins.
        """
        ...


class PlayingStudent:
    """A student in one game."""

    def __init__(self, student: MultitaskNetwork, spec: GameSpec, temperature: float) -> None:
        """Act as in `spec`'s game from now on; softmax(scores / temperature) is the policy."""
        self._student = student.act_as(spec.name).eval()
        self._temperature = temperature
        self._legal_A = torch.from_numpy(spec.legal_mask())

    def think(self, observations: Tensor, before: Opinion | None) -> Opinion:
        """The scores of the student and the policy that they mean."""
        with torch.inference_mode():
            remembered = None if before is None else before.memory
            scores_BA, memory = self._student.look(observations, remembered)
            policy_BA = masked_softmax(scores_BA / self._temperature, self._legal_A)
        return Opinion(scores_BA[0].numpy(), policy_BA[0].numpy(), memory)


class PlayingTeacher:
    """A teacher; its policy is the one that a student is to imitate."""

    def __init__(self, teacher: Expert, temperature: float) -> None:
        """Soften the teacher's values by `temperature`, with which the student was taught."""
        self._teacher = teacher
        self._temperature = temperature

    def think(self, observations: Tensor, before: Opinion | None) -> Opinion:
        """The values of the teacher and the policy at the temperature."""
        logits_BA = self._teacher.label(observations).logits_BA
        policy_BA = teacher_policy(logits_BA, self._teacher.legal_A, self._temperature)
        return Opinion(logits_BA[0].numpy(), policy_BA[0].numpy())


def build_networks(
    student: MultitaskNetwork,
    spec: GameSpec,
    *,
    teacher: Expert | None,
    temperature: float,
    student_temperature: float,
) -> dict[str, PlayingNetwork]:
    """The networks that play a game beside each other: the teacher first, if there is one.

    Each has the temperature that makes a policy of what it gives.
    """
    networks: dict[str, PlayingNetwork] = {}
    if teacher is not None:
        networks[TEACHER] = PlayingTeacher(teacher, temperature)
    networks[STUDENT] = PlayingStudent(student, spec, student_temperature)
    return networks


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One state of a game that is played, as it is shown."""

    # Red, green and blue, [H, W, 3].
    screen: NDArray[np.uint8]
    # Probabilities [A] in this state, by the name of the network.
    policies: Mapping[str, NDArray[np.float32]]
    # Joint action id that is played here; None after an episode's last step.
    action: int | None
    # Raw score of the episode up to here.
    score: float
    # Number of the step in its episode, from 0.
    step: int
    # Number of the episode, from 0.
    episode: int


def play(
    spec: GameSpec,
    player: str,
    networks: Mapping[str, PlayingNetwork],
    *,
    protocol: str,
    epsilon: float,
    seed: int,
    num_episodes: int,
    num_steps: int,
) -> Iterator[Moment]:
    """Play until `num_episodes` or `num_steps` are over, whichever comes first."""
    # The same seed starts the same game for every player.
    env = FilmedEnv(spec, protocol=get_protocol(protocol), seed=seed)
    choose = EpsilonGreedy(spec.legal_mask(), np.random.default_rng(seed))
    try:
        observations = env.reset()
        opinions: Mapping[str, Opinion] = {}
        step_count = episode = step = 0
        score = 0.0
        while step_count < num_steps and episode < num_episodes:
            opinions = _ask(networks, observations, opinions)
            drawn = choose(opinions[player].scores[None], np.array([epsilon], np.float32))
            action = int(drawn.actions[0])
            screen, result = env.screen, env.step(action)
            observations = result.observations
            if result.restarted[0]:
                # Nobody has played: the emulator only began an episode.
                opinions = {}
                continue
            policies = {name: opinion.policy for name, opinion in opinions.items()}
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


def _ask(
    networks: Mapping[str, PlayingNetwork],
    observations: Observations,
    before: Mapping[str, Opinion],
) -> dict[str, Opinion]:
    tensor = torch.from_numpy(observations)
    return {name: network.think(tensor, before.get(name)) for name, network in networks.items()}


def play_together(
    spec: GameSpec,
    networks: Mapping[str, PlayingNetwork],
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
            networks,
            protocol=protocol,
            epsilon=epsilon,
            seed=seed,
            num_episodes=num_episodes,
            num_steps=num_steps,
        )
        for player in networks
    ]
    latest: dict[str, Moment] = {}
    for moments in zip_longest(*games):
        latest |= {
            player: moment
            for player, moment in zip(networks, moments, strict=True)
            if moment is not None
        }
        yield dict(latest)


def describe_scores(moments: Mapping[str, Moment]) -> str:
    """Everybody's score in words, "teacher 21, student 19"."""
    return ", ".join(f"{player} {moment.score:g}" for player, moment in moments.items())
