"""What `ray up`, Docker, Compose and KubeRay are given: valid, complete, closed to the outside."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

_ROOT = Path(__file__).resolve().parents[2]
_SCHEMAS = Path(__file__).parent / "schemas"
_CLUSTERS = ("cluster.yaml", "cluster-gcp.yaml", "cluster-ssh.yaml")


def _load(name: str) -> Any:
    return yaml.safe_load((_ROOT / name).read_text())


def _pyproject() -> dict[str, Any]:
    return tomllib.loads((_ROOT / "pyproject.toml").read_text())


def _top_level_packages() -> set[str]:
    return {name.split(".")[0] for name in _pyproject()["tool"]["setuptools"]["packages"]}


def _pinned(package: str) -> str:
    constraints = (_ROOT / "constraints.txt").read_text()
    found = re.search(rf"^{package}==(\S+)$", constraints, re.MULTILINE)
    assert found, package
    return found[1]


def _commands(config: dict[str, Any]) -> list[str]:
    return [line for name, lines in config.items() if name.endswith("_commands") for line in lines]


@pytest.mark.parametrize("name", _CLUSTERS)
def test_ray_accepts_the_cluster_file(name: str) -> None:
    config = prepare_config(_load(name))
    if name == "cluster.yaml":
        # Asks AWS for the sizes of its machines; the schema wants some.
        config["available_node_types"]["head"]["resources"] = {"CPU": 8, "GPU": 1}
        config["available_node_types"]["actors"]["resources"] = {"CPU": 16}
    validate_config(config)


@pytest.mark.parametrize("name", _CLUSTERS)
def test_every_package_and_what_pip_needs_is_copied_to_the_nodes(name: str) -> None:
    copied = {
        Path(there).name: here
        for there, here in _load(name)["file_mounts"].items()
        if there.startswith("~/actor-mimic/")
    }
    assert all((_ROOT / here).exists() and there == here for there, here in copied.items())
    files = {"LICENSE", "README.md", "constraints.txt", "pyproject.toml"}
    assert set(copied) == _top_level_packages() | files


@pytest.mark.parametrize("name", _CLUSTERS)
def test_nodes_ask_for_the_token_and_keep_it_to_themselves(name: str) -> None:
    config = _load(name)
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert any("chmod 600 ~/.ray/auth_token" in line for line in config["setup_commands"])
    assert any("RAY_AUTH_MODE=token" in line for line in config["setup_commands"])


@pytest.mark.parametrize("name", _CLUSTERS)
def test_the_dashboard_stays_on_loopback(name: str) -> None:
    commands = _load(name)["head_start_ray_commands"]
    starting = [line for line in commands if "ray start --head" in line]
    assert len(starting) == 1
    assert "--dashboard-host=127.0.0.1" in starting[0]


def test_the_image_is_built_from_every_package_and_nothing_else() -> None:
    dockerfile = (_ROOT / "docker/Dockerfile").read_text()
    copied = set()
    for line in dockerfile.splitlines():
        if line.startswith("COPY") and "--from" not in line:
            *sources, _ = [word for word in line.split()[1:] if not word.startswith("--")]
            copied |= set(sources)
    allowed = {
        line[1:] for line in (_ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"
    }
    files = {"LICENSE", "README.md", "constraints.txt", "pyproject.toml", "docker/healthcheck.sh"}
    assert copied == allowed == _top_level_packages() | files
    assert "*" in (_ROOT / ".dockerignore").read_text().splitlines()


@pytest.mark.parametrize("name", ["docker/kuberay.yaml", "docker/compose.yaml"])
def test_image_and_ray_have_the_versions_of_the_project(name: str) -> None:
    text = (_ROOT / name).read_text()
    assert set(re.findall(r"actor-mimic:(\d\S+)", text)) == {_pyproject()["project"]["version"]}
    assert set(re.findall(r"rayVersion: (\S+)", text)) <= {_pinned("ray")}


@pytest.mark.parametrize("name", ["docker/compose.yaml", "docker/monitoring/compose.yaml"])
def test_compose_file_follows_the_specification(name: str) -> None:
    compose = _load(name)
    assert re.fullmatch("[a-z0-9][a-z0-9_-]*", compose.pop("name"))  # Newer than the schema.
    schema = json.loads((_SCHEMAS / "compose-spec.json").read_text())
    jsonschema.Draft201909Validator(schema).validate(compose)


def test_containers_of_compose_are_confined_and_listen_on_loopback() -> None:
    compose = _load("docker/compose.yaml")
    assert compose["networks"]["alone"]["internal"] is True
    for name, service in compose["services"].items():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
        if name.startswith("train"):
            assert service["networks"] == ["alone"]
            assert service["shm_size"] == "4gb"


def _kubernetes(kind: str) -> dict[str, Any]:
    documents = list(yaml.safe_load_all((_ROOT / "docker/kuberay.yaml").read_text()))
    found = [document for document in documents if document["kind"] == kind]
    assert len(found) == 1
    result: dict[str, Any] = found[0]
    return result


def test_ray_cluster_of_kubernetes_has_known_fields_only() -> None:
    schema = json.loads((_SCHEMAS / "ray-cluster.json").read_text())
    jsonschema.Draft7Validator.check_schema(schema)
    jsonschema.validate(_kubernetes("RayCluster"), schema)


def _pods() -> list[dict[str, Any]]:
    spec = _kubernetes("RayCluster")["spec"]
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    return [group["template"]["spec"] for group in groups]


def test_pods_are_confined_limited_and_have_shared_memory() -> None:
    for pod in _pods():
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        for container in pod["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["limits"] == container["resources"]["requests"]
            mounts = {m["mountPath"]: volumes[m["name"]] for m in container["volumeMounts"]}
            assert mounts["/dev/shm"]["emptyDir"]["medium"] == "Memory"


def test_only_pods_of_the_cluster_may_connect_to_its_pods_and_with_a_token() -> None:
    cluster, policy = _kubernetes("RayCluster"), _kubernetes("NetworkPolicy")["spec"]
    assert cluster["spec"]["authOptions"] == {"mode": "token"}
    assert cluster["spec"]["headGroupSpec"]["rayStartParams"]["dashboard-host"] == "127.0.0.1"
    ours = {"matchLabels": {"ray.io/cluster": cluster["metadata"]["name"]}}
    assert policy["podSelector"] == ours
    assert policy["ingress"] == [{"from": [{"podSelector": ours}]}]
    assert policy["policyTypes"] == ["Ingress"]


@pytest.mark.parametrize("name", [*_CLUSTERS, "docker/compose.yaml", "docker/kuberay.yaml"])
def test_no_secret_is_written_into_the_file(name: str) -> None:
    text = (_ROOT / name).read_text()
    assert not re.search(r"(?i)(password|secret|token)\s*[:=]\s*['\"]?[0-9a-z]{12,}", text)
