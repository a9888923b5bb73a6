"""First priorities against loops written from their definitions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.priorities import PolicyDistance, TdError
from actors.rows import RowWindow
from replay.columns import EntryShape

LEGAL = np.array([True, False, True, True])


def build_window(*, num_envs, chunk_steps, num_lookahead):
    return RowWindow(
        EntryShape(frame_shape=(1, 2, 2), num_actions=len(LEGAL), num_teacher_actions=len(LEGAL)),
        num_envs=num_envs,
        chunk_steps=chunk_steps,
        num_lookahead=num_lookahead,
    )


def play_at_random(window, rng):
    """Fill a window with episodes that end, are truncated and lose lives in all orders."""
    num_rows, num_envs = window["rewards"].shape
    window["student_logits"][:] = rng.normal(size=window["student_logits"].shape)
    window["rewards"][:] = rng.normal(size=window["rewards"].shape) * 2
    window["actions"][:] = rng.choice(np.flatnonzero(LEGAL), size=window["actions"].shape)
    for env in range(num_envs):
        ended = truncated = False
        for row in range(num_rows):
            window.is_entry[row, env] = not ended or truncated
            window["is_transition"][row, env] = not ended
            event = rng.choice(["play", "end", "cut", "life"], p=[0.55, 0.15, 0.15, 0.15])
            if ended:
                # This step only restarts the game.
                ended = truncated = False
                window["rewards"][row, env] = 0.0
                window["discounts"][row, env] = 1.0
                continue
            window["discounts"][row, env] = event not in ("end", "life")
            ended, truncated = event in ("end", "cut"), event == "cut"


def slow_td_error(window, row, env, *, num_steps, gamma, reward_clip):
    """|n-step target - Q(a)| of one transition, from the definition."""
    total, factor, current = 0.0, 1.0, row
    for _ in range(num_steps):
        if not window["is_transition"][current, env]:
            break  # A truncated episode's last observation: bootstrap here.
        reward = min(max(float(window["rewards"][current, env]), -reward_clip), reward_clip)
        total += factor * reward
        factor *= gamma
        if window["discounts"][current, env] == 0:
            factor = 0.0
            break
        current += 1
    if factor:
        legal_q = [window["student_logits"][current, env, a] for a in np.flatnonzero(LEGAL)]
        total += factor * float(max(legal_q))
    taken = window["student_logits"][row, env, window["actions"][row, env]]
    return abs(total - float(taken))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    num_steps=st.integers(1, 5),
    chunk_steps=st.integers(1, 8),
    num_envs=st.integers(1, 3),
)
def test_td_errors_equal_a_slow_loop_with_ends_and_truncations_anywhere(
    seed, num_steps, chunk_steps, num_envs
):
    window = build_window(num_envs=num_envs, chunk_steps=chunk_steps, num_lookahead=num_steps)
    play_at_random(window, np.random.default_rng(seed))
    rule = TdError(LEGAL, num_steps=num_steps, gamma=0.9, reward_clip=1.0)
    assert rule.num_lookahead == num_steps
    priorities = rule(window)
    assert priorities.shape == (chunk_steps, num_envs)
    assert priorities.dtype == np.float32
    for row in range(chunk_steps):
        for env in range(num_envs):
            if window["is_transition"][row, env]:
                expected = slow_td_error(
                    window, row, env, num_steps=num_steps, gamma=0.9, reward_clip=1.0
                )
                assert priorities[row, env] == pytest.approx(expected, abs=1e-5)
    assert np.isfinite(priorities).all()
    assert (priorities >= 0).all()


def random_logits(rng, *shape):
    return rng.normal(size=(*shape, len(LEGAL))).astype(np.float32)


@pytest.mark.parametrize("kind", ["l1", "kl"])
def test_policy_distances_equal_a_slow_loop(kind):
    rng = np.random.default_rng(0)
    window = build_window(num_envs=3, chunk_steps=4, num_lookahead=0)
    window["student_logits"][:] = random_logits(rng, 4, 3)
    window["teacher_logits"][:] = random_logits(rng, 4, 3)
    window["student_logits"][..., 1] = 30.0
    window["teacher_logits"][..., 1] = -30.0
    rule = PolicyDistance(LEGAL, temperature=0.3, kind=kind)
    assert rule.num_lookahead == 0
    priorities = rule(window)
    assert priorities.dtype == np.float32
    for row in range(4):
        for env in range(3):
            legal = np.flatnonzero(LEGAL)
            teacher = np.exp(window["teacher_logits"][row, env, legal].astype(float) / 0.3)
            student = np.exp(window["student_logits"][row, env, legal].astype(float))
            p, q = teacher / teacher.sum(), student / student.sum()
            expected = np.abs(p - q).sum() if kind == "l1" else (p * np.log(p / q)).sum()
            assert priorities[row, env] == pytest.approx(expected, rel=1e-4)
