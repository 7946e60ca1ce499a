"""Settings are read, checked and all documented."""

import re
from pathlib import Path

import pytest

from service.settings import Settings, SettingsError, read_settings

README = Path(__file__).parents[1] / "README.md"


def test_every_setting_and_its_default_is_in_the_readme() -> None:
    rows = re.findall(r"^\| `FER_(\w+)` \| (.*?) \|", README.read_text(), re.MULTILINE)
    expected = [
        (name.upper(), f"`{field.default}`" if field.default not in (None, ()) else "none")
        for name, field in Settings.model_fields.items()
    ]
    assert rows == expected


def test_the_environment_is_read_and_options_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FER_PORT", "1234")
    monkeypatch.setenv("FER_API_KEYS", "one, two,")
    settings = read_settings(host="0.0.0.0", port=None)
    assert (settings.port, settings.host, settings.api_keys) == (1234, "0.0.0.0", ("one", "two"))
    assert read_settings(port=5).port == 5


def test_a_dotenv_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("FER_WORKERS=3\nOTHER=1\n")
    monkeypatch.chdir(tmp_path)
    assert read_settings().workers == 3


@pytest.mark.parametrize(("name", "value"), [("PORT", "http"), ("WORKERS", "-1"), ("LOG_LEVEL", "loud")])
def test_a_bad_value_is_told_in_one_sentence(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"FER_{name}", value)
    with pytest.raises(SettingsError, match=f"^FER_{name}='{value}': [^\n]+$"):
        read_settings()
