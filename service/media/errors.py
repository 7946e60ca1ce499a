"""What stops a media run; each message is one line for the person at the terminal.

MediaError
 +-- MissingExtraError   a package of the `[media]` or `[ray]` extra is needed and not installed
 +-- SourceError         nothing to read: no such folder, a pattern without matches, not a video
 +-- JournalError        the journal beside the output belongs to another run, or another process has it
 +-- ServerError         the server cannot be reached, or refuses the run as a whole
 +-- ClusterError        no Ray cluster answers, or it cannot do the work
 +-- RefusedError        the server refuses one image; the run goes on
 +-- ReaderGoneError     nobody reads the standard output any more, which nobody needs to be told
"""

from collections.abc import Iterator
from contextlib import contextmanager

_EXTRAS = {"av": "media", "httpx": "media", "matplotlib": "media", "pyarrow": "media", "ray": "ray"}


class MediaError(Exception):
    """The message is for the person at the terminal."""


class MissingExtraError(MediaError):
    """A package of the `[media]` or `[ray]` extra is needed and not installed."""


class SourceError(MediaError):
    """Nothing to read."""


class JournalError(MediaError):
    """The journal beside the output belongs to another run, or another process has it."""


class ServerError(MediaError):
    """The server cannot be reached, or refuses the run as a whole."""


class ClusterError(MediaError):
    """No Ray cluster answers, or it cannot do the work."""


class RefusedError(MediaError):
    """The server refuses one image; the run goes on."""


class ReaderGoneError(MediaError):
    """Nobody reads the standard output any more, which nobody needs to be told."""


@contextmanager
def media_extra(purpose: str) -> Iterator[None]:
    """Around an import: raises MissingExtraError that says how to install what `purpose` needs."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _EXTRAS:
            raise
        raise MissingExtraError(
            f"{purpose} needs the package {package}: pip install -e '.[{_EXTRAS[package]}]' in a checkout"
        ) from error
