"""Settings of acting. Imports no torch: a command line is read before that is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Interval

from replay.types import STREAMS_PER_ACTOR_BITS


@dataclass(frozen=True, slots=True, kw_only=True)
class ActorConfig:
    """How an actor plays."""

    num_envs: Annotated[int, Interval(ge=1, le=1 << STREAMS_PER_ACTOR_BITS)] = 16
    """Environments in one actor's vector."""
    chunk_steps: Annotated[int, Ge(1)] = 16
    """Steps of every environment in one chunk."""
    epsilon: Annotated[float, Interval(ge=0, le=1)] = 0.1
    """Exploration rate (paper: 0.1, constant)."""
    exploration: Literal["constant", "ladder"] = "constant"
    """`constant`: every environment explores with `epsilon`; `ladder`: Ape-X's spread over all
    environments of a game."""
    anneal_steps: Annotated[int, Ge(0)] = 0
    """Steps of one environment over which exploration falls from 1 (0: at once)."""
    act_with: Literal["student", "teacher"] = "student"
    """Whose best action is played (paper: the student's)."""
    inference: Literal["actor", "server"] = "actor"
    """Where the student computes: in each actor's process, or in one server's for all actors, on
    the learner's kind of device; worth it for a large network. Only for students on Ray."""
    inference_max_batch: Annotated[int, Ge(1)] = 256
    """Most states that the server computes at once."""
    inference_max_wait_s: Annotated[float, Ge(0)] = 0.002
    """Seconds that the server waits for more actors to ask before it computes."""
