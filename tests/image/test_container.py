import time
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import httpx
import numpy as np
import pytest
import yaml
from PIL import Image

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
    (pod,) = yaml.safe_load(DEPLOYMENT.read_text())["spec"]["template"]["spec"]["containers"]
    limits = pod["resources"]["limits"]
    (generator,) = yaml.safe_load((DEPLOYMENT.parent / "kustomization.yaml").read_text())[
        "configMapGenerator"
    ]
    settings = [f"--env={literal}" for literal in generator["literals"] if "FER_MAX" in literal]
    assert settings
    settings.append("--env=FER_REQUEST_TIMEOUT_S=300")
    container = start(f"--cpus={limits['cpu']}", f"--memory={limits['memory'].replace('i', '')}", *settings)
    container.wait_for("/readyz")
    # The small ones bring up a process that decodes for each worker. The smallest faces take the most memory.
    for picture in (_enlarged(photo, 0.3, "GIF"), _enlarged(photo, MOST_MEGAPIXELS, "PNG"), _crowd(photo)):
        with ThreadPoolExecutor() as pool:
            requests = [
                pool.submit(container.client.post, "/detect-emotions?min_face_size=12", content=picture)
                for _ in range(4)
            ]
            assert [request.result().status_code for request in requests] == [200] * 4, container.logs()
    assert not inspect(container.name)["State"]["OOMKilled"]


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
