"""Probes, metrics, models, documents, request ids."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.lifespan import lifespan
from service.main import create_app
from service.runtime.engine import ClosedError
from service.runtime.model_store import ModelStore
from service.settings import Settings
from service.vision.pipeline import EmotionPipeline
from tests.api.test_errors import png_claiming
from tests.api.test_stream import ask, opened
from tests.conftest import PHOTO, Serve

OPENAPI = Path(__file__).parents[2] / "openapi" / "openapi.json"


def test_probes_answer(client: httpx.Client) -> None:
    assert client.get("/livez").json() == client.get("/readyz").json() == {"status": "ok"}


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_a_monitor_may_ask_for_the_head_of_a_probe(client: httpx.Client, path: str) -> None:
    head, whole = client.head(path), client.get(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == whole.headers["content-length"]
    assert set(client.post(path).headers["allow"].split(", ")) == {"GET", "HEAD"}


def test_models_are_listed_with_the_default_marked(client: httpx.Client) -> None:
    models = client.get("/models").json()["models"]
    assert [model["name"] for model in models if model["default"]] == ["balanced"]
    for model in models:
        assert model["digest"].startswith("sha256:")
        assert 0.7 < model["measured"][f"{model['label_set']}_public_accuracy"] < 1
        assert 0 < model["uncertain_below"] < 1


def test_a_service_that_is_to_stop_is_not_ready_and_serves_what_arrives(
    loaded: tuple[ModelStore, EmotionPipeline], photo: bytes
) -> None:
    app = create_app(Settings(_env_file=None), loaded)
    transport = httpx.ASGITransport(app)

    async def scenario() -> tuple[httpx.Response, ...]:
        async with lifespan(app), httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            before = await client.get("/readyz")
            app.state.runtime.engine.stop_accepting()
            assert (await client.head("/readyz")).status_code == 503
            after, answer = await client.get("/readyz"), await client.post("/detect-emotions", content=photo)
        with pytest.raises(ClosedError):
            await app.state.runtime.engine.run(int, deadline=0)
        return before, after, answer

    before, after, answer = asyncio.run(scenario())
    assert (before.status_code, after.status_code, after.json()["code"]) == (200, 503, "not_ready")
    assert answer.json()["faces"]


@pytest.mark.parametrize("given", ["abc-123", "A.b_c~d"])
def test_a_good_request_id_comes_back(client: httpx.Client, given: str) -> None:
    assert client.get("/livez", headers={"x-request-id": given}).headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "<script>"])
def test_a_bad_request_id_is_replaced(client: httpx.Client, given: str) -> None:
    made = client.get("/livez", headers={"x-request-id": given}).headers["x-request-id"]
    assert re.fullmatch("[0-9a-f]{32}", made)


def test_metrics_count_what_happened(serve: Serve, photo: bytes) -> None:
    with serve() as client:
        client.post("/detect-emotions", content=photo)
        client.post("/detect-emotions", content=b"junk")
        client.post("/detect-emotions", params={"max_faces": "0"})
        client.post("/detect-emotions/batch", files=[("images", photo), ("images", photo)])
        client.request("PROPFIND", "/some/path/of/the/client")
        with opened(client) as stream:
            ask(stream, photo)
            ask(stream, b"junk")
        lines = set(client.get("/metrics").text.splitlines())
    route = 'http_route="/detect-emotions"'
    count = "http_server_request_duration_seconds_count"
    method = 'http_request_method="POST"'
    assert {
        f'{count}{{{method},http_response_status_code="200",{route}}} 1.0',
        f'{count}{{{method},http_response_status_code="415",{route}}} 1.0',
        f'{count}{{http_request_method="_OTHER",http_response_status_code="404",http_route="unmatched"}} 1.0',
        'fer_rejected_total{code="unsupported_media_type"} 2.0',
        'fer_rejected_total{code="invalid_parameter"} 1.0',
        'fer_emotions_total{emotion="happy",model="balanced"} 4.0',
        'fer_emotions_total{emotion="happy",model="ferplus"} 0.0',
        "fer_faces_per_image_sum 4.0",
        "fer_batch_size_sum 2.0",
        'fer_stage_duration_seconds_count{stage="classify"} 4.0',
        'fer_stage_duration_seconds_count{stage="queue"} 4.0',
        'fer_stream_frames_total{outcome="ok"} 1.0',
        'fer_stream_frames_total{outcome="error"} 1.0',
        "fer_queue_depth 0.0",
        "fer_inflight_requests 0.0",
    } <= lines
    names = {line.split("{")[0].split(" ")[0] for line in lines if not line.startswith("#")}
    assert {"fer_model_info", "fer_build_info", "process_resident_memory_bytes"} <= names


def test_docs_load_nothing_from_elsewhere(client: httpx.Client) -> None:
    page = client.get("/docs").text
    assets = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(assets) == 4
    for asset in assets:
        assert "//" not in asset
        assert client.get(f"/{asset}").status_code == 200


def test_openapi_document_is_the_committed_one(client: httpx.Client) -> None:
    assert client.get("/openapi.json").json() == json.loads(OPENAPI.read_text()), "run `make openapi`"


def test_openapi_document_describes_bodies_and_errors(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    operation = document["paths"]["/detect-emotions"]["post"]
    assert set(operation["requestBody"]["content"]) == {
        "multipart/form-data",
        "application/json",
        "image/*",
        "application/octet-stream",
    }
    analyze = document["paths"]["/analyze"]["post"]
    assert set(analyze["requestBody"]["content"]) == {
        "application/json",
        "multipart/form-data",
        "application/x-www-form-urlencoded",
    }
    names = {parameter["name"] for parameter in operation["parameters"]}
    assert {parameter["name"] for parameter in analyze["parameters"]} == names - {"include"}
    assert all("type" in parameter["schema"] for parameter in operation["parameters"]), "a query has no null"
    statuses = {"200", "400", "401", "406", "413", "415", "422", "500", "503", "504"}
    assert set(operation["responses"]) == statuses
    for status in statuses - {"200"}:
        examples = operation["responses"][status]["content"]["application/problem+json"]["examples"]
        assert all(str(example["value"]["status"]) == status for example in examples.values())
    assert "Problem" in document["components"]["schemas"]


def test_openapi_types_of_answers_are_those_that_are_sent(client: httpx.Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    for path in ("/models", "/livez", "/readyz", "/metrics"):
        sent = client.get(path).headers["content-type"].partition(";")[0]
        assert list(paths[path]["get"]["responses"]["200"]["content"]) == [sent]


def test_openapi_operations_have_names_for_generated_clients(client: httpx.Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    names = [operation["operationId"] for operations in paths.values() for operation in operations.values()]
    probes = ["livez", "readyz", "metrics"]
    assert names == ["detect_emotions", "detect_emotions_batch", "models", "analyze", *probes]


@pytest.mark.parametrize(
    ("code", "request_"),
    [
        ("empty_body", {}),
        ("malformed_body", {"json": {"image": "?"}}),
        ("invalid_parameter", {"params": {"min_face_size": "1"}}),
        ("not_acceptable", {"headers": {"accept": "text/html"}}),
        ("unsupported_media_type", {"content": b"junk"}),
        ("invalid_image", {"content": PHOTO.read_bytes()[:9000]}),
        ("image_too_large", {"content": png_claiming(20_000, 20_000)}),
    ],
)
def test_openapi_problems_are_those_that_the_service_tells(
    client: httpx.Client, code: str, request_: dict[str, Any]
) -> None:
    told = client.post("/detect-emotions", **request_).json()
    operation = client.get("/openapi.json").json()["paths"]["/detect-emotions"]["post"]
    answer = operation["responses"][str(told["status"])]["content"]["application/problem+json"]
    example = answer["examples"][code]["value"]
    assert told | {"request_id": example["request_id"]} == example
