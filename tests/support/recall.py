"""A game for which one must remember: a side is shown first, and asked for five steps later.

Whoever sees single frames wins every second time, whatever it does.
"""

import gymnasium
import numpy as np

from games import GameSpec, register_gym_game

STEPS = 3


class Recall(gymnasium.Env):
    """Fields of 4x4: the cue in the first frame, nothing in the next ones, a question in the last.

    The action in the last frame wins 1 if it is the side of the cue, and loses 1 otherwise.
    """

    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time, self.side = 0, int(self.np_random.integers(2))
        return self.picture(), {}

    def step(self, action):
        is_last = self.time == STEPS
        self.time += 1
        reward = (1.0 if int(action) == self.side else -1.0) if is_last else 0.0
        return self.picture(), reward, is_last, False, {}

    def picture(self):
        picture = np.zeros((4, 4, 3), np.uint8)
        if self.time == 0:
            picture[:, :, self.side] = 255
        elif self.time == STEPS:
            picture[:, :, 2] = 255
        return picture


spec = GameSpec(
    name="recall", family="recall", num_actions=2, legal_actions=(0, 1), frame_shape=(3, 4, 4),
    random_score=0.0, human_score=1.0,
)  # fmt: skip
register_gym_game(spec, Recall)
