import re
from pathlib import Path
from typing import Any

import pytest
import yaml

COMPOSE = Path(__file__).parents[2] / "docker" / "compose.yaml"


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())["services"]
    return found


def test_each_container_is_limited_hardened_and_of_one_version(services: dict[str, Any]) -> None:
    assert set(services) == {"fer-service", "prometheus", "alertmanager", "grafana"}
    for service in services.values():
        assert service.keys() >= {"cpus", "mem_limit", "pids_limit", "healthcheck"}
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["logging"]["options"].keys() == {"max-size", "max-file"}
        assert re.search(r":[\w.-]*\d[\w.-]*$|fer-service:dev}$", service["image"])


def test_only_this_machine_reaches_the_published_ports(services: dict[str, Any]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_every_mounted_file_is_there(services: dict[str, Any]) -> None:
    mounts = [mount.split(":")[0] for service in services.values() for mount in service.get("volumes", [])]
    files = [mount for mount in mounts if mount.startswith("./")]
    assert files
    assert [name for name in files if not (COMPOSE.parent / name).exists()] == []
