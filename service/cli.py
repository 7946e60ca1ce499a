"""The command line: `fer-service serve | analyze | video | models | openapi`."""

import json
import os
from typing import Annotated, NoReturn

import typer

try:
    import fastapi  # noqa: F401 - reads OTEL_PROPAGATORS where OpenTelemetry is installed
except ValueError as error:
    raise SystemExit(f"fer-service: the OTEL_ variables cannot be used: {error}") from None

from service.lifespan import load
from service.main import create_app
from service.media import commands
from service.media.options import StoreOption
from service.media.photos import standard_output
from service.media.terminal import told_in_one_line
from service.runtime.decoder_pool import DecoderError
from service.runtime.model_store import EmotionEntry, ModelStore, ModelStoreError
from service.server import ListenError, end_on_signals, listen, serve_until_stopped
from service.settings import Settings, SettingsError, read_settings
from service.telemetry.logging import configure_logging
from service.telemetry.tracing import NO_TRACING, TracingError, tracing_for
from service.version import __version__

app = typer.Typer(
    name="fer-service",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Find the faces in images and tell how likely people would call each expression.",
)


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Find the faces in images and tell how likely people would call each expression."""
    if version:
        _print(__version__)
        raise typer.Exit


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 picks a free one.")] = None,
    workers: Annotated[int | None, typer.Option(help="Worker threads; 0: one for each usable CPU.")] = None,
    model_store: StoreOption = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
) -> None:
    """Start the service. Settings come from FER_... variables and .env; options override them."""
    settings = _settings(
        host=host,
        port=port,
        workers=workers,
        model_store=model_store,
        log_level=log_level,
    )
    configure_logging(settings.log_level, settings.log_format)
    end_on_signals()
    try:
        # First, so that a taken port is told at once.
        listener = listen(settings)
        tracing = tracing_for(os.environ)
        loaded = load(settings)
    except (ListenError, ModelStoreError, DecoderError, TracingError) as error:
        _fail(str(error))
    serve_until_stopped(settings, loaded, listener, tracing)


@app.command()
def models(model_store: StoreOption = None) -> None:
    """List the emotion models of the store, after checking every file."""
    settings = _settings(model_store=model_store)
    try:
        store = ModelStore.open(settings.model_store)
        store.pipeline(settings.default_model)
    except ModelStoreError as error:
        _fail(str(error))
    default = settings.default_model or store.manifest.default
    rows = [
        _row(f"{name}{' *' if name == default else ''}", entry)
        for name, entry in store.manifest.emotion.items()
    ]
    _print("\n".join((f"{'model':<18} {'version':<8} {'bytes':>10}  {'accuracy on':<18} digest", *rows)))


@app.command()
def openapi() -> None:
    """Print the OpenAPI document."""
    settings = Settings.model_construct()  # of every deployment the same
    _print(json.dumps(create_app(settings, tracing=NO_TRACING).openapi(), indent=2))


commands.register(app)


def main() -> None:
    """Entry point of the installed command."""
    app()


def _row(name: str, entry: EmotionEntry) -> str:
    accuracy = entry.measured.get(f"{entry.label_set}_public_accuracy")
    shown = f"{entry.label_set:<8} " + (f"{accuracy:.2%}" if accuracy is not None else "-")
    return f"{name:<18} {entry.version:<8} {entry.bytes:>10}  {shown:<18} sha256:{entry.sha256}"


def _print(text: str) -> None:
    """To the end of it: a full disk is told, and that nobody reads it is no error to tell of."""
    with told_in_one_line(), standard_output() as stdout:
        stdout.write(f"{text}\n")


def _settings(**overrides: object) -> Settings:
    try:
        return read_settings(**overrides)
    except SettingsError as error:
        _fail(str(error))


def _fail(message: str) -> NoReturn:
    # One line, whatever a file or a library put into it.
    line = " ".join("".join(char if char.isprintable() else " " for char in message).split())
    typer.echo(f"fer-service: {line}", err=True)
    raise typer.Exit(1)


if __name__ == "__main__":
    main()
