"""What a program of your own needs: train, load, play and test. docs/api.md has examples."""

from actor_mimic.agents import Agent, Student, Teacher, load_teacher
from actor_mimic.testing import evaluate
from actor_mimic.training import Run, configure, resume, train
from games.single_env import GameEnv
from recipes.config import RunConfig

__all__ = [
    "Agent",
    "GameEnv",
    "Run",
    "RunConfig",
    "Student",
    "Teacher",
    "configure",
    "evaluate",
    "load_teacher",
    "resume",
    "train",
]
