"""Put a real server process under load and write what was measured into docs/reliability.md.

    python -m benchmarks.load [--page PATH] [--quick]

Exits with 1 when a bound that the page promises is broken. Linux only: memory and CPU time come from /proc.
"""

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from datetime import date
from pathlib import Path

from benchmarks.load import report, scenarios
from benchmarks.load.dawdlers import allow_open_files
from benchmarks.load.generator import client_of
from benchmarks.load.report import Cores, Finding
from benchmarks.load.scenarios import Times
from benchmarks.server import serving
from benchmarks.workloads import ASTRONAUT

QUICK = Times(peak=4, steady=6, overload=9, short=4)


async def measure(times: Times) -> AsyncIterator[Sequence[Finding]]:
    """All scenarios, one after the other."""
    body = ASTRONAUT.read_bytes()
    with serving() as server:
        async with client_of(server.url, body) as client:
            await scenarios.warm_up(client)
            yield await scenarios.steady_and_overloaded(server, client, times)
            yield await scenarios.hung_up(server, client, body)
            yield await scenarios.beside_batches(client, body, times)
            yield await scenarios.dawdled(server, client)
    yield await scenarios.retry_after(body, times)


async def all_findings(times: Times) -> list[Finding]:
    """What `measure` finds, told on the way."""
    findings: list[Finding] = []
    async for found in measure(times):
        print(*(report.row(finding) for finding in found), sep="\n", file=sys.stderr, flush=True)
        findings += found
    return findings


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--page", type=Path, help="page to write the table into")
    parser.add_argument("--quick", action="store_true", help="try the tool: too short to judge the service")
    arguments = parser.parse_args()
    allow_open_files()
    start = Cores.now()
    findings = asyncio.run(all_findings(QUICK if arguments.quick else Times()))
    others = f"Other programs had {Cores.now().others_since(start):.0%} of the cores' time."
    text = f"{report.table(findings)}\n\nMeasured on {date.today()}: {report.machine()}. {others}"
    if arguments.page:
        report.write(arguments.page, text)
    broken = [finding.what for finding in findings if not finding.kept]
    for what in broken:
        print(f"broken: {what}", file=sys.stderr)
    return bool(broken)


if __name__ == "__main__":
    sys.exit(main())
