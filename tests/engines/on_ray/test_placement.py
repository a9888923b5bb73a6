"""Which node the learner goes to."""

from engines.on_ray.placement import choose_learner_node


def node(name, *, cpus=4.0, gpus=0.0, alive=True):
    return {"NodeID": name, "Alive": alive, "Resources": {"CPU": cpus, "GPU": gpus}}


def test_the_launching_node_is_taken_if_it_will_do():
    nodes = [node("big", cpus=64.0), node("here")]
    assert choose_learner_node(nodes, here="here", needs_gpu=False) == "here"


def test_a_learner_that_needs_a_gpu_goes_where_one_is():
    nodes = [node("here"), node("gpu", gpus=1.0), node("far", cpus=2.0, gpus=1.0)]
    assert choose_learner_node(nodes, here="here", needs_gpu=True) == "gpu"


def test_nodes_that_are_gone_or_have_no_cpu_are_none():
    nodes = [node("here", cpus=0.0), node("gone", alive=False), node("there")]
    assert choose_learner_node(nodes, here="here", needs_gpu=False) == "there"


def test_where_no_node_will_do_none_is_named():
    assert choose_learner_node([node("here")], here="here", needs_gpu=True) == ""
