"""Who may do what: keys, other sites' pages, switches, and what answers tell browsers."""

import json
import os
import socket
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.test_errors import assert_problem
from tests.api.test_stream import ask, ending, opened
from tests.conftest import Serve

OPEN = {"/livez", "/readyz", "/metrics"}
SITE = "https://shop.example"


def test_every_documented_route_but_probes_and_metrics_asks_for_the_key(serve: Serve) -> None:
    with serve(api_keys="right") as client:
        paths = client.get("/openapi.json").json()["paths"]
        asking = {path for path, methods in paths.items() for method in methods
                  if client.request(method, path).status_code == 401}  # fmt: skip
        assert asking == set(paths) - OPEN
        with opened(client) as stream:
            assert ending(stream)[0] == 1008


def test_a_key_is_known_by_its_digest_and_the_digest_is_no_key(serve: Serve, photo: bytes) -> None:
    kept = f"sha256:{sha256('schlüssel'.encode()).hexdigest()}"
    with serve(api_keys=f"{kept}, other") as client:
        for key in ("schlüssel", "other"):
            headers = [(b"x-api-key", key.encode())]
            response = client.post("/detect-emotions", content=photo, headers=headers)
            assert response.status_code == 200
        for key in (kept, kept.removeprefix("sha256:"), "schlussel"):
            assert_problem(client.get("/models", headers={"x-api-key": key}), 401, "unauthorized")


@pytest.mark.parametrize("path", ["/livez", "/nothing", "/models", "/metrics", "/openapi.json"])
def test_answers_that_are_no_page_forbid_a_browser_everything(client: httpx.Client, path: str) -> None:
    headers = client.get(path).headers
    assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"
    assert "server" not in headers


def test_the_documentation_runs_its_own_files_only(client: httpx.Client) -> None:
    response = client.get("/docs")
    policy = response.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';")
    assert "unsafe" not in policy
    assert response.text.count("<script") == response.text.count("></script>")
    assert client.get("/docs/assets/start.js").headers["content-security-policy"] == policy


def test_metrics_and_documentation_can_be_switched_off(serve: Serve) -> None:
    with serve(metrics=False, docs=False) as client:
        for path in ("/metrics", "/docs", "/openapi.json", "/docs/assets/start.js"):
            assert_problem(client.get(path), 404, "not_found")
        assert client.get("/readyz").status_code == client.get("/").status_code == 200


def test_other_sites_get_no_leave_by_default(client: httpx.Client, photo: bytes) -> None:
    asked = {"origin": SITE, "access-control-request-method": "POST"}
    answers = [
        client.options("/detect-emotions", headers=asked),
        client.post("/detect-emotions", content=photo, headers={"origin": SITE}),
    ]
    for answer in answers:
        assert not any(name.startswith("access-control") for name in answer.headers)


def test_named_sites_get_leave_and_others_none(serve: Serve, photo: bytes) -> None:
    with serve(allowed_origins=SITE) as client:
        asked = {"access-control-request-method": "POST", "access-control-request-headers": "x-api-key"}
        leave = client.options("/detect-emotions", headers={**asked, "origin": SITE})
        assert (leave.status_code, leave.headers["access-control-allow-origin"]) == (200, SITE)
        assert "access-control-allow-credentials" not in leave.headers
        refused = client.options("/detect-emotions", headers={**asked, "origin": "https://evil.example"})
        assert refused.status_code == 400
        for content in (photo, b"junk"):
            answer = client.post("/detect-emotions", content=content, headers={"origin": SITE})
            assert answer.headers["access-control-allow-origin"] == SITE
            assert "X-Request-ID" in answer.headers["access-control-expose-headers"]


def test_pages_of_named_sites_may_send_and_read_every_documented_header(serve: Serve) -> None:
    sent = "authorization, traceparent, x-api-key, x-request-id, x-request-timeout-ms"
    read = {"Retry-After", "Server-Timing", "traceresponse", "X-Faces", "X-Request-ID"}
    asked = {"access-control-request-method": "POST", "access-control-request-headers": sent}
    with serve(allowed_origins=SITE) as client:
        leave = client.options("/analyze", headers={**asked, "origin": SITE})
        assert leave.status_code == 200, leave.text
        assert not {"x-request-id", "cache-control"} & set(leave.headers)  # as docs/api.md says
        answer = client.get("/livez", headers={"origin": SITE})
        assert set(answer.headers["access-control-expose-headers"].split(", ")) == read


@pytest.mark.parametrize("origin", ["https://evil.example", "http://127.0.0.1", "null"])
def test_no_page_of_another_site_opens_a_stream(client: httpx.Client, origin: str) -> None:
    with opened(client, additional_headers={"origin": origin}) as stream:
        code, reason = ending(stream)
    assert (code, reason.partition(":")[0]) == (1008, "forbidden_origin")


def test_a_page_of_the_service_or_of_a_named_site_opens_a_stream(serve: Serve, photo: bytes) -> None:
    with serve(allowed_origins=SITE) as client:
        for origin in (f"http://{client.base_url.netloc.decode()}", SITE):
            with opened(client, additional_headers={"origin": origin}) as stream:
                assert ask(stream, photo)["status"] == "ok"


def references(port: int, path: Path) -> list[str]:
    url = f"http://127.0.0.1:{port}/photo.jpg"
    return [
        url,
        url.replace("http", "ftp"),
        f"//127.0.0.1:{port}/",
        f"file://{path}",
        str(path),
        f"@{path}",
        "/dev/stdin",
    ]


def bodies(reference: str) -> list[tuple[str, dict[str, Any]]]:
    """A reference to a picture in every place where a picture may be."""
    return [
        ("/detect-emotions", {"json": {"image": reference}}),
        ("/detect-emotions", {"json": {"image": f"data:image/jpeg;base64,{reference}"}}),
        ("/detect-emotions", {"content": reference.encode()}),
        ("/detect-emotions", {"files": {"image": (reference, reference.encode())}}),
        ("/detect-emotions", {"files": {"image": (reference, b"")}}),
        (
            "/detect-emotions",
            {"params": {"image": reference, "model": reference}, "content": reference.encode()},
        ),
        ("/detect-emotions/batch", {"files": [("images", (reference, reference.encode()))]}),
        ("/detect-emotions/batch", {"json": {"images": [reference]}}),
        *(
            ("/analyze", {sent: {name: reference}})
            for sent in ("json", "data")
            for name in ("img", "img_path")
        ),
        ("/analyze", {"files": {"img": (reference, reference.encode())}}),
    ]


def test_no_url_is_fetched_and_no_path_is_read(client: httpx.Client, tmp_path: Path) -> None:
    fifo = tmp_path / "photo.jpg"
    os.mkfifo(fifo)  # whoever opened it to read would be stuck, and this test with it
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        listener.setblocking(False)
        for reference in references(listener.getsockname()[1], fifo):
            for path, body in bodies(reference):
                response = client.post(path, **body, timeout=10)
                told = json.dumps(response.json())
                assert response.status_code in {400, 415, 422} or '"status": "error"' in told, (path, body)
            with opened(client) as stream:
                assert ask(stream, reference)["error"]["code"] == "unsupported_media_type"
        with pytest.raises(BlockingIOError):
            listener.accept()
