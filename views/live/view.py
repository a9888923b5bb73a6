"""What the live page is told: one JSON document of what is known of a run now, and its curves.

Numbers and words only; how they look is said in views/live/web/. Pure functions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from games.registry import get_game
from games.spec import normalized_score
from records.run_record import Row, as_row, number
from records.verdict import judge
from views.live.source import Seen
from views.live.teacher_cards import card_score

# Keys of metrics.jsonl that the page has a place for; docs/metrics.md explains them.
FIGURES = (
    "steps_per_second", "frames_per_second", "samples_per_second", "updates_per_second",
    "samples_per_insert", "policy_lag", "policy_loss", "policy_distance", "feature_loss", "td_loss",
    "distillation_loss", "value_loss", "policy_gradient_loss", "entropy", "v_trace_clipped",
    "insert_waiting", "sample_waiting", "replay/bytes", "gradient_cosine", "gradient_cosine_floor",
)  # fmt: skip

_GAME_CURVES = ("steps_per_second", "return", "actors")
_TEST_FIGURES = ("mean", "std", "max", "episodes", "agreement", "kl", "teacher_mean")


def describe(seen: Seen) -> dict[str, Any]:
    """The run as it is now."""
    latest = seen.history.latest
    state, note = _state(seen)
    steps, updates = latest.get("steps", 0.0), latest.get("updates", 0.0)
    return {
        "name": seen.name,
        "preset": str(seen.meta.get("preset", "")),
        "state": state,
        "note": note,
        "created": seen.meta.get("created"),
        "host": str((seen.status or {}).get("host", "")),
        "seconds": _seconds(seen, state),
        "steps": steps,
        "updates": updates,
        "num_steps": number(seen.config.get("num_steps")),
        "num_updates": _num_updates(seen.config),
        "left_s": latest.get("seconds_left") if state == "training" else None,
        "period_s": seen.period_s,
        "frames_per_step": _frames_per_step(seen.history.looks),
        "figures": _figures(seen, state),
        "means": state in ("ended", "stopped") and seen.summary is not None,
        "faults": {
            key.removeprefix("faults/"): value
            for key, value in latest.items()
            if key.startswith("faults/")
        },
        "games": [_game(game, seen, state) for game in map(str, seen.config["games"])],
        "verdict": _verdict(seen),
        "population": seen.population,
        "events": [_event(event) for event in seen.events[-100:]],
    }


def curves(seen: Seen) -> dict[str, Any]:
    """Columns of the curves, and every test of every game."""
    games = list(map(str, seen.config["games"]))
    keys = [*FIGURES, *(f"game/{game}/{key}" for game in games for key in _GAME_CURVES)]
    return {
        "looks": seen.history.curves(keys),
        "tests": {game: _tests(game, seen.history.tests) for game in games},
    }


def newest_point(row: Row, games: Sequence[str]) -> Row:
    """The part of a look that goes on the curves."""
    keys = ["seconds", "steps", *FIGURES]
    keys += [f"game/{game}/{key}" for game in games for key in _GAME_CURVES]
    return {key: row[key] for key in keys if key in row}


def _state(seen: Seen) -> tuple[str, str]:
    """One word for a program, and a sentence for people where something is to be known."""
    if seen.status is not None:
        phase = str(seen.status.get("phase", "training"))
        return phase, {"testing": "The student plays its last test."}.get(phase, "")
    # Written at the end of a session: an earlier one's, while the run goes on after --resume.
    if seen.summary is not None and not (seen.redis == "lost" and seen.is_written):
        finished = _is_finished(seen)
        return ("ended", "") if finished else ("stopped", "Interrupted; --resume goes on with it.")
    if seen.redis == "lost":
        return "lost", "Redis does not answer; what is shown may be old."
    if seen.is_written:
        return "training", ""
    if seen.silent_s is None and seen.redis == "none":
        return "starting", "Nothing has been measured yet."
    return "stopped", "Nothing is heard of its launcher; --resume goes on with the run."


def _is_finished(seen: Seen) -> bool:
    updates, wanted = number((seen.summary or {}).get("updates")), _num_updates(seen.config)
    return updates is None or wanted is None or updates >= wanted


def _num_updates(config: Mapping[str, Any]) -> float | None:
    """Updates of the whole run, as recipes.config.RunConfig.num_updates has it."""
    replay = config.get("replay")
    steps = number(config.get("num_steps"))
    if not isinstance(replay, Mapping) or steps is None:
        return None
    ratio, batch = number(replay.get("samples_per_insert")), number(replay.get("batch_size"))
    return math.ceil(steps * ratio / batch) if ratio and batch else None


def _seconds(seen: Seen, state: str) -> float | None:
    """Time of all sessions; of a run that has ended, as its summary says."""
    latest = seen.history.latest
    known = latest.get("wall_seconds", latest.get("seconds"))
    if state in ("ended", "stopped"):
        return number((seen.summary or {}).get("wall_seconds")) or known
    return known


def _figures(seen: Seen, state: str) -> dict[str, float]:
    """The newest ones; of a run that has ended, the means over all of it where there are any."""
    figures = {key: seen.history.latest[key] for key in FIGURES if key in seen.history.latest}
    if state in ("ended", "stopped") and seen.summary is not None:
        figures.pop("frames_per_second", None)  # No summary has its mean.
        means = seen.summary.get("throughput")
        for key, value in means.items() if isinstance(means, Mapping) else ():
            if (mean := number(value)) is not None:
                figures["policy_lag" if key == "policy_lag_mean" else key] = mean
    return figures


def _frames_per_step(looks: Sequence[Row]) -> float | None:
    """Frames per step, measured in the newest look with any; a mean where games differ."""
    for row in reversed(looks):
        steps, frames = row.get("steps_per_second"), row.get("frames_per_second")
        if steps and frames:
            return float(f"{frames / steps:.3g}")
    return None


def _game(game: str, seen: Seen, state: str) -> dict[str, Any]:
    latest = seen.history.latest
    prefix = f"game/{game}/"
    figures = {key.removeprefix(prefix): x for key, x in latest.items() if key.startswith(prefix)}
    random, human = _references(game)
    teacher = _teacher(game, seen)
    # Without a teacher, what a network comes close to is human play.
    goal = human if teacher is None else teacher
    test = _last_test(game, seen, state)
    if test is not None:
        test["normalized"] = _normalized(test.get("mean"), random, goal)
    return {
        "name": game,
        **_actors(game, seen),
        "random": random,
        "human": human,
        "teacher": teacher,
        "goal": goal,
        "best": _best_test(game, seen, test),
        "figures": figures,
        "test": test,
        "normalized_return": _normalized(figures.get("return"), random, goal),
    }


def _actors(game: str, seen: Seen) -> dict[str, Any]:
    """Actors of each game as the launcher says, else as in the last look."""
    actors: dict[str, Any] = {}
    keys = {"live": "actors", "wanted": "actors_wanted", "waiting": "actors_pending"}
    for name, key in keys.items():
        said = number(_dig(seen.status, "games", game, name))
        actors[name] = seen.history.latest.get(f"game/{game}/{key}") if said is None else said
    refused = _dig(seen.status, "refused", game)
    return actors | {"refused": refused if isinstance(refused, str) else None}


def _last_test(game: str, seen: Seen, state: str) -> dict[str, float | None] | None:
    """The student's last test; for a run that has ended, the one in its summary."""
    summary = _dig(seen.summary, "games", game) if state in ("ended", "stopped") else None
    if number(_dig(summary, "student", "mean")) is not None:
        figures = {**_dig(summary, "student"), "agreement": _dig(summary, "agreement")}
        return {name: number(value) for name, value in figures.items()}
    # Those in the status are for who has no file.
    told = [as_row(_dig(seen.status, "tests")) or {}]
    tests = _tests(game, seen.history.tests) or _tests(game, told)
    return {**tests[-1]} if tests else None


def _best_test(game: str, seen: Seen, last: Mapping[str, float | None] | None) -> float | None:
    """Mean score of the best test so far."""
    means = [test["mean"] for test in _tests(game, seen.history.tests)]
    if last is not None and (mean := last.get("mean")) is not None:
        means.append(mean)
    return max(means, default=None)


def _teacher(game: str, seen: Seen) -> float | None:
    """Mean score on the teacher's card; None for a game without a teacher."""
    candidates = (
        _dig(seen.status, "games", game, "teacher"),
        _dig(seen.summary, "games", game, "teacher", "mean"),
        seen.history.latest.get(f"test/{game}/teacher_mean"),
        # Known before the first test, and without a launcher to ask.
        card_score(seen.config, game),
        # What the run itself saw the teacher score.
        seen.history.latest.get(f"teacher/{game}/mean"),
    )
    return next((x for value in candidates if (x := number(value)) is not None), None)


def _references(game: str) -> tuple[float | None, float | None]:
    try:
        spec = get_game(game)
    except ValueError:  # Registered in another process only.
        return None, None
    return spec.random_score, spec.human_score


def _normalized(score: object, random: float | None, teacher: float | None) -> float | None:
    if (value := number(score)) is None or random is None or teacher is None:
        return None
    return normalized_score(value, random, teacher)


def _tests(game: str, rows: Sequence[Row]) -> list[Row]:
    """Figures of each test of a game, oldest first."""
    tests = []
    for row in rows:
        test = {
            key: row[f"test/{game}/{key}"] for key in _TEST_FIGURES if f"test/{game}/{key}" in row
        }
        if "mean" in test:
            tests.append({key: row[key] for key in ("seconds", "steps") if key in row} | test)
    return tests


def _verdict(seen: Seen) -> dict[str, Any] | None:
    """What limits the run: as the run says itself, or from its newest figures."""
    status = seen.status
    if status is None:
        found = judge(seen.history.latest)
        verdict = None if found is None else asdict(found)
    else:
        verdict = status.get("verdict")
    if not isinstance(verdict, Mapping) or not isinstance(verdict.get("limit"), str):
        return None
    numbers = verdict.get("numbers")
    return {
        "limit": verdict["limit"],
        "reason": str(verdict.get("reason", "")),
        "advice": str(verdict.get("advice", "")),
        "numbers": {
            str(key): value
            for key, x in (numbers.items() if isinstance(numbers, Mapping) else ())
            if (value := number(x)) is not None
        },
    }


def _event(event: Mapping[str, Any]) -> dict[str, Any]:
    text = str(event.get("event", ""))
    return {"seconds": number(event.get("seconds")), "text": text, "kind": _kind(text)}


def _kind(text: str) -> str:
    """What an event is about, by its words."""
    if "checkpoint" in text:
        return "checkpoint"
    if any(word in text for word in ("died", "restart", "lost", "cannot")):
        return "fault"
    return "scale" if "->" in text or "waiting for room" in text else "other"


def _dig(document: object, *path: str) -> Any:
    for key in path:
        document = document.get(key) if isinstance(document, Mapping) else None
    return document
