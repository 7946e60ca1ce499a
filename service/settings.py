"""Every setting of the service, read from FER_... variables and a `.env` file."""

import os
import re
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Literal

from dotenv.parser import parse_stream  # what pydantic-settings reads the file with
from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from service import keys

# scheme://host or scheme://host:port, as browsers send it.
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^\s/?#@]+")
_SECRET = frozenset({"api_keys"})
DOTENV = ".env"
PREFIX = "FER_"
# The key that the command line sends to another service.
CLIENT_KEY = f"{PREFIX}CLIENT_API_KEY"
# Kubernetes sets such for each service of a namespace, so FER_KEYCLOAK_PORT for one of the name fer-keycloak.
_OF_KUBERNETES = re.compile(r".*_(SERVICE_HOST|(SERVICE_)?PORT(_.*)?)")
# For numbers that nothing else bounds: metrics are floats, which far beyond it cannot hold them.
_MOST = 2**53
# How much of its letters a variable that is no setting shares with one that it is taken for.
_ALIKE = 0.85


class SettingsError(ValueError):
    """A setting has a value that cannot be used; the message names the variable."""


class Settings(BaseSettings):
    """Frozen once read; making one touches nothing but the environment and `.env`."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_file=DOTENV, frozen=True, extra="ignore")

    host: str = Field("127.0.0.1", min_length=1, description="Address to listen on; `0.0.0.0` for all.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on.")
    model_store: Path | None = Field(None, description="Folder of graphs with a `manifest.json`.")
    default_model: str | None = Field(None, description="Emotion model for requests that name none.")
    workers: int = Field(
        0, ge=0, le=1024, description="Threads that decode and infer; 0: one for each usable CPU."
    )
    queue_size: int = Field(
        64, ge=0, le=_MOST, description="Requests that may wait for a worker before others are refused."
    )
    request_timeout_s: float = Field(
        10, gt=0, le=3600, description="Deadline of a request, its upload included."
    )
    shutdown_grace_s: float = Field(
        10, ge=0, le=3600, description="Time that requests get to finish on SIGTERM."
    )
    max_body_bytes: int = Field(20_000_000, gt=0, le=_MOST, description="Largest request body.")
    max_pixels: int = Field(
        64_000_000, gt=0, le=178_000_000, description="Largest image, width times height."
    )
    max_batch_images: int = Field(16, gt=0, le=1000, description="Most images in one batch request.")
    max_streams: int = Field(32, ge=0, le=10_000, description="Streams that may be open at a time; 0: none.")
    stream_idle_timeout_s: float = Field(
        30, gt=0, le=3600, description="A stream that sends no frame for so long is closed."
    )
    api_keys: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Comma-separated keys, or their digests as `sha256:<hex>`; when set, requests that cost "
        "work need one in `X-API-Key`.",
    )
    allowed_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Comma-separated origins of other sites whose pages may use the service; `*` for all.",
    )
    metrics: bool = Field(True, description="Whether `/metrics` is there.")
    docs: bool = Field(True, description="Whether `/docs` and `/openapi.json` are there.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least level that is logged."
    )
    log_format: Literal["console", "json"] = Field(
        "console", description="Log lines for people or for machines."
    )

    @field_validator("model_store", mode="before")
    @classmethod
    def _named(cls, value: object) -> object:
        return value or None  # an empty path would be the working directory

    @field_validator("api_keys", mode="before")
    @classmethod
    def _digested(cls, value: object) -> object:
        return keys.digests(value) if isinstance(value, str) else value

    @field_validator("allowed_origins", mode="before")
    @classmethod
    def _origins(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        origins = tuple(origin.strip().lower() for origin in value.split(",") if origin.strip())
        for origin in origins:
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise ValueError(f"{origin!r} is no origin such as https://example.org, nor '*'")
        return origins


def read_settings(**overrides: object) -> Settings:
    """Settings from the environment, with values from the command line put over them.

    Raises SettingsError with one sentence for each bad value.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        _check_names([*os.environ, *_names(Path(DOTENV))])
        return Settings(**given)  # type: ignore[arg-type]
    except ValidationError as error:
        raise SettingsError(
            "; ".join(_problem(e["loc"][0], e["input"], e["msg"]) for e in error.errors())
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"the file .env cannot be read: {error}") from error


def _names(dotenv: Path) -> list[str]:
    """The variables that the file sets.

    Raises SettingsError for a line that seems to set something, such as keys, and would be passed over.
    """
    if not dotenv.is_file():
        return []
    with dotenv.open(encoding="utf-8") as file:
        lines = list(parse_stream(file))
    for line in lines:
        name_alone = line.key and line.value is None and line.key.upper().startswith(PREFIX)
        if name_alone or (line.error and PREFIX in line.original.string.upper()):
            raise SettingsError(f"the file .env, line {line.original.line}: it is no NAME=value")
    return [line.key for line in lines if line.key]


def _check_names(names: Iterable[str]) -> None:
    """Raise SettingsError for a variable that is nearly a setting: without its keys the service is open."""
    settings = [f"{PREFIX}{name.upper()}" for name in Settings.model_fields]
    others = {name for name in names if name.upper().startswith(PREFIX) and name.upper() not in settings}
    for name in sorted(others - {CLIENT_KEY}):
        meant = get_close_matches(name.upper(), settings, 1, _ALIKE)
        if not meant and "KEY" in name.upper() and not _OF_KUBERNETES.fullmatch(name):
            # Unlike as it is, as `FER_API_KEYS_FILE`.
            meant = [f"{PREFIX}API_KEYS"]
        if meant:
            raise SettingsError(f"{name} is no setting: is {meant[0]} meant?")


def _problem(name: int | str, value: object, message: str) -> str:
    shown = "..." if name in _SECRET else repr(value)
    return f"FER_{str(name).upper()}={shown}: {message}"
