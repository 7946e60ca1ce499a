"""The HTTP server: how the app is served, and how the process ends.

The first SIGTERM or SIGINT ends it in order, with exit code 0, or 1 where the grace did not suffice; the
second one ends it at once, with 128 and the signal's number.
"""

import asyncio
import ctypes
import gc
import os
import signal
import socket
import sys
from time import monotonic
from types import FrameType
from typing import NoReturn

import structlog
import uvicorn

from service.api.connections import KEEP_ALIVE_S, Connection
from service.api.deps import Runtime
from service.api.stream_connection import StreamConnection
from service.main import create_app
from service.runtime.model_store import ModelStore
from service.settings import Settings
from service.telemetry.tracing import NO_TRACING, Tracing
from service.vision.pipeline import EmotionPipeline

# What a WebSocket message may have over the limit and still be refused with a word.
FRAME_SLACK_BYTES = 1_000_000
BACKLOG = 2048
# What the kernel holds of an answer that its client does not read; left alone, it goes up to 4 MB for each.
SEND_BUFFER_BYTES = 131_072
# How long a worker may keep the interpreter lock from the event loop: under load, probes and refusals would
# wait several times for Python's own 5 ms.
SWITCH_INTERVAL_S = 0.001
CUT_SHORT = 1
# Where the hard limit on open files is none, as on macOS, it takes no more than this for the soft one.
MACOS_FILES = 10_240
# In no time at all, asyncio would not even look whether anything is left.
NO_GRACE_S = 0.001

if sys.platform != "win32":
    import resource

log = structlog.get_logger("fer")


class ListenError(RuntimeError):
    """The address cannot be had; the message is one sentence that names it."""


def end_on_signals() -> None:
    """From now on SIGTERM and SIGINT end the process, with exit code 0, while it has nothing to finish yet.

    As the first process of a container it would otherwise not notice SIGTERM.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)


def listen(settings: Settings) -> socket.socket:
    """A socket that listens where the settings say. Raises ListenError."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        listener = socket.socket(family, socket.SOCK_STREAM)  # refused where the system has no IPv6
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((settings.host, settings.port))
        listener.listen(BACKLOG)
    except (OSError, UnicodeError, TypeError) as error:  # a name that no host can have is one of the others
        told = getattr(error, "strerror", None) or error
        raise ListenError(f"cannot listen on {settings.host} port {settings.port}: {told}") from error
    return listener


def serve_until_stopped(
    settings: Settings,
    loaded: tuple[ModelStore, EmotionPipeline],
    listener: socket.socket,
    tracing: Tracing = NO_TRACING,
) -> None:
    """Serve on a socket that listens, until a signal comes; see the module."""
    server = Server(server_config(settings, loaded, tracing))
    _open_as_many_as_allowed()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    # What is loaded by now stays. A full collection would stop every thread for 50 ms to look at it again.
    gc.freeze()
    _give_back()
    _leave_no_core()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    try:
        server.run(sockets=[listener])
    finally:
        _give_up_a_broken_log()
        if server.cut_short:
            # The interpreter would wait for its threads, however long their calls take.
            os._exit(CUT_SHORT)


def _give_back() -> None:
    """Return to the system the memory that only the start needed; the C library keeps it, in pieces."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:  # musl has none
        trim(0)


def server_config(
    settings: Settings, loaded: tuple[ModelStore, EmotionPipeline], tracing: Tracing = NO_TRACING
) -> uvicorn.Config:
    """How the app is served."""
    return uvicorn.Config(
        create_app(settings, loaded, tracing),
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        http=Connection,
        timeout_keep_alive=KEEP_ALIVE_S,
        ws=StreamConnection,
        # A request that came together with the one before it begins where that ends, and would have its ids.
        reset_contextvars=True,
        # The app closes at its own limit and can tell the client why; far beyond it the server breaks off.
        ws_max_size=settings.max_body_bytes + FRAME_SLACK_BYTES,
        # JPEG does not get smaller, and inflating could make a small message a huge one.
        ws_per_message_deflate=False,
    )


class Server(uvicorn.Server):
    """Tells its address, says at the first signal that it is not ready, and stops within the grace."""

    @property
    def cut_short(self) -> bool:
        """Whether the grace ran out before all requests were done and their answers sent."""
        runtime = self._runtime()
        return runtime is not None and runtime.cut_short

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer."""
        await super().startup(sockets)
        for listener in (listener for server in self.servers for listener in server.sockets):
            host, port = listener.getsockname()[:2]
            log.info("listening", url=f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Called for SIGINT and SIGTERM."""
        if self.should_exit:
            # Not by the signal itself, which the first process of a container would survive.
            os._exit(128 + sig)
        runtime = self._runtime()
        if runtime:
            runtime.engine.stop_accepting()
            runtime.streams.close()
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no connection, let streams say goodbye, which uvicorn would cut off, and requests finish."""
        grace = self._settings().shutdown_grace_s
        ends = monotonic() + grace
        for server in self.servers:
            server.close()
        runtime = self._runtime()
        if runtime and not await runtime.streams.drain(grace):
            # What keeps a stream from ending is its frame in work, or a client that does not read.
            runtime.cut_short = runtime.engine.inflight > 0
        # Annotated as whole seconds, which the rest of the grace is not.
        rest = max(NO_GRACE_S, ends - monotonic())
        self.config.timeout_graceful_shutdown = rest  # type: ignore[assignment]
        await super().shutdown(sockets)

    async def _wait_tasks_to_complete(self) -> None:
        """When the grace is over, this is cancelled, and then all that is left.

        The clock alone does not tell: it may run out while nothing is left but to end.
        """
        try:
            await super()._wait_tasks_to_complete()
        except asyncio.CancelledError:
            runtime = self._runtime()
            if runtime and (self.server_state.tasks or self.server_state.connections):
                runtime.cut_short = True
            raise

    def _settings(self) -> Settings:
        settings: Settings = self.config.app.state.settings  # type: ignore[union-attr]
        return settings

    def _runtime(self) -> Runtime | None:
        runtime: Runtime | None = self.config.app.state.runtime  # type: ignore[union-attr]
        return runtime


def _open_as_many_as_allowed() -> None:
    """Each connection is an open file; the usual soft limit of 1024 is for programs that use select()."""
    if sys.platform != "win32":
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = MACOS_FILES if hard == resource.RLIM_INFINITY else hard
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _leave_no_core() -> None:
    """The core of a process that crashed would keep the images that it worked on."""
    if sys.platform != "win32":
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _give_up_a_broken_log() -> None:
    """Keep a full disk, or a reader that is gone, from deciding over the exit code: Python flushes last."""
    try:
        sys.stderr.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def _leave(_sig: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(0)
