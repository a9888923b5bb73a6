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


def one_env(num_steps, columns):
    """A window of one environment from (reward, discount, is_entry, is_transition, best q)."""
    window = build_window(num_envs=1, chunk_steps=1, num_lookahead=num_steps)
    for row, (reward, discount, is_entry, is_transition, best) in enumerate(columns):
        window["rewards"][row] = reward
        window["discounts"][row] = discount
        window.is_entry[row] = is_entry
        window["is_transition"][row] = is_transition
        # An illegal action looks better still.
        window["student_logits"][row, 0] = [best - 1, best + 50, best, best - 2]
    return window


def priority(window, num_steps):
    return TdError(LEGAL, num_steps=num_steps, gamma=0.5, reward_clip=1.0)(window)[0, 0]


def test_a_td_error_worked_out_by_hand():
    window = one_env(2, [(1, 1, True, True, 10), (5, 1, True, True, 20), (0, 1, True, True, 8)])
    # 1 + 0.5 * 1 (clipped) + 0.25 * 8 - 9 (action 0: the best but one)
    assert priority(window, 2) == pytest.approx(abs(1 + 0.5 + 2 - 9))


def test_a_real_end_within_the_window_does_not_bootstrap():
    window = one_env(2, [(1, 0, True, True, 10), (7, 1, False, False, 99), (9, 1, True, True, 99)])
    assert priority(window, 2) == pytest.approx(abs(1 - 9))


def test_a_truncation_within_the_window_bootstraps_from_the_last_observation():
    window = one_env(2, [(1, 1, True, True, 10), (0, 1, True, False, 6), (1, 1, True, True, 99)])
    assert priority(window, 2) == pytest.approx(abs(1 + 0.5 * 6 - 9))


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


@pytest.mark.parametrize("kind", ["l1", "kl"])
def test_a_student_that_does_what_the_teacher_does_has_no_priority(kind):
    window = build_window(num_envs=2, chunk_steps=3, num_lookahead=0)
    window["teacher_logits"][:] = random_logits(np.random.default_rng(1), 3, 2)
    window["student_logits"][:] = window["teacher_logits"] / 0.5 + 7.0
    priorities = PolicyDistance(LEGAL, temperature=0.5, kind=kind)(window)
    np.testing.assert_allclose(priorities, 0.0, atol=1e-6)
