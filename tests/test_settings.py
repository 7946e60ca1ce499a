"""Settings are read, checked and all documented."""

import re
import sys
from hashlib import sha256
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
    monkeypatch.setenv("FER_ALLOWED_ORIGINS", "https://One.example, http://two:8080,")
    settings = read_settings(host="0.0.0.0", port=None)
    assert (settings.port, settings.host) == (1234, "0.0.0.0")
    assert settings.allowed_origins == ("https://one.example", "http://two:8080")
    assert read_settings(port=5).port == 5


@pytest.mark.parametrize("name", ["workers", "queue_size", "shutdown_grace_s", "max_streams"])
def test_zero_means_none(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Also where the name is in small letters."""
    monkeypatch.setenv(f"fer_{name}", "0")
    assert getattr(read_settings(), name) == 0


def test_a_dotenv_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("FER_WORKERS=3\nOTHER=1\n")
    monkeypatch.chdir(tmp_path)
    assert read_settings().workers == 3


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "http"),
        ("PORT", "65536"),
        ("WORKERS", "-1"),
        ("LOG_LEVEL", "loud"),
        ("MAX_PIXELS", "178000001"),
        ("MAX_BODY_BYTES", "0"),
        ("REQUEST_TIMEOUT_S", "0"),
        ("STREAM_IDLE_TIMEOUT_S", "0"),
    ],
)
def test_a_bad_value_is_told_in_one_sentence(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"FER_{name}", value)
    with pytest.raises(SettingsError, match=f"^FER_{name}='{value}': [^\n]+$"):
        read_settings()


WHOLE = [name for name, field in Settings.model_fields.items() if field.annotation is int]


@pytest.mark.parametrize("name", WHOLE)
def test_a_number_that_no_metric_could_hold_is_told(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(f"FER_{name.upper()}", "9" * 400)
    with pytest.raises(SettingsError, match=f"^FER_{name.upper()}='9+': Input should be less than [^\n]+$"):
        read_settings()


def test_keys_are_kept_as_digests_however_they_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    digest = f"sha256:{sha256(b'two').hexdigest()}"
    monkeypatch.setenv("FER_API_KEYS", f"first, {digest.upper()},")
    settings = read_settings()
    assert settings.api_keys == (f"sha256:{sha256(b'first').hexdigest()}", digest)
    assert "first" not in repr(settings)


def test_no_key_is_set_by_an_empty_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FER_API_KEYS", " ")
    assert read_settings().api_keys == ()


@pytest.mark.parametrize(
    "value",
    [
        ",",
        "sha256:" + "0123456789abcdef" * 4 + "0",
        "good, sha256:0123456789",
        "sha256:" + "g" * 64,
        "good, schlüssel",
        "good, schl\udcfcssel",
        f"good, sha256:{sha256().hexdigest().upper()}",
        '["good", "0123456789"]',
        ' ["good", "0123456789"]\n',
        "['good']",
        "good, '0123456789'",
        f'"sha256:{sha256(b"good").hexdigest()}"',
        "good\n0123456789",
    ],
)
def test_a_bad_list_of_keys_is_refused_and_not_repeated(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("FER_API_KEYS", value)
    with pytest.raises(SettingsError, match=r"^FER_API_KEYS=\.\.\.: Value error, [^\n]+$") as refused:
        read_settings()
    assert not any(word in str(refused.value) for word in ("good", "0123456789", "ggg", "schl"))


@pytest.mark.parametrize("value", ["example.org", "https://example.org/", "https://a@b", "null"])
def test_what_is_no_origin_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("FER_ALLOWED_ORIGINS", value)
    with pytest.raises(SettingsError, match="FER_ALLOWED_ORIGINS"):
        read_settings()


def test_a_dotenv_file_that_is_no_text_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_bytes(b"FER_PORT=\xff")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match=r"the file \.env cannot be read"):
        read_settings()


@pytest.mark.skipif(sys.platform != "linux", reason="a file that nobody can read, not even root")
def test_a_dotenv_file_that_cannot_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").symlink_to("/proc/self/mem")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match=r"the file \.env cannot be read"):
        read_settings()


def test_a_folder_of_that_name_is_an_environment_of_python_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").mkdir()
    monkeypatch.chdir(tmp_path)
    assert read_settings().port == 8000


@pytest.mark.parametrize(
    "line", ["FER_PORT 9000", 'FER_API_KEYS="a-secret', "fer_port: 9000", "FER_API_KEYS", "fer_api_keys"]
)
def test_a_line_that_would_set_nothing_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    (tmp_path / ".env").write_text(f"# ours\nFER_WORKERS=3\n{line}\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match=r"^the file \.env, line 3: it is no NAME=value$"):
        read_settings()


@pytest.mark.parametrize("line", ["TRANSFER_TOKEN", "TOKEN  # FER_PORT is below"])
def test_another_name_alone_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    """In a file that Docker reads, too, it stands for the variable of the shell."""
    (tmp_path / ".env").write_text(f"{line}\nFER_PORT=9000\n")
    monkeypatch.chdir(tmp_path)
    assert read_settings().port == 9000


@pytest.mark.parametrize(
    "name", ["FER_API_KEY", "FER_API_KEYS_FILE", "fer_key", "fer_worker", "FER_WOKRERS", "FER_MODEL_STORES"]
)
@pytest.mark.parametrize("in_file", [True, False])
def test_a_misspelled_setting_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, in_file: bool
) -> None:
    if in_file:
        (tmp_path / ".env").write_text(f"{name}=secret\n")
        monkeypatch.chdir(tmp_path)
    else:
        monkeypatch.setenv(name, "secret")
    with pytest.raises(SettingsError, match=rf"^{name} is no setting: is FER_[A-Z_]+ meant\?$"):
        read_settings()


@pytest.mark.parametrize(
    "name",
    [
        "FER_SERVICE_PORT",
        "FER_SERVICE_HOST",
        "FER_KEYCLOAK_SERVICE_HOST",
        "FER_KEYDB_PORT_6379_TCP_ADDR",
        "FERRY_PORT",
        "FER_TEAM",
        "FER_HOME",
        "FER_CLIENT_API_KEY",
    ],
)
def test_variables_of_others_are_left_alone(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Kubernetes sets the first for services of the names fer, fer-keycloak and fer-keydb."""
    monkeypatch.setenv(name, "x")
    read_settings()


def test_lines_of_other_programs_are_nobody_s_business(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("OTHER 'x\nFER_WORKERS=3\n")
    monkeypatch.chdir(tmp_path)
    assert read_settings().workers == 3


def test_an_empty_store_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FER_MODEL_STORE", "")
    assert read_settings().model_store is None
