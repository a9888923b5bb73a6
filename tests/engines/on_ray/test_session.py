"""Joining a cluster that does not let one in: one line, with what to look at."""

import os
from types import SimpleNamespace

import pytest
import ray
from ray.exceptions import AuthenticationError

from engines.on_ray import session
from engines.on_ray.session import check_reachable, one_line_if_refused


@pytest.mark.parametrize(
    "error",
    [
        ConnectionError("Could not find any running Ray instance.\nPlease specify one."),
        RuntimeError("Failed to connect to GCS.\n" * 100),
        AuthenticationError("Token authentication is enabled\nbut no token was found."),
    ],
)
def test_a_cluster_that_refuses_is_one_line_with_where_to_look(error):
    with (
        pytest.raises(ValueError, match="cannot join the Ray cluster at RAY_ADDRESS=auto") as no,
        one_line_if_refused("auto"),
    ):
        raise error
    assert str(error).split()[0] in str(no.value)
    assert "RAY_AUTH_MODE and the token" in str(no.value)
    assert "\n" not in str(no.value)
    assert len(str(no.value)) < 600


@pytest.mark.parametrize("port", ["1", "99999", "9" * 30])
def test_a_port_that_nobody_has_or_can_have_is_no_cluster(port):
    with pytest.raises(ValueError, match="no Ray cluster answers at RAY_ADDRESS=127"):
        check_reachable(f"127.0.0.1:{port}")


def test_a_ray_that_does_not_come_up_in_its_time_is_one_line(monkeypatch):
    said = "The current node timed out during startup. This could happen because some of the ..."

    def init(**options):
        raise Exception(said)  # As Ray does.

    monkeypatch.setattr(session, "num_roles", lambda recipe: 1)
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(os, "environ", {"RAY_AUTH_MODE": "disabled"})
    learner = SimpleNamespace(num_replicas=1)
    recipe = SimpleNamespace(num_actors={"pong": 1}, config=SimpleNamespace(learner=learner))
    with pytest.raises(ValueError, match=r"^Ray did not start within 30 s, .*--engine local$"):
        session._start_own_ray(recipe)
    said = "something else"
    with pytest.raises(Exception, match=r"^something else$"):
        session._start_own_ray(recipe)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (
            "ray://10.0.0.1:10001",
            "an address of Ray Client, which cannot carry a run; give HOST:PORT",
        ),
        ("http://127.0.0.1:8265", "an address of the dashboard, for 'ray job submit'"),
        ("10.0.0.1", "is not of the form HOST:PORT, such as 10.0.0.1:6379"),
        (":6379", "is not of the form HOST:PORT"),
        ("head:port", "is not of the form HOST:PORT"),
    ],
)
def test_an_address_that_is_none_of_a_cluster_is_refused_with_what_to_give(address, message):
    with pytest.raises(ValueError, match=message) as refusal:
        check_reachable(address)
    assert "\n" not in str(refusal.value)


def test_a_million_actors_are_refused_before_anything_is_started(monkeypatch):
    started = []
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "init", lambda **options: started.append(options))
    crowd = SimpleNamespace(games=("pong",), num_actors={"pong": 1_000_000})
    with (
        pytest.raises(ValueError, match="pong cannot have 1000000 actors"),
        session.ray_session(crowd),
    ):
        pass
    monkeypatch.setattr(session, "available_memory_bytes", lambda: 4 << 30)
    monkeypatch.setattr(session, "num_roles", lambda recipe: 1000)
    crowd = SimpleNamespace(games=("pong",), num_actors={"pong": 1_000})
    with (
        pytest.raises(ValueError, match=r"1000 more actors need .*4\.0 GiB are available; add at"),
        session.ray_session(crowd),
    ):
        pass
    team = SimpleNamespace(num_replicas=500)
    crowd = SimpleNamespace(
        games=("pong",), num_actors={"pong": 1}, config=SimpleNamespace(learner=team)
    )
    with (
        pytest.raises(ValueError, match=r"500 more learners need .* add at most 9"),
        session.ray_session(crowd),
    ):
        pass
    assert not started
