"""Many items on a few threads, answers in the order of the items, and only a few in memory."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

IN_FLIGHT_PER_WORKER = 2


def in_order(
    call: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> Generator[Result, None, None]:
    """Yield call(item) for each item, in order; no more than two a worker are begun and not yet yielded.

    Items are taken as room is made, so an endless iterator works. When the consumer stops (closes this
    generator, or is interrupted), what has not begun is dropped and what has is waited for.
    """
    pool = ThreadPoolExecutor(workers, thread_name_prefix="fer-media")
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(call, item))
            if len(waiting) >= IN_FLIGHT_PER_WORKER * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
