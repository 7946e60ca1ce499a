"""What is done to a server, and what must hold. Each scenario gives lines of the report."""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import mean, median
from time import perf_counter, process_time

from benchmarks.load.dawdlers import HABITS, Dawdler, dawdling, hang_up
from benchmarks.load.generator import Client, Outcome, Result, all_of, client_of, percentile
from benchmarks.load.report import Finding, at_least, at_most
from benchmarks.load.watcher import watching
from benchmarks.server import Server, serving

CLIENTS_AT_PEAK = 8
ROUNDS = 3
DEADLINE_S = 10.0
SHORT_DEADLINE_S = 0.25
BATCH = 16
DAWDLERS_OF_EACH = 500
# Until all are accepted and the kernel holds what slow readers do not take.
SETTLE_S = 5.0
# Before the deadline cuts the first of them off.
BESIDE_S = 4.0


@dataclass(frozen=True, slots=True)
class Times:
    """How long the parts take, in seconds; shorter ones are for trying the tool itself."""

    peak: float = 10
    steady: float = 30
    overload: float = 60
    short: float = 8


async def warm_up(client: Client) -> None:
    """Until the rates do not change any more."""
    await client.closed(CLIENTS_AT_PEAK, 3)


async def steady_and_overloaded(server: Server, client: Client, times: Times) -> list[Finding]:
    """The peak and 80 % of it, then twice the peak in rounds, with the peak measured anew after each.

    A shared machine can be a quarter slower in one minute than in the one before: each flood is compared with
    the peaks on either side of it.
    """
    peaks, floods = [await client.closed(CLIENTS_AT_PEAK, times.peak)], []
    steady = await client.open(0.8 * peaks[0].rate, times.steady)
    cpu, own_cpu = server.cpu_seconds(), process_time()
    with watching(server) as watch:
        short = asyncio.create_task(_short_deadlines(client, times.overload))
        for _ in range(ROUNDS):
            floods.append(await client.open(2 * peaks[-1].rate, times.overload / ROUNDS))
            peaks.append(await client.closed(CLIENTS_AT_PEAK, times.peak))
        hurried = await short
    share = (process_time() - own_cpu) / (server.cpu_seconds() - cpu)
    goodput = median(
        flood.rate / mean((before.rate, after.rate))
        for flood, (before, after) in zip(floods, pairwise(peaks), strict=True)
    )
    overloaded = all_of(floods)
    answered, refused = overloaded.of(200), overloaded.of(503)
    return [
        *_steady(steady),
        Finding(
            "twice the peak rate: requests, of them answered / refused / neither",
            f"{len(overloaded.outcomes)}: {len(answered)} / {len(refused)} / "
            f"{len(overloaded.outcomes) - len(answered) - len(refused)}",
            "none is neither",
            len(answered) + len(refused) == len(overloaded.outcomes),
        ),
        at_least(f"goodput over the peak before and after, median of {ROUNDS} rounds", goodput, 0.9),
        at_most(
            "slowest answer over the deadline", max(overloaded.times(200), default=math.inf) / DEADLINE_S, 1
        ),
        at_most("refusals: 99th percentile, ms", 1000 * percentile(overloaded.times(503), 99), 100, "{:.0f}"),
        Finding(
            "refusals: `Retry-After`, least to most",
            f"{min(_retries(refused), default=0)} to {max(_retries(refused), default=0)} s",
            "with every one",
            len(_retries(refused)) == len(refused),
        ),
        at_most(
            "`/livez`, `/readyz` and `/metrics`: slowest, ms",
            1000 * watch.slowest,
            100,
            "{:.0f}",
        ),
        Finding("probes that failed, `/readyz` included", f"{watch.failures}", "0", not watch.failures),
        at_most("resident memory, last third over second third", watch.growth, 1.05),
        *_hurried(hurried),
        Finding("the generator: late by, 99th percentile", f"{1000 * overloaded.late:.0f} ms"),
        Finding("the generator: its CPU time over the server's", f"{share:.2f}"),
    ]


def _steady(steady: Result) -> list[Finding]:
    times = steady.times(200)
    answered = len(times) == len(steady.outcomes)
    return [
        at_most("80 % of the peak rate: p99 over the median", percentile(times, 99) / median(times), 5),
        Finding("80 % of the peak rate: all answered", "yes" if answered else "no", "yes", answered),
    ]


async def _short_deadlines(client: Client, seconds: float) -> list[Outcome]:
    """Now and then a request that has much less time than the others."""
    end = perf_counter() + seconds
    outcomes = []
    while (now := perf_counter()) < end:
        milliseconds = str(round(1000 * SHORT_DEADLINE_S))
        outcomes.append(await client.post(now, {"X-Request-Timeout-Ms": milliseconds}))
        await asyncio.sleep(0.5)
    return outcomes


def _hurried(outcomes: Sequence[Outcome]) -> list[Finding]:
    odd = [outcome for outcome in outcomes if outcome.status not in (200, 503, 504)]
    slowest = max(outcome.seconds for outcome in outcomes)
    return [
        at_most(
            f"`X-Request-Timeout-Ms: {1000 * SHORT_DEADLINE_S:.0f}`: slowest answer or refusal over it",
            slowest / SHORT_DEADLINE_S,
            1.4,
        ),
        Finding("and neither answered, refused nor told 504", f"{len(odd)}", "0", not odd),
    ]


def _retries(refused: Sequence[Outcome]) -> list[int]:
    return [outcome.retry_after for outcome in refused if outcome.retry_after is not None]


async def retry_after(body: bytes, times: Times) -> list[Finding]:
    """Fill a long queue, stop, and see how long it takes to drain."""
    with serving(queue_size=300) as server:
        async with client_of(server.url, body) as client:
            await warm_up(client)
            peak = await client.closed(CLIENTS_AT_PEAK, times.short)
            filled = await client.open(3 * peak.rate, times.short)
    last = max(filled.of(503), key=lambda outcome: outcome.sent, default=None)
    if last is None:
        return [Finding("a queue of 300: `Retry-After`", "the queue was never full", "it is", kept=False)]
    drained = max(outcome.ended for outcome in filled.of(200)) - last.ended
    told = last.retry_after or 0
    return [
        at_least("a queue of 300: `Retry-After` over the time it took to drain", told / drained, 0.75),
        at_most("the same, less the second that rounding adds", (told - 1) / drained, 2),
    ]


async def hung_up(server: Server, client: Client, body: bytes) -> list[Finding]:
    """As many requests as may wait, by clients that do not."""
    rounds, count = 4, 60
    per_answer = await _cpu_of(server, _answered(client, rounds * count))
    dropped = server.counter("fer_dropped_calls_total")
    per_hang_up = await _cpu_of(server, _hung_up(server, body, rounds, count))
    share = (server.counter("fer_dropped_calls_total") - dropped) / (rounds * count)
    return [
        at_least("clients that hang up: share of their requests that no worker began", share, 0.75),
        at_most("CPU time for them over that for as many answers", per_hang_up / per_answer, 0.5),
    ]


async def _cpu_of(server: Server, doing: "asyncio.Future[None]") -> float:
    before = server.cpu_seconds()
    await doing
    return server.cpu_seconds() - before


def _answered(client: Client, count: int) -> "asyncio.Task[None]":
    async def ask() -> None:
        for _ in range(count // 20):
            await asyncio.gather(*(client.post(perf_counter()) for _ in range(20)))

    return asyncio.create_task(ask())


def _hung_up(server: Server, body: bytes, rounds: int, count: int) -> "asyncio.Task[None]":
    async def leave() -> None:
        for _ in range(rounds):
            await asyncio.to_thread(hang_up, server.port, body, count)
            while server.counter("fer_inflight_requests"):
                await asyncio.sleep(0.05)

    return asyncio.create_task(leave())


async def dawdled(server: Server, client: Client) -> list[Finding]:
    """Two ordinary clients alone, then beside two thousand connections that only take up room."""
    alone = await client.closed(2, BESIDE_S)
    with dawdling(server.port, DAWDLERS_OF_EACH) as dawdlers:
        await asyncio.sleep(SETTLE_S)
        beside = await client.closed(2, BESIDE_S)
        resident = server.resident_bytes()
        give_up = perf_counter() + 2 * DEADLINE_S
        while perf_counter() < give_up and any(dawdler.lasted is None for dawdler in dawdlers):
            await asyncio.sleep(0.5)
    failed = len(beside.outcomes) - len(beside.of(200))
    lasted = [dawdler.lasted for dawdler in dawdlers if dawdler.lasted is not None]
    total = len(dawdlers)
    return [
        at_least(
            f"{total} idle or slow connections: throughput over that without", beside.rate / alone.rate, 0.8
        ),
        Finding("requests beside them that failed", f"{failed}", "0", not failed),
        Finding(
            "connections of them that the server closed", f"{len(lasted)}", f"{total}", len(lasted) == total
        ),
        *(_patience(habit, dawdlers) for habit in HABITS),
        Finding("resident memory with all of them", f"{resident / 1e6:.0f} MB"),
    ]


def _patience(habit: str, dawdlers: Sequence[Dawdler]) -> Finding:
    lasted = [dawdler.lasted for dawdler in dawdlers if dawdler.habit == habit and dawdler.lasted is not None]
    slowest = max(lasted, default=math.inf) / DEADLINE_S
    return at_most(f"{habit}: longest it was kept, over the deadline", slowest, HABITS[habit].deadlines + 0.5)


async def beside_batches(client: Client, body: bytes, times: Times) -> list[Finding]:
    """A single image at a time, alone and beside clients whose batches are as large as they may be."""
    alone = await client.closed(1, times.short)
    ratios = {}
    for batches in (1, 4):
        stop = asyncio.Event()
        crowd = [asyncio.create_task(_batches(client, body, stop)) for _ in range(batches)]
        beside = await client.closed(1, times.short)
        stop.set()
        answered = sum(await asyncio.gather(*crowd))
        assert answered, "no batch was answered beside the single images"
        ratios[batches] = median(beside.times(200)) / median(alone.times(200))
    return [
        at_most("a single image beside one client's batches of 16: median over alone", ratios[1], 3.5),
        Finding("beside four such clients", f"{ratios[4]:.2f}"),
    ]


async def _batches(client: Client, body: bytes, stop: asyncio.Event) -> int:
    boundary = "load"
    part = b"--load\r\nContent-Disposition: form-data; name=images; filename=a.jpg\r\n\r\n" + body + b"\r\n"
    form = BATCH * part + b"--load--\r\n"
    answered = 0
    while not stop.is_set():
        status = await client.post_form(
            "/detect-emotions/batch", form, f"multipart/form-data; boundary={boundary}"
        )
        answered += status == 200
    return answered
