"""Writes pong_classic.json: a checksum over 200 steps of Pong at a fixed seed.

Experts and students are only worth something on the pixels they were trained on. If the checksum
changes with a new version of ale-py, find out what changed before running this again:

    python tests/games/golden/make_pong_classic.py
"""

import hashlib
import json
from pathlib import Path

import numpy as np

from games import get_game, make_vector_env

NUM_STEPS = 200
NUM_ENVS = 2
SEED = 20_160_229


def record_pong():
    """Play and return what is stored: the checksum and what it was taken over."""
    spec = get_game("pong")
    env = make_vector_env(spec, num_envs=NUM_ENVS, protocol="classic", seed=SEED)
    digest = hashlib.sha256(env.reset().tobytes())
    total_reward = 0.0
    for step in range(NUM_STEPS):
        # Written out instead of drawn, so that it does not depend on a random number generator.
        actions = np.array([spec.legal_actions[(step // 3 + e) % 6] for e in range(NUM_ENVS)])
        played = env.step(actions)
        digest.update(played.observations.tobytes())
        total_reward += float(played.rewards.sum())
    env.close()
    return {
        "game": spec.name,
        "protocol": "classic",
        "num_steps": NUM_STEPS,
        "num_envs": NUM_ENVS,
        "seed": SEED,
        "total_reward": total_reward,
        "sha256": digest.hexdigest(),
    }


if __name__ == "__main__":
    path = Path(__file__).with_name("pong_classic.json")
    path.write_text(json.dumps(record_pong(), indent=2) + "\n")
