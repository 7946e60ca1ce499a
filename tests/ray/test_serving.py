"""The shipped Ray Serve configuration, under load, while what serves it is killed."""

import asyncio
import signal
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import httpx
import pytest

from fer_client import Detection, FerClient, Retry
from tests.conftest import PHOTO
from tests.ray.cluster import Cluster
from tests.ray.serving import URL, deploy, running
from tests.ray.waiting import until

PROBLEM = "application/problem+json"
# For the cluster of this module.
DASHBOARD = True


@pytest.fixture(scope="module")
def deployed(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    deploy(cluster, tmp_path_factory.mktemp("config"), replicas=2)
    return cluster


@pytest.mark.usefixtures("deployed")
def test_the_service_is_the_same_behind_the_proxy() -> None:
    with httpx.Client(base_url=URL, timeout=120, trust_env=False) as client:
        answer = client.post("/detect-emotions", content=PHOTO.read_bytes(), headers={"X-Request-ID": "one"})
        assert answer.status_code == 200
        assert answer.headers["x-request-id"] == "one"
        assert [face["dominant_emotion"] for face in answer.json()["faces"]] == ["happy"]
        picture = client.post(
            "/detect-emotions", content=PHOTO.read_bytes(), headers={"Accept": "image/jpeg"}
        )
        assert picture.content.startswith(b"\xff\xd8")
        for answer, status, code in (
            (client.post("/detect-emotions", content=b"nonsense"), 415, "unsupported_media_type"),
            (client.get("/nothing"), 404, "not_found"),
        ):
            assert (answer.status_code, answer.headers["content-type"]) == (status, PROBLEM)
            assert answer.json()["code"] == code


@pytest.mark.usefixtures("deployed")
def test_a_stream_follows_a_face() -> None:
    with FerClient(URL, timeout=120, transport=httpx.HTTPTransport()) as client, client.stream() as stream:
        first, second = stream.ask(PHOTO), stream.ask(PHOTO)
    assert [face.id for face in first.faces] == [face.id for face in second.faces]


@pytest.mark.usefixtures("deployed")
def test_an_overload_is_refused_in_the_service_s_own_words() -> None:
    answers = asyncio.run(_burst(400))
    assert {answer.status_code for answer in answers} == {200, 503}
    refused = [answer for answer in answers if answer.status_code == 503]
    for answer in refused:
        assert answer.headers["content-type"] == PROBLEM
        assert answer.json()["code"] == "overloaded"
        assert int(answer.headers["retry-after"]) >= 1


def test_no_request_is_lost_when_a_replica_and_a_node_are_killed(deployed: Cluster) -> None:
    with Load() as load:
        until("a first answer", lambda: load.answered > 0)
        replica = deployed.worker.workers("ServeReplica")[0]
        replica.send_signal(signal.SIGKILL)
        _some_more(load)
        until("a new replica", lambda: running(deployed) == 2)
        deployed.worker.kill()
        _some_more(load)
    assert load.answered > 40
    assert load.lost == []


class Load:
    """Clients that ask one after another, until the end of the `with` block, and retry."""

    def __init__(self, clients: int = 4) -> None:
        self.answered, self.lost, self._stop = 0, list[str](), Event()
        self._pool = ThreadPoolExecutor(clients)
        self._clients = clients

    def __enter__(self) -> "Load":
        for _ in range(self._clients):
            self._pool.submit(self._ask)
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._pool.shutdown()

    def _ask(self) -> None:
        with FerClient(URL, timeout=120, retry=Retry(attempts=8), transport=httpx.HTTPTransport()) as client:
            while not self._stop.is_set():
                try:
                    self._check(client.detect(PHOTO))
                except Exception as error:  # whatever it is, a request was lost
                    self.lost.append(repr(error))

    def _check(self, detection: Detection) -> None:
        assert len(detection.faces) == 1
        self.answered += 1


def _some_more(load: Load, requests: int = 20) -> None:
    before = load.answered
    until("more answers", lambda: load.answered >= before + requests)


async def _burst(requests: int) -> list[httpx.Response]:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=URL, timeout=300, limits=limits, trust_env=False) as client:
        photo = PHOTO.read_bytes()
        return await asyncio.gather(
            *(client.post("/detect-emotions", content=photo) for _ in range(requests))
        )
