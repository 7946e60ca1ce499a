"""Requests at a rate, whatever becomes of them (open loop), or one after the other (closed loop)."""

import asyncio
import math
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import perf_counter

import aiohttp

URL = "/detect-emotions"
GIVE_UP_S = 60


@dataclass(frozen=True, slots=True)
class Outcome:
    """One request. due, sent, ended: on the clock of `time.perf_counter`; status 0: no answer."""

    due: float
    sent: float
    ended: float
    status: int
    retry_after: int | None = None

    @property
    def seconds(self) -> float:
        """From when it was due, so that a late generator does not make the service look quick."""
        return self.ended - self.due


@dataclass(frozen=True, slots=True)
class Result:
    """What became of all requests of a run that lasted so many seconds, until the last one ended."""

    outcomes: Sequence[Outcome]
    seconds: float

    def of(self, *statuses: int) -> list[Outcome]:
        """Those with these statuses."""
        return [outcome for outcome in self.outcomes if outcome.status in statuses]

    def times(self, *statuses: int) -> list[float]:
        """The seconds that those took."""
        return [outcome.seconds for outcome in self.of(*statuses)]

    @property
    def rate(self) -> float:
        """Good answers in a second."""
        return len(self.of(200)) / self.seconds

    @property
    def late(self) -> float:
        """The 99th percentile of how late the generator sent, in seconds."""
        return percentile([outcome.sent - outcome.due for outcome in self.outcomes], 99)


def all_of(results: Sequence[Result]) -> Result:
    """Several runs as one."""
    outcomes = [outcome for result in results for outcome in result.outcomes]
    return Result(outcomes, sum(result.seconds for result in results))


class Client:
    """Posts one body again and again."""

    def __init__(self, session: aiohttp.ClientSession, body: bytes) -> None:
        self._session, self._body = session, body

    async def post(self, due: float, headers: dict[str, str] | None = None) -> Outcome:
        """Send one request now."""
        sent = perf_counter()
        try:
            async with self._session.post(URL, data=self._body, headers=headers) as answer:
                await answer.read()
                status, retry = answer.status, answer.headers.get("Retry-After")
        except (aiohttp.ClientError, TimeoutError):
            return Outcome(due, sent, perf_counter(), 0)
        return Outcome(due, sent, perf_counter(), status, int(retry) if retry else None)

    async def post_form(self, path: str, form: bytes, content_type: str) -> int:
        """Post another body elsewhere; the status, 0: no answer."""
        try:
            async with self._session.post(path, data=form, headers={"Content-Type": content_type}) as answer:
                await answer.read()
                status: int = answer.status
        except (aiohttp.ClientError, TimeoutError):
            return 0
        return status

    async def closed(self, clients: int, seconds: float) -> Result:
        """So many clients, each of which asks again as soon as it is answered."""
        start = perf_counter()

        async def ask() -> list[Outcome]:
            outcomes = []
            while (now := perf_counter()) < start + seconds:
                outcomes.append(await self.post(now))
            return outcomes

        asked = await asyncio.gather(*(ask() for _ in range(clients)))
        return Result([outcome for outcomes in asked for outcome in outcomes], perf_counter() - start)

    async def open(self, rate: float, seconds: float) -> Result:
        """Independent arrivals (Poisson), so many in a second, whether earlier ones are answered or not."""
        dice = random.Random(0)  # noqa: S311
        start = due = perf_counter()
        requests = []
        while due < start + seconds:
            await asyncio.sleep(max(0, due - perf_counter()))
            requests.append(asyncio.create_task(self.post(due)))
            due += dice.expovariate(rate)
        outcomes = await asyncio.gather(*requests)
        # What was queued is answered after the last arrival: answers and seconds must be of the same time.
        return Result(outcomes, perf_counter() - start)


@asynccontextmanager
async def client_of(url: str, body: bytes) -> AsyncIterator[Client]:
    """A client that opens as many connections as it needs, and keeps them."""
    timeout = aiohttp.ClientTimeout(GIVE_UP_S)
    async with aiohttp.ClientSession(
        url, connector=aiohttp.TCPConnector(limit=0), timeout=timeout
    ) as session:
        yield Client(session, body)


def percentile(values: Sequence[float], percent: int) -> float:
    """100 gives the largest; infinite where there is none."""
    if not values:
        return math.inf
    ordered = sorted(values)
    return ordered[math.ceil(percent / 100 * len(ordered)) - 1]
