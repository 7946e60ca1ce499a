"""The proxy's own refusals look like the service's; `make ray-test` meets them for real."""

import asyncio
import json

import pytest
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import Message, Receive, Scope, Send

from service.rayserve.proxy import ProxyProblems, middlewares

Answer = tuple[int, dict[str, str], bytes]


def ask(answer: Response | None, path: str = "/detect-emotions") -> Answer:
    """What a client gets when the proxy answers so; None: when it begins no answer at all."""
    sent = messages(answer, path)
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], headers, b"".join(message.get("body", b"") for message in sent)


def messages(answer: Response | None, path: str = "/detect-emotions") -> list[Message]:
    """What is sent to that client."""
    sent: list[Message] = []

    async def proxy(scope: Scope, receive: Receive, send: Send) -> None:
        if answer:
            await answer(scope, receive, send)

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "path": path, "headers": [(b"x-request-id", b"one")]}
    asyncio.run(ProxyProblems(proxy)(scope, receive, send))
    return sent


@pytest.mark.parametrize(
    ("answer", "status", "code"),
    [
        (PlainTextResponse("dropped", 503, headers={"Retry-After": "2"}), 503, "overloaded"),
        (PlainTextResponse("dropped", 429, headers={"Retry-After": "2"}), 503, "overloaded"),
        (PlainTextResponse("unavailable", 503), 503, "not_ready"),
        (PlainTextResponse("timed out", 408), 504, "deadline_exceeded"),
        (None, 503, "not_ready"),
    ],
)
def test_a_refusal_is_told_as_a_problem(answer: Response | None, status: int, code: str) -> None:
    got, headers, body = ask(answer)
    assert (got, headers["content-type"]) == (status, "application/problem+json")
    problem = json.loads(body)
    assert (problem["code"], problem["status"], problem["request_id"]) == (code, status, "one")
    assert headers["x-request-id"] == "one"
    assert headers.get("retry-after") == ("2" if code == "overloaded" else None)


def test_answers_of_the_app_pass_unchanged() -> None:
    problem = JSONResponse({"code": "overloaded"}, 503, media_type="application/problem+json")
    assert ask(problem)[2] == problem.body
    assert ask(PlainTextResponse("up 1", 200), "/metrics")[2] == b"up 1"


def test_there_is_one_request_id_and_it_is_the_app_s() -> None:
    answer = JSONResponse({})
    answer.raw_headers += [(b"x-request-id", b"app"), (b"x-request-id", b"unchecked")]
    assert ask(answer)[1]["x-request-id"] == "app"
    assert [name for name, _ in messages(answer)[0]["headers"]].count(b"x-request-id") == 1


def test_ray_answers_for_itself() -> None:
    assert ask(PlainTextResponse("DRAINING", 503), "/-/healthz")[2] == b"DRAINING"
    assert [repr(one) for one in middlewares()] == ["Middleware(ProxyProblems)"]
