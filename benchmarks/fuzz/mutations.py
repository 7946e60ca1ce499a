"""Mutations of pictures that keep enough of the structure to get past the first check."""

import re
import struct
import zlib
from collections.abc import Callable, Sequence
from random import Random

# Integers at which sizes, counts and offsets go wrong.
EDGES = (
    0,
    1,
    2,
    12,
    127,
    128,
    255,
    256,
    4_095,
    32_767,
    32_768,
    65_535,
    8_000,
    60_000,
    2**24 - 1,
    2**31 - 1,
    2**32 - 1,
)
MOST_BYTES = 2_000_000
_JPEG_PART = re.compile(rb"(?s)\xff[\x01-\xcf\xd8-\xfe].*?(?=\xff[\x01-\xcf\xd8-\xfe]|\Z)")

Mutation = Callable[[bytearray, Random, bytes], bytearray]


def mutated(name: str, pictures: Sequence[bytes], random: Random) -> bytes:
    """One of the pictures with one to four mutations; a PNG mostly with its checksums put right."""
    data, other = bytearray(random.choice(pictures)), random.choice(pictures)
    for _ in range(random.randint(1, 4)):
        if random.random() < 0.3:
            data = _move_parts(name, data, random, other)
        else:
            data = random.choice(_MUTATIONS)(data, random, other)
    data = data[:MOST_BYTES]
    return _with_checksums(bytes(data)) if name == "png" and random.random() < 0.8 else bytes(data)


def _place(data: bytearray, random: Random) -> int:
    """Mostly near the start, where headers are."""
    most = max(1, len(data))
    return random.randrange(min(most, 600)) if random.random() < 0.7 else random.randrange(most)


def _flip(data: bytearray, random: Random, _: bytes) -> bytearray:
    for _number in range(random.choice((1, 1, 2, 8, 64))):
        if data:
            data[_place(data, random)] ^= 1 << random.randrange(8)
    return data


def _put_edge(data: bytearray, random: Random, _: bytes) -> bytearray:
    code = random.choice("BHI")
    limit = 256 ** struct.calcsize(code)
    at = _place(data, random)
    packed = struct.pack(random.choice("<>") + code, random.choice(EDGES) % limit)
    data[at : at + len(packed)] = packed
    return data


def _cut(data: bytearray, random: Random, _: bytes) -> bytearray:
    return (
        data[: _place(data, random) + 1]
        if random.random() < 0.3
        else data[: random.randint(1, len(data) + 1)]
    )


def _remove(data: bytearray, random: Random, _: bytes) -> bytearray:
    at = _place(data, random)
    del data[at : at + random.choice((1, 2, 4, 16, 256))]
    return data


def _insert(data: bytearray, random: Random, _: bytes) -> bytearray:
    at, count = _place(data, random), random.choice((1, 2, 4, 64, 5_000))
    data[at:at] = bytes(count) if random.random() < 0.5 else random.randbytes(count)
    return data


def _repeat(data: bytearray, random: Random, _: bytes) -> bytearray:
    at, length = _place(data, random), random.choice((1, 4, 12, 100, 2_000))
    part = data[at : at + length]
    data[at:at] = part * min(random.choice((1, 2, 50, 3_000)), MOST_BYTES // (len(part) + 1))
    return data


def _splice(data: bytearray, random: Random, other: bytes) -> bytearray:
    at, length = _place(data, random), random.choice((4, 32, 500, len(other)))
    data[at : at + length] = other[at : at + length]
    return data


_MUTATIONS: tuple[Mutation, ...] = (_flip, _put_edge, _put_edge, _cut, _remove, _insert, _repeat, _splice)


def _move_parts(name: str, data: bytearray, random: Random, other: bytes) -> bytearray:
    """Drop, repeat, exchange or borrow whole segments, chunks or boxes."""
    parts, borrowed = _parts(name, bytes(data)), _parts(name, other)
    if len(parts) < 3 or not borrowed:
        return data
    here, there = random.randrange(1, len(parts)), random.randrange(1, len(parts))
    match random.randrange(4):
        case 0:
            del parts[here]
        case 1:
            parts[here:here] = [parts[there]] * min(
                random.choice((1, 2, 40)), MOST_BYTES // (len(parts[there]) + 1)
            )
        case 2:
            parts[here], parts[there] = parts[there], parts[here]
        case _:
            parts[here] = random.choice(borrowed)
    return bytearray(b"".join(parts))


def _parts(name: str, data: bytes) -> list[bytes]:
    """The file in pieces that its format knows; joined they are the file again."""
    match name:
        case "jpeg":
            return [b"\xff\xd8", *_JPEG_PART.findall(data, 2)]
        case "png":
            return _sized(data, 8, ">I", extra=12)
        case "webp":
            return _sized(data, 12, "<I", extra=8, at=4, even=True)
        case "heif" | "avif":
            return _boxes(data)
        case _:
            return [data[at : at + 12] for at in range(0, len(data), 12)]


def _sized(data: bytes, start: int, code: str, extra: int, at: int = 0, *, even: bool = False) -> list[bytes]:
    parts, pos = [data[:start]], start
    while pos + at + 4 <= len(data):
        (length,) = struct.unpack_from(code, data, pos + at)
        end = min(len(data), pos + length + extra + (length % 2 if even else 0))
        parts.append(data[pos:end])
        pos = end
    return [*parts, data[pos:]]


def _boxes(data: bytes) -> list[bytes]:
    """Boxes, those of `meta` one by one; a head and an end where a length makes no sense."""
    parts, pos = [], 0
    while pos + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, pos)
        end = pos + 12 if kind == b"meta" else pos + max(8, length)
        parts.append(data[pos:end])
        pos = end
    return [*parts, data[pos:]]


def _with_checksums(data: bytes) -> bytes:
    head, *chunks = _sized(data, 8, ">I", extra=12)
    fixed = [
        part[:-4] + struct.pack(">I", zlib.crc32(part[4:-4])) if len(part) >= 12 else part for part in chunks
    ]
    return b"".join([head, *fixed])
