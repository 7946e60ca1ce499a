"""No byte of an image reaches the disk, the log, the metrics or an error, whatever form it comes in."""

import base64
import io
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from websockets.sync.client import connect

from tests.conftest import PHOTO
from tests.faults import broken
from tests.faults.conftest import COMMAND, Service, running
from tests.faults.test_stages import arm

SIDE = 1868
NEEDLES = 200
# What could put bytes on a disk, or make a place for them there.
SYSCALLS = (
    "open,openat,openat2,creat,mkdir,mkdirat,mknod,mknodat,link,linkat,symlink,symlinkat,rename,renameat,"
    "renameat2,truncate,ftruncate,fallocate,memfd_create,io_uring_setup,connect,write,pwrite64,writev,pwritev,"
    "pwritev2,sendfile,splice,copy_file_range"
)
WRITES = {"write", "pwrite64", "writev", "pwritev", "pwritev2", "sendfile", "splice", "copy_file_range"}
IN_MEMORY = re.compile(r"socket:|TCP|pipe:|anon_inode:|/dev/null")
CALL = re.compile(r"^\d+ +(\w+)\((?:[^<(]*<([^>]*)>)?")


@pytest.fixture(scope="module")
def image() -> bytes:
    """A portrait of 10 MB."""
    file = io.BytesIO()
    Image.open(PHOTO).resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(file, "bmp")
    data = file.getvalue()
    assert len(data) > 10_000_000
    return data


def tool(name: str) -> str:
    """Where a program is; without it the test is skipped, or fails where REQUIRE=1 is set."""
    path = shutil.which(name)
    if path is None:
        reason = f"there is no {name} on the PATH"
        if os.environ.get("REQUIRE") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return path


def needles(image: bytes) -> Iterator[bytes]:
    """Pieces of the image as it is, in base64, in hexadecimal and as Python writes bytes."""
    encoded = base64.b64encode(image)
    for start in range(0, len(image), len(image) // NEEDLES):
        piece = image[start : start + 24]
        if len(set(piece)) > 6:  # a piece of white would be found anywhere
            yield from (piece, piece.hex().encode(), repr(piece)[2:-1].encode())
            yield encoded[start : start + 24]


def assert_holds_nothing_of(image: bytes, *texts: bytes) -> None:
    found = [needle for needle in needles(image) for text in texts if needle in text]
    assert found == []


def forms(image: bytes) -> list[dict[str, Any]]:
    """The same bytes in all three forms of a body."""
    return [
        {"content": image, "headers": {"content-type": "image/bmp"}},
        {"files": {"image": ("a name.bmp", image, "image/bmp")}},
        {"json": {"image": base64.b64encode(image).decode()}},
    ]


def wrong_forms(image: bytes) -> list[dict[str, Any]]:
    """Bodies that are refused, each with the image in it."""
    text = base64.b64encode(image).decode()
    return [
        *forms(image[: len(image) // 2]),
        {"files": {"other": image}},
        {"files": [("image", image[: len(image) // 3])] * 2},
        {"json": {"images": text}},
        {"json": {"image": [text]}},
        {"json": {"image": text[:-3] + "?"}},
        {"content": b'{"image": "' + text.encode(), "headers": {"content-type": "application/json"}},
        {"content": image, "headers": {"content-type": "multipart/form-data; boundary=b"}},
    ]


def everything(service: Service, image: bytes) -> list[bytes]:
    """Send the image in all ways there are, good and bad; all that was answered."""
    url, uri = "/detect-emotions", "data:image/bmp;base64," + base64.b64encode(image).decode()
    with service.client() as client:
        good = [client.post(url, **form) for form in forms(image)]
        good.append(client.post(f"{url}/batch", files=[("images", image)]))
        good.append(client.post(f"{url}/batch", json={"images": [uri]}))
        good.append(client.post("/analyze", json={"img": uri}))
        picture = client.post(url, content=image, headers={"accept": "image/jpeg"})
        assert [response.status_code for response in (*good, picture)] == [200] * 7
        assert all("happy" in response.text for response in good)
        bad = [client.post(url, **form) for form in wrong_forms(image)]
        bad.append(client.post("/analyze", json={"img": uri[30:]}))
        bad.append(client.post("/analyze", data={"img": uri[:-9]}))
        assert {response.status_code // 100 for response in bad} == {4}
        metrics = client.get("/metrics").content
    with connect(f"ws://127.0.0.1:{service.port}/stream", proxy=None, compression=None) as stream:
        stream.send(image)
        frame = stream.recv()
        stream.send(uri[:1_000_000])
        refused = stream.recv()
    texts = [response.content for response in (*good, *bad)]
    return [*texts, metrics, str(frame).encode(), str(refused).encode()]


def stray(trace: str, log: Path) -> list[str]:
    """Lines of a trace that make a file, write to one that is not the log, or reach out."""
    return [line for line in trace.splitlines() if _is_stray(line, log)]


def _is_stray(line: str, log: Path) -> bool:
    call = CALL.match(line)
    if call is None:
        return False
    name, target = call.groups()
    if name in {"open", "openat", "openat2"}:
        return re.search(r"O_WRONLY|O_RDWR|O_CREAT|O_TMPFILE", line) is not None and '"/dev/null"' not in line
    if name in WRITES:
        return target != str(log) and not IN_MEMORY.match(target or "")
    return True


def traced(trace: Path, *command: str) -> tuple[str, ...]:
    """The command, its own process still, with its calls written to `trace`."""
    return tool("strace"), "-D", "-f", "-y", "-s", "0", "-e", f"trace={SYSCALLS}", "-o", str(trace), *command


def test_the_watch_sees_what_is_spooled(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    program = "import tempfile; f = tempfile.TemporaryFile(); f.write(b'x' * 100000); f.flush()"
    subprocess.run(traced(trace, sys.executable, "-c", program), check=True, timeout=120)
    lines = "\n".join(stray(trace.read_text(), tmp_path / "stderr"))
    assert "O_RDWR" in lines
    assert "write(" in lines
    assert tempfile.gettempdir() in lines


def test_no_file_is_made_or_written(tmp_path: Path, image: bytes) -> None:
    trace, log = tmp_path / "trace", tmp_path / "stderr"
    with running(tmp_path, traced(trace, *COMMAND), log_level="debug") as service:
        before = trace.stat().st_size
        answers = everything(service, image)
        calls = trace.read_text()[before:]
    assert "<TCP:" in calls or "<socket:" in calls
    assert f"<{log}>" in calls
    assert stray(calls, log) == []
    assert_holds_nothing_of(image, log.read_bytes(), *answers)


def test_nowhere_to_write_is_all_that_it_needs(tmp_path: Path, image: bytes) -> None:
    bare = (
        tool("bwrap"),
        "--ro-bind",
        "/",
        "/",
        "--proc",
        "/proc",
        "--dev",
        "/dev",
        "--remount-ro",
        "/dev",
        "--die-with-parent",
    )
    with running(tmp_path, (*bare, *COMMAND), log_level="debug") as service:
        answers = everything(service, image)
        log = (tmp_path / "stderr").read_bytes()
    assert log.count(b'"event": "request"') > len(answers) // 2
    assert_holds_nothing_of(image, log, *answers)


def test_a_crash_leaves_no_core(tmp_path: Path) -> None:
    with running(tmp_path) as service:
        for process in (service.process.pid, *service.children()):
            assert resource.prlimit(process, resource.RLIMIT_CORE) == (0, 0)


def test_a_failure_in_the_middle_tells_the_log_no_pixels(tmp_path: Path, image: bytes) -> None:
    command = (sys.executable, broken.__file__, "classify")
    with (
        running(tmp_path, command, log_level="debug") as service,
        service.client() as client,
    ):
        for form in forms(image):
            arm(service)
            response = client.post("/detect-emotions", **form)
            assert response.json()["code"] == "internal_error"
            assert_holds_nothing_of(image, response.content)
        assert service.log().count("Traceback") == len(forms(image))
        assert_holds_nothing_of(image, service.log().encode(), client.get("/metrics").content)


def test_the_search_finds_what_it_looks_for(image: bytes) -> None:
    for text in (image, base64.b64encode(image), repr(image).encode(), json.dumps(image.hex()).encode()):
        with pytest.raises(AssertionError):
            assert_holds_nothing_of(image, text)
