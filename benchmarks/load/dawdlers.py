"""Connections that keep a server waiting: silent ones, and slow heads, bodies and readers."""

import errno
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from threading import Event, Thread
from time import perf_counter

TICK_S = 1.0
_HEAD = b"POST /detect-emotions HTTP/1.1\r\nHost: x\r\n"
_LARGE_FILE = b"GET /docs/assets/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Habit:
    """What a kind of dawdler sends at first and then at each tick, and how many bytes it reads at a tick.

    deadlines: how often it is given the time of a request.
    """

    opening: bytes
    drip: bytes
    reads: int = 65_536
    deadlines: int = 1


HABITS = {
    # Twice, since one answer the kernel may take in for the client.
    "slow reader": Habit(2 * _LARGE_FILE, b"", reads=1),
    # Once until it is told 504, and once more for the rest of its body.
    "slow body that asks for 60 s": Habit(
        _HEAD + b"X-Request-Timeout-Ms: 60000\r\nContent-Length: 1000000\r\n\r\n", b"x", deadlines=2
    ),
    "slow head": Habit(_HEAD + b"X-Slow: ", b"x"),
    "idle": Habit(b"", b""),
}


class Dawdler:
    """One connection."""

    def __init__(self, port: int, habit: str) -> None:
        self.habit = habit
        self._plan = HABITS[habit]
        self._socket = socket.socket()
        if self._plan.reads == 1:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._socket.connect(("127.0.0.1", port))
        self._opened = perf_counter()
        self._socket.sendall(self._plan.opening)
        self._socket.setblocking(False)
        self.lasted: float | None = None

    def tick(self) -> None:
        """Send and read a little, and note when the server has had enough."""
        if self.lasted is not None:
            return
        try:
            self._socket.send(self._plan.drip)
            # What arrived before a reset can still be read after it.
            reset = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if self._socket.recv(self._plan.reads) and not reset:
                return
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.ECONNRESET):
                raise
        self.lasted = perf_counter() - self._opened

    def close(self) -> None:
        """Go."""
        self._socket.close()


@contextmanager
def dawdling(port: int, of_each: int) -> Iterator[Sequence[Dawdler]]:
    """So many of each kind, ticking in a thread during the block."""
    stop = Event()
    with ExitStack() as opened:
        dawdlers = []
        for habit in HABITS:
            for _ in range(of_each):
                dawdlers.append(Dawdler(port, habit))
                opened.callback(dawdlers[-1].close)
        thread = Thread(target=_tick_all, args=(dawdlers, stop))
        thread.start()
        try:
            yield dawdlers
        finally:
            stop.set()
            thread.join()


def allow_open_files() -> None:
    """Let this process open as many files as it may at most."""
    import resource  # noqa: PLC0415

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _tick_all(dawdlers: Sequence[Dawdler], stop: Event) -> None:
    while not stop.wait(TICK_S):
        for dawdler in dawdlers:
            dawdler.tick()


def hang_up(port: int, body: bytes, count: int) -> None:
    """Send so many whole requests, each on its own connection, and close them all without reading."""
    head = _HEAD + b"Content-Length: %d\r\n\r\n" % len(body)
    with ExitStack() as opened:
        connect = lambda _: opened.enter_context(socket.create_connection(("127.0.0.1", port)))  # noqa: E731
        connections = list(map(connect, range(count)))
        # The last bytes all at once, since the first requests would be answered while the others are sent.
        for part in (head + body[:-1], body[-1:]):
            for connection in connections:
                connection.sendall(part)
