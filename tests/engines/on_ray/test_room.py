"""Whether a cluster has room, and what is said and asked while it has none."""

import pytest

from engines.on_ray import room as cluster_room
from engines.on_ray.room import Room, find_shortage, wait_for_room


def node(*, cpus=0.0, gpus=0.0, alive=True):
    return {"Alive": alive, "Resources": {"CPU": cpus, "GPU": gpus}}


@pytest.mark.parametrize(
    ("need", "nodes", "expected"),
    [
        (Room(cpus=4), [node(cpus=4)], ""),
        (Room(cpus=4), [node(cpus=2), node(cpus=2)], ""),
        (Room(cpus=4, gpus=1), [node(cpus=3), node(cpus=1, gpus=1)], ""),
        (Room(cpus=4), [node(cpus=3)], "needs 4 CPUs, but the cluster has 3 CPUs"),
        (Room(cpus=1), [], "needs 1 CPU, but the cluster has 0 CPUs"),
        (Room(cpus=4), [node(cpus=4, alive=False)], "needs 4 CPUs, but the cluster has 0 CPUs"),
        # A role is on one node.
        (Room(cpus=2), [node(cpus=1.5), node(cpus=0.5)], "needs 2 CPUs, but the cluster has 1 CPU"),
        (
            Room(cpus=4, gpus=1),
            [node(cpus=4)],
            "needs 4 CPUs and 1 GPU, but the cluster has 4 CPUs",
        ),
        (
            Room(cpus=4, gpus=2),
            [node(cpus=4, gpus=1)],
            "needs 4 CPUs and 2 GPUs, but the cluster has 4 CPUs and 1 GPU",
        ),
        (
            Room(cpus=4, gpus=1),
            [node(cpus=4), node(gpus=1)],
            "needs 4 CPUs and 1 GPU, but the cluster has too few CPUs on nodes with GPUs",
        ),
    ],
)
def test_what_is_missing_is_said(need, nodes, expected):
    assert find_shortage(need, nodes) == expected


class Cluster:
    """Nodes that come one by one, and an autoscaler that hears what it is asked for."""

    def __init__(self, *nodes, looks_until_next=1):
        self._nodes = list(nodes)
        self._looks = 0
        self._until_next = looks_until_next
        self.requests = []

    def nodes(self):
        self._looks += 1
        return self._nodes[: 1 + self._looks // self._until_next]


@pytest.fixture
def join(monkeypatch):
    def with_nodes(*nodes, grows):
        cluster = Cluster(*nodes)
        monkeypatch.setattr(cluster_room, "_ray", cluster)
        monkeypatch.setattr(cluster_room, "_LOOK_PERIOD_S", 0.001)
        monkeypatch.setattr(cluster_room, "has_autoscaler", lambda: grows)
        monkeypatch.setattr(
            cluster_room, "request_resources", lambda bundles: cluster.requests.append(bundles)
        )
        return cluster

    return with_nodes


def test_a_cluster_that_does_not_grow_is_refused_at_once_with_what_to_do(join):
    join(node(cpus=4), grows=False)
    with pytest.raises(ValueError, match="needs 7 CPUs and 1 GPU, but the cluster has 4 CPUs") as e:
        wait_for_room(Room(cpus=7, gpus=1), wait_s=None, note=lambda text: pytest.fail(text))
    for advice in ("fewer --actors", "more nodes", "--device cpu", "--cluster-wait-s"):
        assert advice in str(e.value)
    assert "\n" not in str(e.value)


def test_the_autoscaler_is_asked_and_the_request_taken_back(join):
    cluster = join(node(cpus=1), node(cpus=2), node(cpus=3), node(cpus=1, gpus=1), grows=True)
    notes = []
    wait_for_room(Room(cpus=7, gpus=1), wait_s=None, note=notes.append)
    assert cluster.requests == [[{"CPU": 1.0, "GPU": 1.0}, *[{"CPU": 1.0}] * 6], []]
    assert notes[0].startswith("the run needs 7 CPUs and 1 GPU, but the cluster has ")
    assert notes[0].endswith("; waiting for the autoscaler")
    assert len(notes) == len(set(notes)), "the same is said again"


def test_a_wait_can_be_asked_for_without_an_autoscaler(join):
    cluster = join(node(cpus=1), node(cpus=2), grows=False)
    notes = []
    wait_for_room(Room(cpus=3), wait_s=60.0, note=notes.append)
    assert notes in (
        [],
        ["the run needs 3 CPUs, but the cluster has 1 CPU; waiting for more nodes"],
    )
    assert cluster.requests == []


def test_nodes_that_never_come_end_the_wait_with_what_is_missing(join):
    cluster = join(node(cpus=1), grows=True)
    with pytest.raises(ValueError, match=r"has 1 CPU after 0\.05 s of waiting for the autoscaler"):
        wait_for_room(Room(cpus=3), wait_s=0.05, note=lambda text: None)
    assert cluster.requests[-1] == [], "nothing may be asked for any longer"
