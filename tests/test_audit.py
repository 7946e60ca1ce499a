"""`make audit` never takes what it could not ask about for clean."""

import json

import pytest

from tools.audit import Findings, exit_code, read, report

CLEAN = {"name": "a", "version": "1", "vulns": []}
BAD = {"name": "b", "version": "2", "vulns": [{"id": "PYSEC-1"}, {"id": "PYSEC-2"}]}
SKIPPED = {"name": "c", "skip_reason": "c: not found and could not be audited"}


@pytest.mark.parametrize(
    ("packages", "code", "told"),
    [
        ([CLEAN], 0, "1 packages audited, 0 with known vulnerabilities"),
        ([CLEAN, BAD], 1, "b 2: PYSEC-1, PYSEC-2"),
        ([CLEAN, SKIPPED], 2, "COULD NOT AUDIT 1, the first because: c: not found"),
        ([BAD, SKIPPED], 1, "COULD NOT AUDIT 1"),
    ],
)
def test_each_package_is_clean_vulnerable_or_unknown(
    packages: list[dict[str, object]], code: int, told: str
) -> None:
    findings = read(json.dumps({"dependencies": packages, "fixes": []}), "")
    assert exit_code([Findings(9, (), ()), findings]) == code
    assert told in report("lock.txt", findings)


@pytest.mark.parametrize("complaints", ["Traceback:\n  File x\nConnectionError: no route\n", ""])
def test_without_an_answer_nothing_is_clean(complaints: str) -> None:
    findings = read("", complaints)
    assert exit_code([findings]) == 2
    assert "0 packages audited" in report("lock.txt", findings)
    assert (complaints.strip().splitlines() or ["pip-audit said nothing"])[-1] in report("lock.txt", findings)
