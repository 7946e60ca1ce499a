"""Hostile input for a real server, bounded in time; exit code 1 where something is found.

    python -m benchmarks.fuzz --seconds 180 --data ../shared/data/hostile

A fifth of the time goes to coverage-guided fuzzing of the readers written in Python, a fifth to schemathesis
over the OpenAPI document, the rest to mutated pictures, forms and JSON. Every case has a number, from which
it is made again; bodies with a wrong answer are kept in --out.
"""

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path
from random import SystemRandom
from tempfile import TemporaryDirectory

from benchmarks.fuzz.campaign import Memory, Tally, send_cases
from benchmarks.fuzz.seeds import seeds
from benchmarks.load.report import Finding, at_most, table
from benchmarks.server import Server, serving

MB = 1_000_000
MOST_PEAK_MB, MOST_GROWTH_MB, MOST_DESCRIPTORS = 1_500, 50, 8
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
BIN = Path(sys.executable).parent


def main() -> int:
    """Run all three and print the findings."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=180)
    parser.add_argument("--data", type=Path, nargs="*", default=[], help="folders of more pictures")
    parser.add_argument("--first", type=int, help="number of the first case; by default a random one")
    parser.add_argument("--out", type=Path, default=Path("runs/fuzz"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    pictures = seeds(*options.data)
    first = SystemRandom().randrange(10**9) if options.first is None else options.first
    findings = [_readers(pictures, options.seconds / 5, options.out)]
    with (options.out / "server.log").open("wb") as log, serving(log, request_timeout_s=60) as server:
        before = _descriptors(server)
        tally, memory = send_cases(server, pictures, first, options.seconds * 3 / 5, options.out)
        findings += _judged(tally, memory, first)
        findings.append(
            at_most("descriptors more than before", _descriptors(server) - before, MOST_DESCRIPTORS, "{:.0f}")
        )
        findings.append(_schemathesis(server, options.seconds / 5))
    findings += _logged(options.out / "server.log")
    print(table(findings))
    print("\n".join(tally.faults[:20]))
    return 0 if all(finding.kept for finding in findings) else 1


def _readers(pictures: dict[str, list[bytes]], seconds: float, out: Path) -> Finding:
    """Atheris, in a process of its own, over the seeds."""
    with TemporaryDirectory() as corpus:
        for number, data in enumerate(data for group in pictures.values() for data in group):
            (Path(corpus) / str(number)).write_bytes(data[:8_000])
        command = [sys.executable, "-m", "benchmarks.fuzz.headers", corpus, f"-max_total_time={seconds:.0f}"]
        limits = ["-max_len=8000", "-rss_limit_mb=2000", f"-artifact_prefix={out}/reader-"]
        run = subprocess.run([*command, *limits], capture_output=True, text=True, check=False)
    runs = [line for line in run.stderr.splitlines() if line.startswith("Done ")]
    if run.returncode:
        print(run.stderr[-3_000:], file=sys.stderr)
    return Finding(
        "readers in Python, inputs tried",
        runs[0].split()[1] if runs else "?",
        "none fails",
        not run.returncode,
    )


def _judged(tally: Tally, memory: Memory, first: int) -> list[Finding]:
    total = sum(tally.answers.values())
    return [
        Finding(f"cases sent, from number {first}", f"{total}"),
        *(Finding(f"answers {answer}", f"{number}") for answer, number in sorted(tally.answers.items())),
        at_most("answers that are neither 200 nor a problem of 4xx", len(tally.faults), 0, "{:.0f}"),
        Finding(f"slowest answer, case {tally.slowest}", f"{tally.slowest_s:.1f} s"),
        at_most("memory of all processes at its peak, MB", memory.peak / MB, MOST_PEAK_MB, "{:.0f}"),
        at_most("memory that stayed, MB", memory.growth() / MB, MOST_GROWTH_MB, "{:.0f}"),
    ]


def _schemathesis(server: Server, seconds: float) -> Finding:
    command = [str(BIN / "schemathesis"), "run", f"{server.url}/openapi.json", f"--max-time={seconds:.0f}"]
    options = [
        "--checks",
        CHECKS,
        "--max-examples=100000",
        "--continue-on-failure",
        "--generation-database=none",
    ]
    run = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    sent = re.search(r"Test cases:\n\s+(\d+) generated", run.stdout)
    if run.returncode:
        print(run.stdout[-5_000:])
    return Finding("requests of schemathesis", sent[1] if sent else "?", "none fails", not run.returncode)


def _logged(log: Path) -> list[Finding]:
    text = log.read_text()
    return [
        at_most("internal errors in the log", text.count("internal error"), 0, "{:.0f}"),
        Finding("decoder processes that died", f"{text.count('decoder died')}"),
    ]


def _descriptors(server: Server) -> int:
    return len(os.listdir(f"/proc/{server.pid}/fd"))


if __name__ == "__main__":
    sys.exit(main())
