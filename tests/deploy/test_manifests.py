"""What the manifests say of the service is true; tests/manifests checks their form."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.lifespan import BODIES_IN_MEMORY
from service.main import create_app
from service.settings import Settings

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
OVERLAYS = KUBERNETES / "overlays"
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text()


def load(path: Path) -> dict[str, Any]:
    """A YAML file of one document."""
    document: dict[str, Any] = yaml.safe_load(path.read_text())
    return document


def configured() -> dict[str, str]:
    """The variables of the ConfigMap."""
    (generator,) = load(KUBERNETES / "base" / "kustomization.yaml")["configMapGenerator"]
    return dict(literal.split("=", 1) for literal in generator["literals"])


@pytest.fixture(scope="module")
def pod() -> dict[str, Any]:
    spec: dict[str, Any] = load(KUBERNETES / "base" / "deployment.yaml")["spec"]["template"]["spec"]
    return spec


def variables(text: str) -> set[str]:
    return set(re.findall(r"\bFER_[A-Z_]*[A-Z]\b", text))


@pytest.mark.parametrize("folder", ["docker", "deploy"])
def test_every_variable_is_a_setting(folder: str) -> None:
    known = {f"FER_{name.upper()}" for name in Settings.model_fields}
    files = [
        path for path in (ROOT / folder).rglob("*") if path.suffix in {".yaml", ".yml", ""} and path.is_file()
    ]
    assert len(files) > 1
    for path in files:
        assert variables(path.read_text()) <= known, path


def compose() -> dict[str, Any]:
    """The service's container on one machine."""
    container: dict[str, Any] = load(ROOT / "docker" / "compose.yaml")["services"]["fer-service"]
    return container


def settings_of(variables: dict[str, str]) -> Settings:
    """What the service makes of them."""
    names = {name: value for name, value in variables.items() if "$" not in value}
    given: dict[str, Any] = {name.removeprefix("FER_").lower(): value for name, value in names.items()}
    return Settings(_env_file=None, **given)


def worst_case(settings: Settings, cpus: float) -> float:
    """The most memory, in bytes, as docs/operations.md has it."""
    bodies = BODIES_IN_MEMORY + 3 * settings.max_streams
    return (258 + cpus * (60 + 14 * settings.max_pixels / 1e6)) * 1e6 + bodies * settings.max_body_bytes


def test_the_worst_case_fits_into_the_memory(pod: dict[str, Any]) -> None:
    limits = pod["containers"][0]["resources"]["limits"]
    mebibytes = int(limits["memory"].removesuffix("Mi"))
    assert worst_case(settings_of(configured()), float(limits["cpu"])) <= mebibytes * 2**20
    container = compose()
    mebibytes = int(container["mem_limit"].removesuffix("m"))
    assert worst_case(settings_of(container["environment"]), container["cpus"]) <= mebibytes * 2**20


def test_the_settings_are_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in configured().items():
        monkeypatch.setenv(name, value)
    settings = Settings(_env_file=None)
    assert settings.host == "0.0.0.0"


def test_the_ports_are_one(pod: dict[str, Any]) -> None:
    (container,) = pod["containers"]
    (port,) = container["ports"]
    assert port["containerPort"] == int(configured()["FER_PORT"])
    assert f"EXPOSE {port['containerPort']}\n" in DOCKERFILE
    (published,) = load(KUBERNETES / "base" / "service.yaml")["spec"]["ports"]
    (allowed,) = load(KUBERNETES / "base" / "networkpolicy.yaml")["spec"]["ingress"][0]["ports"]
    assert published["targetPort"] == allowed["port"] == port["name"]


def test_probes_and_scrapes_ask_what_is_there(pod: dict[str, Any]) -> None:
    (container,) = pod["containers"]
    monitor = load(KUBERNETES / "components" / "service-monitor" / "servicemonitor.yaml")
    probes = {container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "readiness", "liveness")}
    scrapes = {endpoint["path"] for endpoint in monitor["spec"]["endpoints"]}
    assert probes | scrapes <= set(create_app(Settings(_env_file=None)).openapi()["paths"])


def test_the_pod_is_given_the_time_to_drain(pod: dict[str, Any]) -> None:
    (container,) = pod["containers"]
    pause = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    grace = float(configured()["FER_SHUTDOWN_GRACE_S"])
    assert grace >= float(configured()["FER_REQUEST_TIMEOUT_S"])
    assert pod["terminationGracePeriodSeconds"] > pause + grace


def test_the_pod_runs_as_the_user_of_the_image(pod: dict[str, Any]) -> None:
    user = pod["securityContext"]
    assert f"USER {user['runAsUser']}:{user['runAsGroup']}\n" in DOCKERFILE


def test_the_namespace_admits_the_pod(pod: dict[str, Any]) -> None:
    """What the standard `restricted` asks of a pod without volumes, and a root that nobody can write to."""
    namespace = load(KUBERNETES / "base" / "namespace.yaml")["metadata"]["labels"]
    assert namespace["pod-security.kubernetes.io/enforce"] == "restricted"
    assert not pod.keys() & {"hostNetwork", "hostPID", "hostIPC", "volumes"}
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_the_autoscaler_reads_a_metric_that_the_service_has() -> None:
    scaler = load(OVERLAYS / "in-flight" / "horizontalpodautoscaler.yaml")
    (metric,) = scaler["spec"]["metrics"]
    name = metric["pods"]["metric"]["name"]
    (rule,) = load(OVERLAYS / "in-flight" / "prometheus-adapter.yaml")["rules"]["custom"]
    assert rule["seriesQuery"].startswith(f"{name}{{")
    metrics = create_app(Settings(_env_file=None)).state.metrics.render().decode()
    assert f"\n# TYPE {name} gauge\n" in metrics


def test_a_pod_takes_as_many_requests_as_it_has_processors(pod: dict[str, Any]) -> None:
    scaler = load(OVERLAYS / "in-flight" / "horizontalpodautoscaler.yaml")
    (metric,) = scaler["spec"]["metrics"]
    assert metric["pods"]["target"]["averageValue"] == pod["containers"][0]["resources"]["limits"]["cpu"]
