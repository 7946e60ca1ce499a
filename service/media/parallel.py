"""Many items on a few threads, answers in the order of the items, and only a few in memory."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
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
    generator, or is interrupted), what has not begun is dropped and what has is waited for. Where the items
    end in an exception, what was taken is yielded first and then it is raised.
    """
    pool = ThreadPoolExecutor(workers, thread_name_prefix="fer-media")
    waiting: deque[Future[Result]] = deque()
    broken: list[Exception] = []
    try:
        for item in while_they_come(items, broken):
            waiting.append(pool.submit(call, item))
            if len(waiting) >= IN_FLIGHT_PER_WORKER * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
        if broken:
            raise broken[0]
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def while_they_come(items: Iterable[Item], broken: list[Exception]) -> Iterator[Item]:
    """The items, with what breaks them off put in `broken`."""
    try:
        yield from items
    except Exception as error:  # whatever it is, what came before it is worth the same
        broken.append(error)
