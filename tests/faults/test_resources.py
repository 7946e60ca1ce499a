"""No disk, no descriptors, no memory, no model store any more: what goes on, and what is told."""

import os
import resource
import shutil
import subprocess
import zlib
from contextlib import ExitStack
from pathlib import Path

import httpx

from tests.api.test_errors import png_chunk
from tests.faults.conftest import COMMAND, PATIENCE_S, Service, Start, running, wait_until

URL = "/detect-emotions"
MANY = 100


def faces(client: httpx.Client, photo: bytes) -> object:
    response = client.post(URL, content=photo)
    assert response.status_code == 200
    return response.json()["faces"]


def test_a_full_disk_stops_the_log_and_nothing_else(tmp_path: Path, photo: bytes) -> None:
    with Path("/dev/full").open("wb") as full, running(tmp_path, stderr=full) as service:
        service.limit(resource.RLIMIT_FSIZE, 0)  # nor can a byte be written to any other file
        with service.client() as client:
            for _ in range(20):
                assert faces(client, photo)
            assert client.get("/readyz").status_code == 200
        service.terminate()
        assert service.ended() == 0


def test_a_log_that_nobody_reads_any_more_stops_nothing(tmp_path: Path, photo: bytes) -> None:
    reader, writer = os.pipe()
    with open(writer, "wb") as pipe, running(tmp_path, stderr=pipe) as service:
        os.close(reader)
        with service.client() as client:
            for _ in range(20):
                assert faces(client, photo)
        service.terminate()
        assert service.ended() == 0


def test_the_model_store_is_needed_at_the_start_only(start: Start, store: Path, photo: bytes) -> None:
    with start(model_store=store) as service, service.client() as client:
        before = faces(client, photo), client.get("/models").json()
        graph = store / "emotion" / "balanced.onnx"
        with graph.open("r+b") as file:  # in place, as a careless copy does
            file.truncate(1000)
        assert (faces(client, photo), client.get("/models").json()) == before
        shutil.rmtree(store)
        assert (faces(client, photo), client.get("/models").json()) == before
        assert client.get("/readyz").status_code == 200


def test_an_altered_store_stops_the_next_start(start: Start, store: Path) -> None:
    with start(model_store=store) as service:
        (store / "mtcnn" / "pnet.onnx").write_bytes(b"")
        service.process.kill()
    environment = {"PATH": os.environ["PATH"], "FER_MODEL_STORE": str(store), "FER_PORT": "0"}
    process = subprocess.run(
        COMMAND, capture_output=True, text=True, env=environment, timeout=PATIENCE_S, check=False
    )
    assert process.returncode == 1
    assert "pnet.onnx is not the file of the manifest" in process.stderr


def test_descriptors_run_out_for_newcomers_only_and_come_back(start: Start, photo: bytes) -> None:
    with start() as service, service.client() as client:
        expected = faces(client, photo)
        used = len(list(Path(f"/proc/{service.process.pid}/fd").iterdir()))
        service.limit(resource.RLIMIT_NOFILE, used + 10)
        with ExitStack() as crowd:
            for _ in range(MANY):
                crowd.enter_context(service.connect())
            assert faces(client, photo) == expected
            assert [client.get(path).status_code for path in ("/livez", "/metrics")] == [200, 200]
        wait_until(service.ready)
        with service.client() as newcomer:
            assert faces(newcomer, photo) == expected
        service.terminate()
        assert service.ended() == 0


def white(side: int) -> bytes:
    """A PNG of many pixels and few bytes."""
    rows = zlib.compressobj(1)
    row = b"\x00" + b"\xff" * side * 3
    data = b"".join(rows.compress(row) for _ in range(side)) + rows.flush()
    header = side.to_bytes(4, "big") * 2 + b"\x08\x02\x00\x00\x00"
    chunks = png_chunk(b"IHDR", header), png_chunk(b"IDAT", data), png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def address_space(service: Service) -> int:
    pages = Path(f"/proc/{service.process.pid}/statm").read_text().split()[0]
    return int(pages) * resource.getpagesize()


def test_an_image_for_which_there_is_no_memory_costs_itself_only(start: Start, photo: bytes) -> None:
    with start(workers=1) as service, service.client() as client:
        expected = faces(client, photo)
        service.limit(resource.RLIMIT_AS, address_space(service) + 100_000_000)
        large = white(7900)
        for _ in range(3):
            response = client.post(URL, content=large)
            assert response.json()["code"] == "internal_error"
            assert faces(client, photo) == expected
        assert client.get("/readyz").status_code == 200
        service.terminate()
        assert service.ended() == 0
