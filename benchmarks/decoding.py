"""What a decoder process costs beside decoding in the caller's thread, and what refusing costs.

    python -m benchmarks.decoding

First table: medians, and the least times, of interleaved rounds of the same decoding here and there. Second:
files of up to 20 MB that claim 60,000 x 60,000 pixels, each read in a fresh process: CPU time, and memory
beyond the file's own.
"""

import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any

from PIL import Image

from benchmarks.workloads import ASTRONAUT
from service.runtime import decoder_pool
from service.vision.errors import ImageError
from service.vision.headers import read_header
from service.vision.image import decode_picture
from service.vision.types import Header

ROUNDS = 40
MAX_PIXELS = 64_000_000
SIDE = 60_000
FILE_BYTES = 20_000_000


def main() -> None:
    """Print both tables; with the name of a claim, what reading that one costs."""
    if len(sys.argv) > 1:
        print(_cost(dict(claims())[sys.argv[1]]))
        return
    print("| picture | here | there | here, least | there, least |\n|---|---|---|---|---|")
    for line in detours():
        print(line)
    print("\n| claims too much | CPU time, ms | memory, MB |\n|---|---|---|")
    for name, _ in claims():
        command = [sys.executable, "-m", "benchmarks.decoding", name]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        print(f"| {name} | {told} |")


def detours() -> Iterator[str]:
    """A line for each picture."""
    decoder_pool.BRIEF.clear()  # everything goes there
    pool = decoder_pool.DecoderPool()
    pool.start()
    pool.warm_up()
    for name, size, min_face, rounds in (
        ("JPEG", (640, 480), 40, ROUNDS),
        ("JPEG", (4_000, 3_000), 160, ROUNDS // 4),
        ("PNG", (640, 480), 40, ROUNDS),
        ("WEBP", (640, 480), 40, ROUNDS),
        ("GIF", (640, 480), 40, ROUNDS),
        ("TIFF", (640, 480), 40, ROUNDS),
        ("AVIF", (640, 480), 40, ROUNDS),
    ):
        header = read_header(_encoded(name, size))
        times = [
            (_timed(decode_picture, header, min_face), _timed(pool.decode, header, min_face))
            for _ in range(rounds)
        ]
        columns = list(zip(*times, strict=True))
        cells = [f"{find(column):.2f} ms" for find in (median, min) for column in columns]
        yield f"| {name} {size[0]}x{size[1]} | {' | '.join(cells)} |"


def _encoded(name: str, size: tuple[int, int]) -> bytes:
    buffer = BytesIO()
    options: dict[str, Any] = {"speed": 10} if name == "AVIF" else {}
    Image.open(ASTRONAUT).convert("RGB").resize(size).save(buffer, name, **options)
    return buffer.getvalue()


def _timed(decode: Callable[[Header, float], object], header: Header, min_face: float) -> float:
    started = perf_counter()
    decode(header, min_face)
    return (perf_counter() - started) * 1000


def claims() -> Iterator[tuple[str, bytes]]:
    """Files whose structure makes a reader walk as far as it can before it may refuse."""
    frame = b"\xff\xc2\0\x11\x08" + struct.pack(">HH", SIDE, SIDE) + b"\x03\1\x11\0\2\x11\1\3\x11\1"
    yield "jpeg", _filled(b"\xff\xd8" + frame + b"\xff\xda\0\x0c\3\1\0\2\0\3\0\0\x3f\0", b"\xff")
    yield "jpeg, tables first", _filled(b"\xff\xd8", b"\xff\xdb\x27\x10" + bytes(9_998), 1_990) + frame
    yield (
        "png",
        _filled(
            b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", SIDE, SIDE) + bytes(9), b"\0\0\0\0IDATxxxx"
        ),
    )
    screen = b"GIF89a" + struct.pack("<HHBBB", SIDE, SIDE, 0, 0, 0)
    yield "gif", _filled(screen, b"!\xfe" + b"\1a" * 500 + b"\0")
    entry = struct.pack("<HHII", 256, 4, 1, SIDE) + struct.pack("<HHII", 257, 4, 1, SIDE)
    yield "tiff", _filled(b"II*\0\x08\0\0\0\xff\xff" + entry, struct.pack("<HHII", 257, 4, 1, SIDE))
    canvas = b"VP8X\x0a\0\0\0\2\0\0\0" + (SIDE - 1).to_bytes(3, "little") * 2
    yield (
        "webp",
        _filled(
            b"RIFF" + struct.pack("<I", FILE_BYTES - 8) + b"WEBP" + canvas,
            b"ANMF" + struct.pack("<I", 992) + bytes(992),
        ),
    )
    size = b"\0\0\0\x14ispe" + bytes(4) + struct.pack(">II", SIDE, SIDE)
    meta = struct.pack(">I4s", FILE_BYTES - 24, b"meta") + bytes(4) + size
    for brand in (b"heic", b"avif"):
        yield f"{brand.decode()}, sizes", _filled(b"\0\0\0\x10ftyp" + brand + bytes(4) + meta, size)
        yield f"{brand.decode()}, items", _filled(b"\0\0\0\x10ftyp" + brand + bytes(4) + meta, b"infe")


def _filled(head: bytes, unit: bytes, most: int = FILE_BYTES) -> bytes:
    return head + unit * min(most, (FILE_BYTES - len(head)) // len(unit))


def _cost(data: bytes) -> str:
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before, started = _peak_bytes(), process_time()
    with suppress(ImageError):
        read_header(data, MAX_PIXELS)
    return f"{(process_time() - started) * 1000:.0f} | {(_peak_bytes() - before) / 1e6:.0f}"


def _peak_bytes() -> int:
    (line,) = (
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")
    )
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    main()
