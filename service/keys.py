"""API keys, of which the service keeps nothing but SHA-256 digests."""

import re
import secrets
from collections.abc import Iterable
from hashlib import sha256

PREFIX = "sha256:"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
# A list in another notation, and a line of an env file whose reader keeps quotes, as Docker does.
_WRAPPED = re.compile(r"\[.*\]|\".*\"|'.*'", re.DOTALL)


def digest(key: bytes) -> str:
    """`sha256:` and 64 hexadecimal digits."""
    return PREFIX + sha256(key).hexdigest()


def digests(text: str) -> tuple[str, ...]:
    """The digests of comma-separated keys, each given as it is or as a digest; none of an empty text.

    Raises ValueError, which repeats no key, for a digest that is none or of nothing, for a key that no header
    can carry or that stands in quotes, for a list in brackets, and for one that holds no key.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    if text.strip() and not words:
        raise ValueError("it holds no key")
    if any(_WRAPPED.fullmatch(text) for text in (text.strip(), *words)):
        raise ValueError("keys are separated by commas, without brackets or quotes around them")
    if not all(word.isascii() and word.isprintable() for word in words):
        raise ValueError("a header takes printable ASCII only, and a key in it has another character")
    if any(_is_digest(word) and not _DIGEST.fullmatch(word.lower()) for word in words):
        raise ValueError("what begins with 'sha256:' must go on with 64 hexadecimal digits")
    found = tuple(word.lower() if _is_digest(word) else digest(word.encode()) for word in words)
    if digest(b"") in found:
        raise ValueError("the digest in it is that of an empty key, which everybody has")
    return found


def known(key: bytes, accepted: Iterable[str]) -> bool:
    """Whether the key's digest is one of these. Timing does not tell which, nor how near the key was."""
    given = digest(key)
    matches = [secrets.compare_digest(given, one) for one in accepted]
    return any(matches)


def _is_digest(word: str) -> bool:
    return word.lower().startswith(PREFIX)
