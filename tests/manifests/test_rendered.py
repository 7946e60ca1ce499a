"""Renders each overlay and validates it; nothing here is collected by `make test`."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from pydantic import BaseModel, ConfigDict, Field

KUBERNETES = Path(__file__).parents[2] / "deploy" / "kubernetes"
OVERLAYS = ("cpu", "in-flight")
VERSIONS = ("1.30", "1.37")
CUSTOM = {"ServiceMonitor"}

Manifest = dict[str, Any]


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the manifests with the file of keys that the repository must not hold."""
    copy = tmp_path_factory.mktemp("manifests") / "kubernetes"
    shutil.copytree(KUBERNETES, copy, ignore=shutil.ignore_patterns("keys.env"))
    (copy / "components" / "api-keys" / "keys.env").write_text("FER_API_KEYS=a-key-for-tests\n")
    return copy


@pytest.fixture(scope="session", params=OVERLAYS)
def rendered(request: pytest.FixtureRequest, checkout: Path) -> str:
    return kustomize(checkout / "overlays" / request.param).stdout


@pytest.fixture(scope="session")
def manifests(rendered: str) -> dict[str, Manifest]:
    """By kind: of each there is one."""
    documents = list(yaml.safe_load_all(rendered))
    by_kind = {document["kind"]: document for document in documents}
    assert len(by_kind) == len(documents)
    return by_kind


def kustomize(folder: Path) -> subprocess.CompletedProcess[str]:
    """`kubectl kustomize`, from the environment that runs the tests."""
    kubectl = Path(sys.executable).with_name("kubectl")
    result = subprocess.run([kubectl, "kustomize", folder], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result


def complaints(manifests: str, version: str, folder: Path) -> list[str]:
    """What a strict validation says but that a resource has passed; a kind it does not know is told too."""
    path = folder / "manifests.yaml"
    path.write_text(manifests)
    validate = Path(sys.executable).with_name("kubernetes-validate")
    command = [str(validate), "--strict", "--quiet", "--kubernetes-version", version, str(path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return (result.stdout + result.stderr).splitlines()


@pytest.mark.parametrize("version", VERSIONS)
def test_every_resource_is_valid(rendered: str, version: str, tmp_path: Path) -> None:
    unknown = [f"Couldn't find schema for kind {kind} " for kind in CUSTOM]
    found = complaints(rendered, version, tmp_path)
    assert [line for line in found if not any(known in line for known in unknown)] == []


def test_the_validation_sees_a_field_that_does_not_exist(rendered: str, tmp_path: Path) -> None:
    wrong = rendered.replace("readOnlyRootFilesystem", "readonlyRootFilesystem")
    assert any("readonlyRootFilesystem" in line for line in complaints(wrong, VERSIONS[-1], tmp_path))


def test_selectors_choose_the_pods(manifests: dict[str, Manifest]) -> None:
    deployment = manifests["Deployment"]["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    spreads = deployment["template"]["spec"]["topologySpreadConstraints"]
    selectors = [
        deployment["selector"]["matchLabels"],
        manifests["Service"]["spec"]["selector"],
        manifests["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        manifests["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
        *(spread["labelSelector"]["matchLabels"] for spread in spreads),
    ]
    assert all(selector and selector.items() <= labels.items() for selector in selectors)


def test_references_lead_somewhere(manifests: dict[str, Manifest]) -> None:
    pod = manifests["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    (settings,), (keys,) = container["envFrom"], container["env"]
    assert settings == {"configMapRef": {"name": manifests["ConfigMap"]["metadata"]["name"]}}
    source = keys["valueFrom"]["secretKeyRef"]
    assert source == {"name": manifests["Secret"]["metadata"]["name"], "key": keys["name"]}
    assert manifests["Secret"]["data"].keys() == {keys["name"]} == {"FER_API_KEYS"}
    assert pod["serviceAccountName"] == manifests["ServiceAccount"]["metadata"]["name"]
    target = manifests["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert target["name"] == manifests["Deployment"]["metadata"]["name"]


def test_all_is_in_the_one_namespace(manifests: dict[str, Manifest]) -> None:
    names = {kind: manifest["metadata"].get("namespace") for kind, manifest in manifests.items()}
    assert names.pop("Namespace") is None
    assert set(names.values()) == {manifests["Namespace"]["metadata"]["name"]}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Endpoint(_Strict):
    """The fields of the operator's `Endpoint` that the manifest may use."""

    port: str
    path: str = Field(pattern="^/")
    interval: str = Field(pattern=r"^[0-9]+s$")
    scrape_timeout: str = Field(pattern=r"^[0-9]+s$", alias="scrapeTimeout")


class MonitorSelector(_Strict):
    match_labels: dict[str, str] = Field(alias="matchLabels", min_length=1)


class MonitorSpec(_Strict):
    selector: MonitorSelector
    endpoints: list[Endpoint] = Field(min_length=1)


class ServiceMonitor(_Strict):
    """Kubernetes knows no schema of it."""

    api_version: Literal["monitoring.coreos.com/v1"] = Field(alias="apiVersion")
    kind: Literal["ServiceMonitor"]
    metadata: dict[str, Any]
    spec: MonitorSpec


def test_the_monitor_finds_the_service(checkout: Path) -> None:
    documents = yaml.safe_load_all(kustomize(checkout / "overlays" / "in-flight").stdout)
    manifests = {document["kind"]: document for document in documents}
    monitor = ServiceMonitor.model_validate(manifests["ServiceMonitor"])
    service = manifests["Service"]
    assert monitor.spec.selector.match_labels.items() <= service["metadata"]["labels"].items()
    ports = {port["name"] for port in service["spec"]["ports"]}
    assert {endpoint.port for endpoint in monitor.spec.endpoints} <= ports
    timeout, interval = (monitor.spec.endpoints[0].scrape_timeout, monitor.spec.endpoints[0].interval)
    assert int(timeout[:-1]) < int(interval[:-1])
