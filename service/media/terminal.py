"""What a command tells the person at the terminal, and how it ends there."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

import typer

from service.media.errors import MediaError, ReaderGoneError
from service.media.interruption import Handler, Interruption
from service.media.records import on_one_line
from service.runtime.model_store import ModelStoreError
from service.settings import SettingsError
from service.telemetry.tracing import TracingError

SOME_FAILED, STOPPED, INTERRUPTED, UNREAD = 1, 2, 130, 141
_INTERRUPTS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def told_in_one_line(after_interrupt: str = "") -> Iterator[Interruption]:
    """What stops a run is one line on standard error, and a code.

    SIGTERM interrupts as Ctrl-C does, and so does the end of the terminal, unless `nohup` keeps that off.
    """
    interruption = Interruption()
    handlers: dict[signal.Signals, Handler] = dict.fromkeys(_INTERRUPTS, interruption.signalled)
    if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        handlers[signal.SIGHUP] = interruption.hung_up
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield interruption
    except ReaderGoneError as error:
        raise typer.Exit(UNREAD) from error
    except (MediaError, ModelStoreError, SettingsError, TracingError) as error:
        _stop(str(error))
    except OSError as error:
        _stop(f"{error.filename or 'output'}: {error.strerror or error}")
    except KeyboardInterrupt:
        _stop("; ".join(filter(None, ("interrupted", after_interrupt))), INTERRUPTED)
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def say(line: str) -> None:
    """Write a line on standard error."""
    # The outputs are what counts: that nobody hears any more must not cost them.
    with suppress(OSError):
        typer.echo(on_one_line(line), err=True)


def _stop(message: str, code: int = STOPPED) -> NoReturn:
    say(f"fer-service: {message}")
    raise typer.Exit(code)
