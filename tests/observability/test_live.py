"""A real Prometheus scrapes the real service under real traffic: expressions give data, an alert arrives."""

import json
import math
import re
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from queue import Empty
from time import monotonic

import httpx
import numpy as np
import pytest
import yaml
from PIL import Image
from websockets.sync.client import connect

from service.vision.types import EMOTIONS
from tests.observability.stack import BASELINE, DOCKER, Stack, running

PHOTO = (Path(__file__).parents[1] / "data" / "astronaut.jpg").read_bytes()
DASHBOARD = DOCKER / "grafana" / "dashboards" / "fer-service.json"
SCRAPE_S = 15
# The matchers of a selector, which may hold `!=`, or a comparison.
COMPARISON = re.compile(r"(\{[^}]*\})|(==|!=|>=|<=|>|<)")


@pytest.fixture(scope="module")
def stack(tools: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tools, tmp_path_factory.mktemp("stack")) as stack:
        yield stack


def encoded(pixels: np.ndarray, kind: str) -> bytes:
    out = BytesIO()
    Image.fromarray(pixels).save(out, kind)
    return out.getvalue()


NOISE = np.random.default_rng(0).integers(0, 256, (700, 700, 3), np.uint8)
SLOW, EMPTY = encoded(NOISE, "bmp"), encoded(np.zeros((64, 64, 3), np.uint8), "png")


def traffic(api: httpx.Client) -> None:
    """A round of all that happens: faces, none, batches, frames, errors of all kinds, too much of it."""
    for _ in range(5):
        api.post("/detect-emotions", content=PHOTO)
    api.post("/detect-emotions", content=EMPTY)
    api.post("/detect-emotions/batch", files=[("images", PHOTO), ("images", EMPTY)])
    api.post("/analyze", files={"img": PHOTO})
    api.post("/detect-emotions", content=b"junk")
    api.post("/detect-emotions", content=PHOTO[:5000])
    api.post("/detect-emotions?model=none", content=PHOTO)
    api.post("/detect-emotions", content=PHOTO, headers={"x-request-timeout-ms": "1"})
    api.get("/nowhere")
    url = f"ws://{api.base_url.host}:{api.base_url.port}/stream"
    with connect(url, proxy=None, open_timeout=60) as stream:
        for frame in (PHOTO, b"junk"):
            stream.send(frame)
            stream.recv(60)
    hang_up(api)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: api.post("/detect-emotions", content=SLOW), range(8)))


def hang_up(api: httpx.Client) -> None:
    """Ask, and be gone before the answer."""
    assert api.base_url.port
    head = f"POST /detect-emotions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(SLOW)}\r\n\r\n"
    with socket.create_connection((api.base_url.host, api.base_url.port)) as connection:
        connection.sendall(head.encode() + SLOW)


def panels() -> list[str]:
    """Every expression of the dashboard, its variables and intervals filled in as Grafana does for `All`."""
    dashboard = json.loads(DASHBOARD.read_text())
    values = {one["name"]: one.get("allValue") or "fer-service" for one in dashboard["templating"]["list"]}
    values["__rate_interval"] = f"{4 * SCRAPE_S}s"
    found = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    return [re.sub(r"\$(\w+)", lambda name: values[name[1]], expression) for expression in found]


def alerts() -> list[str]:
    """Every alert's expression, made to tell 0 or 1 instead of filtering, so that it has to have data."""
    groups = yaml.safe_load((DOCKER / "prometheus" / "alerts.yml").read_text())["groups"]
    return [as_bool(rule["expr"]) for group in groups for rule in group["rules"]]


def as_bool(expression: str) -> str:
    absent = re.fullmatch(r"absent\((.*)\)", expression)
    if absent:
        return absent[1]
    return COMPARISON.sub(lambda match: match[1] or f"{match[2]} bool", expression)


def has_data(stack: Stack, expression: str) -> bool:
    return any(not math.isnan(float(series["value"][1])) for series in stack.query(expression))


def test_every_panel_and_every_alert_gets_data(stack: Stack) -> None:
    asked = [*panels(), *alerts()]
    missing, ends = asked, monotonic() + 300
    while missing and monotonic() < ends:
        traffic(stack.api)
        missing = [expression for expression in missing if not has_data(stack, expression)]
    told = stack.api.get("/metrics").text
    for name in ("fer_cgroup_cpu", "fer_cgroup_memory"):
        if name not in told:
            # Nobody counts CPU periods where no cgroup could be made, nor memory where no limit holds.
            missing = [expression for expression in missing if name not in expression]
    assert len(asked) > 60
    assert missing == []


def test_no_rule_fails(stack: Stack) -> None:
    groups = stack.prometheus.get("/api/v1/rules").json()["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) > 30
    assert [rule for rule in rules if rule["health"] != "ok"] == []


def test_drift_is_the_distance_from_the_history(stack: Stack) -> None:
    """The only face in the traffic is a happy one, and the history knows all emotions alike."""
    [distance] = stack.query('job:fer_emotions:distance1h{job="fer-service"}')
    assert float(distance["value"][1]) == pytest.approx(1 - 1 / len(EMOTIONS), abs=0.02)
    [baseline] = stack.query('job:fer_no_face:share_baseline{job="fer-service"}')
    expected = BASELINE["job:fer_images_without_face:rate5m"] / BASELINE["job:fer_images:rate5m"]
    assert float(baseline["value"][1]) == pytest.approx(expected)


def test_the_metrics_are_well_formed(stack: Stack, tools: dict[str, str]) -> None:
    text = stack.api.get("/metrics").content
    ended = subprocess.run(
        [tools["promtool"], "check", "metrics"], input=text, capture_output=True, check=False
    )
    # Of what it lints, these names belong to the client library.
    told = [line for line in ended.stderr.decode().splitlines() if line.startswith(("fer_", "http_"))]
    assert told == []


def test_a_killed_service_is_an_alert_that_somebody_gets(stack: Stack) -> None:
    stack.service.kill()
    ends, names = monotonic() + 400, set[str]()
    while "FerServiceDown" not in names and monotonic() < ends:
        with suppress(Empty):
            message = stack.received.get(timeout=max(0.1, ends - monotonic()))
            names |= {alert["labels"]["alertname"] for alert in message["alerts"]}
    assert "FerServiceDown" in names
