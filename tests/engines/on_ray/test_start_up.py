"""What is said while a run starts."""

import pytest

from engines.on_ray import start_up
from engines.on_ray.role_processes import RoleProcess
from engines.on_ray.start_up import StartUp

WANTED = {"actor/pong": 2, "actor/boxing": 1, "learner": 1}


@pytest.fixture
def scene(monkeypatch):
    return Scene(monkeypatch)


class Scene:
    """Processes that come up when a test says so."""

    def __init__(self, monkeypatch):
        self.up, self.starting, self.notes, self.seconds = [], [], [], 0.0
        monkeypatch.setattr(
            start_up,
            "find_processes",
            lambda run, are_up=True: self.up if are_up else self.starting,
        )
        monkeypatch.setattr(start_up, "log_folder", lambda: "/logs")
        self.start_up = StartUp("run", WANTED, note=self.notes.append, clock=lambda: self.seconds)

    def look(self, seconds, *roles):
        self.seconds = seconds
        self.up = [RoleProcess(role=role, rank=0, pid=1, node="n") for role in roles]
        self.start_up.look()
        notes, self.notes[:] = list(self.notes), []
        return notes


def test_a_start_says_how_many_actors_are_up_whenever_that_has_changed(scene):
    assert scene.look(1.0) == [], "too soon"
    assert scene.look(6.0) == ["0 of 3 actors started; learner still to come"]
    assert scene.look(12.0) == [], "nothing is new"
    assert scene.look(18.0, "actor/pong", "learner") == ["1 of 3 actors started"]
    everybody = ("actor/pong", "actor/pong", "actor/boxing", "learner")
    assert scene.look(19.0, *everybody) == ["all processes of the run are up"]
    assert scene.look(60.0) == [], "a death later on is no start"


def test_a_role_that_does_not_come_up_is_named_once_with_its_log(scene):
    scene.starting = [
        RoleProcess(role="learner", rank=0, pid=77, node="n"),
        RoleProcess(role="actor/pong", rank=1, pid=0, node=""),
    ]
    _, *late = scene.look(30.0)
    assert late == [
        "learner 0 has not come up within 30 s; its log is worker-*-77.err in /logs",
        "actor/pong 1 has not come up within 30 s, for which Ray has found no room or no process; "
        "its log is /logs",
    ]
    assert scene.look(31.0) == []
