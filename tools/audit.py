"""Ask pip-audit for known vulnerabilities of the locked packages: `python -m tools.audit LOCK...`.

Exit code 0: every package was asked about, and none has a known vulnerability. 1: some have. 2: some could
not be asked about, without a network all of them; nothing is said of those.
"""

import json
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass

OPTIONS = ("--disable-pip", "--require-hashes", "--progress-spinner", "off", "--format", "json")


@dataclass(frozen=True, slots=True)
class Findings:
    """What is known of the packages of one lock."""

    audited: int
    vulnerable: tuple[str, ...]
    unknown: tuple[str, ...]


def audit(lock: str) -> Findings:
    """Run pip-audit on a lock."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", lock, *OPTIONS]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    return read(process.stdout, process.stderr)


def read(output: str, complaints: str) -> Findings:
    """Understand pip-audit's JSON; where it printed none, its last complaint tells why."""
    try:
        packages = json.loads(output)["dependencies"]
    except ValueError:
        return Findings(0, (), ((complaints.strip() or "pip-audit said nothing").splitlines()[-1],))
    asked = [package for package in packages if "skip_reason" not in package]
    return Findings(
        len(asked),
        tuple(_line(package) for package in asked if package["vulns"]),
        tuple(package["skip_reason"] for package in packages if "skip_reason" in package),
    )


def _line(package: dict[str, object]) -> str:
    vulnerabilities = package["vulns"]
    assert isinstance(vulnerabilities, list)
    ids = ", ".join(found["id"] for found in vulnerabilities)
    return f"{package['name']} {package['version']}: {ids}"


def report(lock: str, findings: Findings) -> str:
    """What a person is told of a lock."""
    lines = [
        f"{lock}: {findings.audited} packages audited, {len(findings.vulnerable)} with known vulnerabilities"
    ]
    lines += [f"  {line}" for line in findings.vulnerable]
    if findings.unknown:
        lines.append(f"  COULD NOT AUDIT {len(findings.unknown)}, the first because: {findings.unknown[0]}")
    return "\n".join(lines)


def exit_code(all_findings: Iterable[Findings]) -> int:
    """See the module."""
    found = list(all_findings)
    return 1 if any(one.vulnerable for one in found) else 2 if any(one.unknown for one in found) else 0


def main(locks: list[str]) -> int:
    """Audit the locks and tell what was found."""
    findings = []
    for lock in locks:
        findings.append(audit(lock))
        print(report(lock, findings[-1]), flush=True)
    return exit_code(findings)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
