import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from threading import Barrier

import httpx
import numpy as np
import pytest
import yaml
from PIL import Image
from websockets.sync.client import connect

from service.vision.pipeline import EmotionPipeline
from service.vision.types import EMOTIONS
from tests.image.conftest import Start
from tests.image.containers import ROOT, Container, call, inspect

DEPLOYMENT = ROOT / "deploy" / "kubernetes" / "base" / "deployment.yaml"
MOST_MEGAPIXELS = 25


def test_a_photo_gets_the_answer_of_the_pipeline(
    container: Container, photo: bytes, pipeline: EmotionPipeline
) -> None:
    answer = container.client.post("/detect-emotions", files={"image": photo})
    assert answer.status_code == 200
    (face,), (expected,) = answer.json()["faces"], pipeline.analyze(photo).faces
    assert face["dominant_emotion"] == expected.dominant_emotion
    assert [face["probabilities"][emotion] for emotion in EMOTIONS] == pytest.approx(
        list(expected.probabilities), abs=1e-4
    )


def test_it_runs_as_nobody_and_can_gain_nothing(container: Container) -> None:
    status = dict(line.split(":\t", 1) for line in container.run("cat", "/proc/1/status").stdout.splitlines())
    assert status["Uid"].split() == ["10001"] * 4
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
    assert status["NoNewPrivs"] == "1"


@pytest.mark.parametrize("place", ["/", "/tmp", "/opt/fer-service"])
def test_it_has_nowhere_to_write(container: Container, place: str) -> None:
    assert container.run("touch", f"{place}/file").returncode != 0


def test_its_files_belong_to_somebody_else(container: Container) -> None:
    found = container.run(
        "find", "/opt", "(", "-user", "10001", "-o", "-perm", "/022", ")", "!", "-type", "l"
    )
    assert (found.returncode, found.stdout) == (0, "")


def test_it_uses_the_processors_that_it_may(container: Container) -> None:
    assert '"workers": 1' in container.logs()


def test_no_tool_or_test_is_left_in_it(container: Container) -> None:
    for tool in ("cc", "gcc", "make", "curl", "git"):
        assert container.run("sh", "-c", f"command -v {tool}").returncode != 0
    for module in ("pip", "setuptools", "torch", "pytest"):
        assert container.run("python3", "-c", f"import {module}").returncode != 0
    assert container.run("find", "/opt", "-type", "d", "-name", "tests").stdout == ""


def test_every_module_is_compiled(container: Container) -> None:
    found = container.run("find", "/opt/fer-service/lib", "-name", "*.py*").stdout.split()
    compiled = {
        name.replace("/__pycache__", "").split(".cpython-")[0] for name in found if name.endswith(".pyc")
    }
    sources = {name.removesuffix(".py") for name in found if name.endswith(".py")}
    assert len(sources) > 1000
    assert sources - compiled == set()


def test_the_health_check_tells_alive_from_dead(container: Container) -> None:
    kind, *command = inspect(container.name)["Config"]["Healthcheck"]["Test"]
    assert kind == "CMD"
    assert container.run(*command).returncode == 0
    dead = call("exec", "--env", "FER_PORT=1", container.name, *command, check=False)
    assert dead.returncode == 1
    assert "no answer from /livez" in dead.stderr


def test_sigterm_lets_requests_finish(start: Start, photo: bytes) -> None:
    container = start()
    container.wait_for("/readyz")
    files = [("images", photo)] * 16
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(container.client.post, "/detect-emotions/batch", files=files)
        _wait_until_inflight(container.client)
        call("kill", "--signal", "TERM", container.name)
        assert [result["status"] for result in answer.result().json()["results"]] == ["ok"] * 16
    assert container.exit_code() == 0


def test_a_bad_setting_ends_it_with_a_sentence(start: Start) -> None:
    container = start("--env", "FER_QUEUE_SIZE=-1")
    assert container.exit_code() == 1
    assert "FER_QUEUE_SIZE" in container.logs()


def test_the_largest_images_that_a_pod_accepts_fit_into_its_memory(start: Start, photo: bytes) -> None:
    container, _ = _as_in_a_pod(start)
    # The small ones bring up a process that decodes for each worker. The smallest faces take the most memory.
    for picture in (_enlarged(photo, 0.3, "GIF"), _enlarged(photo, MOST_MEGAPIXELS, "PNG"), _crowd(photo)):
        with ThreadPoolExecutor() as pool:
            requests = [
                pool.submit(container.client.post, "/detect-emotions?min_face_size=12", content=picture)
                for _ in range(4)
            ]
            assert [request.result().status_code for request in requests] == [200] * 4, container.logs()
    assert not inspect(container.name)["State"]["OOMKilled"]


def test_the_largest_frames_of_all_streams_of_a_pod_fit_into_its_memory(start: Start) -> None:
    container, settings = _as_in_a_pod(start)
    streams = int(settings["FER_MAX_STREAMS"])
    all_sent, frame = Barrier(streams), _noise(19_700_000)
    with ThreadPoolExecutor(streams) as pool:
        answers = [pool.submit(_fill_a_stream, container.client, frame, all_sent) for _ in range(streams)]
        assert all(answer.result() for answer in answers), container.logs()
    assert container.client.get("/livez").is_success
    assert not inspect(container.name)["State"]["OOMKilled"]


def _as_in_a_pod(start: Start) -> tuple[Container, dict[str, str]]:
    """A container with the limits and the settings of the manifests, and the latter."""
    (pod,) = yaml.safe_load(DEPLOYMENT.read_text())["spec"]["template"]["spec"]["containers"]
    limits = pod["resources"]["limits"]
    (generator,) = yaml.safe_load((DEPLOYMENT.parent / "kustomization.yaml").read_text())[
        "configMapGenerator"
    ]
    given = dict(literal.split("=") for literal in generator["literals"] if "FER_MAX" in literal)
    assert given
    settings = [f"--env={name}={value}" for name, value in given.items()]
    settings.append("--env=FER_REQUEST_TIMEOUT_S=300")
    container = start(f"--cpus={limits['cpu']}", f"--memory={limits['memory'].replace('i', '')}", *settings)
    container.wait_for("/readyz")
    return container, given


def _fill_a_stream(client: httpx.Client, frame: bytes, all_sent: Barrier) -> bytes | str:
    """One frame to work on, one that waits and one that ends when all streams have sent theirs; an answer."""
    url = f"ws://{client.base_url.host}:{client.base_url.port}/stream"
    with connect(url, proxy=None, open_timeout=60, close_timeout=60, ping_interval=None) as stream:
        stream.send(frame)
        stream.send(frame)
        stream.send(_slowly(frame, all_sent))
        return stream.recv(120)


def _slowly(frame: bytes, all_sent: Barrier) -> Iterator[bytes]:
    yield frame
    all_sent.wait(120)
    yield b""


def _noise(most: int) -> bytes:
    """A PNG of nearly so many bytes."""
    side = int((most * 0.99 / 3) ** 0.5)
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=0)
    return buffer.getvalue()


def _enlarged(photo: bytes, megapixels: float, kind: str) -> bytes:
    """The photo in a format that has to be decoded whole."""
    side = int((megapixels * 1e6) ** 0.5)
    buffer = BytesIO()
    Image.open(BytesIO(photo)).resize((side, side)).save(buffer, kind, compress_level=1)
    return buffer.getvalue()


def _crowd(photo: bytes) -> bytes:
    """The portrait's face again and again, as small as can be found, in a picture of the largest size."""
    side = int((MOST_MEGAPIXELS * 1e6) ** 0.5) // 16 * 16
    face = Image.open(BytesIO(photo)).crop((150, 40, 300, 190)).resize((16, 16))
    tiled = np.tile(np.asarray(face), (side // 16, side // 16, 1))
    buffer = BytesIO()
    Image.fromarray(tiled).save(buffer, "PNG")
    return buffer.getvalue()


def _wait_until_inflight(client: httpx.Client) -> None:
    with httpx.Client(base_url=client.base_url, trust_env=False) as other:
        while "\nfer_inflight_requests 0.0\n" in other.get("/metrics").text:
            time.sleep(0.01)
