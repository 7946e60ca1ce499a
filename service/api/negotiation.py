"""The Accept header: which of the answers we can give a client wants most."""

from collections.abc import Sequence

from starlette.datastructures import Headers

from service.api.errors import NotAcceptableError


def accepted(headers: Headers) -> str:
    """The Accept header, which may come on several lines (RFC 9110, section 5.3)."""
    return ", ".join(line for line in headers.getlist("accept") if line)


def negotiate(accept: str | None, offers: Sequence[str]) -> str:
    """The offer with the highest quality; among equals the first, so the first is the default.

    Raises NotAcceptableError where the header (RFC 9110, section 12.5.1) refuses all of them.
    """
    if accept in (None, "", "*/*"):  # what most clients send
        return offers[0]
    ranges = [_media_range(part) for part in accept.split(",")]
    quality, best = max(((_quality(offer, ranges), -index) for index, offer in enumerate(offers)))
    if quality <= 0:
        raise NotAcceptableError(f"this resource answers in {', '.join(offers)}")
    return offers[-best]


def _media_range(text: str) -> tuple[str, float]:
    name, *parameters = (part.strip().lower() for part in text.split(";"))
    weights = [parameter[2:] for parameter in parameters if parameter.startswith("q=")]
    try:
        return name, float(weights[0]) if weights else 1.0
    except ValueError:
        return name, 0.0


def _quality(offer: str, ranges: Sequence[tuple[str, float]]) -> float:
    """The quality of the most specific range that matches."""
    for candidate in (offer, offer.partition("/")[0] + "/*", "*/*"):
        matching = [quality for name, quality in ranges if name == candidate]
        if matching:
            return max(matching)
    return 0.0
