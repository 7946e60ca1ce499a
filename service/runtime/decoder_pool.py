"""Decoder libraries in processes of their own: one that crashes, hangs or overeats costs one picture."""

import json
import math
import os
import socket
import subprocess
import sys
import weakref
from collections.abc import Callable
from contextlib import suppress

import numpy as np

from service.runtime import deadline
from service.runtime.decoder_process import HEAD
from service.vision.errors import InvalidImageError
from service.vision.headers import read_header
from service.vision.image import decode_picture
from service.vision.types import DecodedImage, Header, UInt8Array

# How soon a worker learns that its deadline has passed, and how long a process may take to read a question:
# one that is up, and one that still starts, which takes long where there is little CPU or a slow disk.
CHECK_SECONDS, SEND_SECONDS, START_SECONDS = 0.05, 5.0, 60.0
MAX_ANSWER_BYTES = 4_096

# Pixels, times the scans of a JPEG, that these decoders get through in a fraction of a second. Most pictures
# are such, and the detour would cost them more than their decoding.
BRIEF = {"jpeg": 25_000_000, "png": 8_000_000}

# Windows hands no socket to a process and sets it no limits.
_IN_PROCESS = sys.platform == "win32"
_TINY = b"GIF89a\x01\0\x01\0\x80\0\0" + bytes(6) + b",\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;"


class DecoderError(RuntimeError):
    """No decoder process can be started."""

    def __init__(self) -> None:
        super().__init__("no process that decodes images can be started")


class DecoderPool:
    """As many decoder processes as threads decode at a time, none on Windows. Used from any thread.

    on_death: told the format whose decoding ended a process, and that one's exit status (negative: a signal).
    patience: seconds in which a process that is up has to read a question.
    Call `close` at the end, which ends them, also at work; the end of the program does it otherwise.
    """

    def __init__(
        self, on_death: Callable[[str, int], object] = lambda *_: None, patience: float = SEND_SECONDS
    ) -> None:
        self._on_death, self._patience = on_death, patience
        self._processes: set[_Process] = set()
        self._idle: list[_Process] = []
        self.close = weakref.finalize(self, _end_all, self._processes)

    @property
    def processes(self) -> set[int]:
        """Their process ids."""
        return {process.pid for process in self._processes}

    def start(self) -> None:
        """Have a process ready for the first picture, or soon. Raises DecoderError."""
        if not _IN_PROCESS:
            self._idle.append(self._start())

    def warm_up(self) -> None:
        """Wait until it is ready. Raises DecoderError."""
        try:
            self.decode(read_header(_TINY), 1)
        except InvalidImageError as error:
            raise DecoderError from error

    def decode(self, header: Header, min_face: float) -> DecodedImage:
        """What `vision.image.decode_picture` does, in another process unless it is brief.

        Raises InvalidImageError also where that process dies, ExpiredError at the deadline of the call that
        this thread makes, and DecoderError, also where the pool is closed or closes meanwhile.
        """
        if _IN_PROCESS or math.prod(header.size) * header.passes <= BRIEF.get(header.format, 0):
            return decode_picture(header, min_face)
        process = self._take()
        try:
            return process.decode(header, min_face)
        except OSError:
            status = process.end()
            if not self.close.alive:
                raise DecoderError from None  # the picture is not to blame
            self._on_death(header.format, status)
            raise InvalidImageError(f"the {header.format.upper()} image does not decode") from None
        except InvalidImageError:
            raise
        except BaseException:
            # The deadline, or no memory for the pixels: the rest of this answer must not be the next one.
            process.end()
            raise
        finally:
            self._give_back(process)

    def _take(self) -> "_Process":
        # Popped until that fails: between a look and a pop another thread could take the last one.
        with suppress(IndexError):
            while not (process := self._idle.pop()).alive:
                self._discard(process)
            return process
        return self._start()

    def _give_back(self, process: "_Process") -> None:
        """Keep it for the next picture, or have another one start in the meantime."""
        if not process.alive:
            self._discard(process)
            with suppress(DecoderError):
                process = self._start()
        if process.alive:
            self._idle.append(process)

    def _start(self) -> "_Process":
        process = _Process(self._patience)
        self._processes.add(process)
        if not self.close.alive:  # asked last: a `close` that comes later finds the process
            self._discard(process)
            raise DecoderError
        return process

    def _discard(self, process: "_Process") -> None:
        process.end()
        self._processes.discard(process)


class _Process:
    """One decoder process; starts at once and can be asked before it is up."""

    def __init__(self, patience: float) -> None:
        self._patience, self._up = patience, False
        try:
            self._socket, theirs = socket.socketpair()
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "service.runtime.decoder_process"],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    env=_environment(),
                    start_new_session=True,
                )
        except OSError as error:
            raise DecoderError from error

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def end(self) -> int:
        """Kill it, if it is not dead yet; tells the exit status, negative for a signal."""
        self._process.kill()
        self._socket.close()
        status: int = self._process.wait()
        return status

    def decode(self, header: Header, min_face: float) -> DecodedImage:
        """Raises OSError where the process dies, hangs or talks nonsense."""
        self._ask(header, min_face)
        text_length, length = HEAD.unpack(self._hear(HEAD.size).tobytes())
        self._up = True
        if text_length > MAX_ANSWER_BYTES or length > 3 * math.prod(header.size):
            raise _nonsense()
        text = self._hear(text_length).tobytes()
        return _picture(text, self._hear(length))

    def _ask(self, header: Header, min_face: float) -> None:
        question = json.dumps(header.described() | {"min_face": min_face}).encode()
        patience = self._patience if self._up else START_SECONDS
        self._socket.settimeout(min(patience, max(deadline.seconds_left(), CHECK_SECONDS)))
        try:
            self._socket.sendall(HEAD.pack(len(question), len(header.body)) + question)
            self._socket.sendall(header.body)
        except TimeoutError:
            deadline.check()
            raise

    def _hear(self, length: int) -> UInt8Array:
        """So many bytes, no fewer."""
        self._socket.settimeout(CHECK_SECONDS)
        data = np.empty(length, np.uint8)
        left = data.data
        while left:
            deadline.check()
            with suppress(TimeoutError):
                count = self._socket.recv_into(left)
                if not count:
                    raise ConnectionResetError("the process is gone")
                left = left[count:]
        return data


def _picture(text: bytes, pixels: UInt8Array) -> DecodedImage:
    try:
        answer = json.loads(text)
        if "error" not in answer:
            shape = answer.pop("rows"), answer.pop("columns"), 3
            return DecodedImage(pixels.reshape(shape), **answer)
    except (KeyError, TypeError, ValueError) as error:
        raise _nonsense() from error
    raise InvalidImageError(answer["error"])


def _nonsense() -> OSError:
    return OSError("the decoder process answers what none of ours would")


def _environment() -> dict[str, str]:
    """The same modules from the same places, one thread, and none of the service's settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FER_")}
    return kept | {"PYTHONPATH": os.pathsep.join(sys.path), "OPENBLAS_NUM_THREADS": "1"}


def _end_all(processes: set[_Process]) -> None:
    for process in list(processes):
        process.end()
