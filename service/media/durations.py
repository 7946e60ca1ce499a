"""Times as people write them."""

import math
import re

_NUMBER = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|min|m|h)?")
_UNITS = {"ms": 0.001, "s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0, None: 1.0}


def parse_duration(text: str) -> float:
    """Seconds: `0.2s`, `200ms`, `2min`, or `0.2` for seconds. Raises ValueError."""
    match = _NUMBER.fullmatch(text.strip())
    if not match:
        raise ValueError(f"{text!r} is no duration such as 0.2s, 200ms or 2min")
    seconds = float(match[1]) * _UNITS[match[2]]
    if not math.isfinite(seconds):
        raise ValueError("a duration of so many digits is longer than can be counted")
    return seconds


def parse_timecode(text: str) -> float:
    """Seconds, to the microsecond: `83.5`, `1:23.5` or `0:01:23.5`. Raises ValueError."""
    parts = text.strip().replace(",", ".").split(":")
    values = [float(part) for part in parts]
    if len(parts) > 3 or any(value < 0 or not math.isfinite(value) for value in values):
        raise ValueError(f"{text!r} is no time such as 83.5 or 0:01:23.5")
    return round(sum(value * 60.0**power for power, value in enumerate(reversed(values))), 6)


def clock(seconds: float) -> str:
    """`1:23`, or `1:02:03` from an hour on."""
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"
