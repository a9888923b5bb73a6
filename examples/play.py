"""Play a game with a student, or with a shipped expert, in a plain Gymnasium loop.

python examples/play.py pong                    the shipped expert
python examples/play.py pong runs/latest        the student of a run; or hf://OWNER/REPO
"""

import sys

from actor_mimic import GameEnv, Student, load_teacher

game = sys.argv[1]
player = Student.load(sys.argv[2]).playing(game) if len(sys.argv) > 2 else load_teacher(game)

env = GameEnv(game)
observation, info = env.reset(seed=1)
player.forget()  # An episode begins, for students that remember.
score, steps, ended = 0.0, 0, False
while not ended:
    observation, reward, terminated, truncated, info = env.step(player.act(observation))
    score, steps, ended = score + reward, steps + 1, terminated or truncated
print(f"{game}: {score:g} in {steps} steps")
