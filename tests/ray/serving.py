"""Deploying `deploy/ray/serve.yaml` on the two nodes, changed only in what one machine needs."""

import json
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.ray.cluster import DASHBOARD, HEAD, Cluster
from tests.ray.waiting import until

SHIPPED = Path(__file__).parents[2] / "deploy" / "ray" / "serve.yaml"
URL = f"http://{HEAD}:8000"
NAME = "fer-service"


def deploy(cluster: Cluster, folder: Path, replicas: int) -> None:
    """Deploy, and wait until exactly so many replicas run."""
    config = yaml.safe_load(SHIPPED.read_text())
    # Both nodes are this machine: one proxy can have the port.
    config["proxy_location"], config["http_options"]["host"] = "HeadOnly", HEAD
    scaling = config["applications"][0]["deployments"][0]["autoscaling_config"]
    scaling |= dict.fromkeys(("min_replicas", "initial_replicas", "max_replicas"), replicas)
    path = folder / "serve.yaml"
    path.write_text(yaml.safe_dump(config))
    # A loaded machine may be slower than the dashboard's own patience; the second request finds it done.
    until("the deployment", lambda: _serve(cluster, "deploy", path, "-a", DASHBOARD).returncode == 0)
    until(f"{replicas} replicas", lambda: running(cluster) == replicas)
    until("readiness", ready)


def running(cluster: Cluster) -> int:
    """Replicas that run."""
    status = _serve(cluster, "status", "-a", DASHBOARD)
    if status.returncode:
        return 0
    application = yaml.safe_load(status.output)["applications"].get(NAME, {})
    if application.get("status") == "DEPLOY_FAILED":
        raise AssertionError(json.dumps(application, indent=1))
    deployment = application.get("deployments", {}).get(NAME, {})
    states: dict[str, int] = deployment.get("replica_states", {})
    return states.get("RUNNING", 0) if set(states) == {"RUNNING"} else 0


def ready() -> bool:
    """Whether the service answers through the proxy."""
    try:
        return httpx.get(f"{URL}/readyz", timeout=60, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


class _Done:
    """A command that ended."""

    def __init__(self, returncode: int, output: str) -> None:
        self.returncode, self.output = returncode, output


def _serve(cluster: Cluster, *arguments: Any) -> _Done:
    process = cluster.run("serve", *arguments, stdout=-1, stderr=-1)
    output, _ = process.communicate()
    return _Done(process.returncode, output)
