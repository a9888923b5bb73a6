"""Joining a cluster that does not let one in: one line, with what to look at."""

import os

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


def test_other_errors_are_not_hidden():
    with pytest.raises(KeyError), one_line_if_refused("auto"):
        raise KeyError("a defect")


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
    monkeypatch.setattr(os, "environ", {})
    with pytest.raises(ValueError, match=r"^Ray did not start within 30 s, .*--engine local$"):
        session._connect(None)
    said = "something else"
    with pytest.raises(Exception, match=r"^something else$"):
        session._connect(None)
