"""Distil DQN checkpoints of Stable-Baselines3, one for each game, in one student.

    python examples/distil_checkpoints.py OUT STEPS EPISODES pong=dqn_pong.zip boxing=dqn_boxing.zip

EPISODES is the length of each test. A file may also be an address on the Hub:
pong=hf://sb3/dqn-PongNoFrameskip-v4.
"""

import sys
from pathlib import Path

from actor_mimic import configure, evaluate, train
from teachers.importing import import_teacher

out, steps, episodes = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
teachers = dict(word.split("=", 1) for word in sys.argv[4:])
for game, checkpoint in teachers.items():
    print(import_teacher(checkpoint, game=game, format=None, folder=out / "teachers"))

run = train(
    configure(
        "quickstart",
        {
            "games": list(teachers),
            "teachers": [f"{game}={out}/teachers/{game}.safetensors" for game in teachers],
            "num_steps": steps,
            "evaluation.check_teachers": episodes,
            "evaluation.num_episodes": episodes,
            "engine": "local",
            "run_dir": str(out / "run"),
        },
    )
)
for game, row in evaluate(run.folder, episodes=episodes).items():
    print(f"{game}: {row['mean']:.1f} +- {row['std']:.1f}")
