"""SECURITY.md names no test that is not there, and no setting."""

import re
from pathlib import Path

import pytest

from service.settings import Settings

ROOT = Path(__file__).parents[1]
DOCUMENT = (ROOT / "SECURITY.md").read_text()
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", DOCUMENT)


@pytest.mark.parametrize(("path", "test"), NAMED)
def test_a_test_that_is_named_exists(path: str, test: str) -> None:
    assert re.search(rf"^def {test}\(", (ROOT / path).read_text(), re.MULTILINE)


def test_every_threat_names_a_test() -> None:
    table = DOCUMENT.partition("| an attacker |")[2].partition("\n\n")[0]
    rows = table.splitlines()[2:]
    assert len(rows) > 10
    assert all("::test_" in row.rpartition(" | ")[2] for row in rows)


def test_every_setting_that_is_named_exists() -> None:
    names = {name.lower() for name in re.findall(r"FER_(\w+)", DOCUMENT)}
    assert names <= set(Settings.model_fields)
