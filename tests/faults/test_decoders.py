"""Decoder processes that are struck, and what becomes of them when the service is."""

import io
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.faults.conftest import Start, wait_until
from tests.faults.test_signals import post


@pytest.fixture(scope="module")
def large() -> bytes:
    """A picture that a decoder process is busy with for a while."""
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (2000, 2000, 3), np.uint8)
    Image.fromarray(pixels).save(file, "webp", lossless=True, method=0)
    return file.getvalue()


def cpu_ticks(process: int) -> int:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def gone(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def test_sigkill_of_a_decoder_costs_the_request_that_it_worked_for(
    start: Start, large: bytes, photo: bytes
) -> None:
    with start(workers=1) as service, ThreadPoolExecutor() as pool:
        (decoder,) = service.children()
        before = cpu_ticks(decoder)
        working = pool.submit(post, service, large)
        wait_until(lambda: cpu_ticks(decoder) > before + 1)
        waiting = pool.submit(post, service, photo)
        os.kill(decoder, signal.SIGKILL)
        assert (working.result().status_code, working.result().json()["code"]) == (422, "invalid_image")
        assert waiting.result().json()["faces"]
        assert post(service, large).status_code == 200
        assert [event["format"] for event in service.events("decoder died")] == ["webp"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_decoder_outlives_the_service(start: Start, large: bytes, number: signal.Signals) -> None:
    with start() as service:
        assert post(service, large).status_code == 200
        decoders = service.children()
        assert decoders
        service.process.send_signal(number)
        service.ended()
        wait_until(lambda: all(gone(decoder) for decoder in decoders))
