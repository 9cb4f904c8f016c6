"""Values of environment variables."""

from __future__ import annotations

import re
from collections.abc import Mapping

_OFF = ("", "0", "f", "false")
_ON = ("1", "t", "true")
_SPAN = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def is_on(variables: Mapping[str, str], name: str) -> bool:
    """A switch. Raises ValueError."""
    text = variables.get(name, "").strip().lower()
    if text not in _OFF + _ON:
        raise ValueError(f'{name} environment variable ("{variables[name]}") must be a boolean value.')
    return text in _ON


def number(variables: Mapping[str, str], name: str, default: int, most: int) -> int:
    """A number from 1. Raises ValueError."""
    text = variables.get(name) or str(default)
    if not text.isdigit() or not 1 <= int(text) <= most:
        raise ValueError(f"{name} must be a number from 1 to {most}")
    return int(text)


def span(variables: Mapping[str, str], name: str) -> float:
    """A duration as Go writes it (``5000ms``, ``1m30s``) in seconds; 0.0 where there is none. Raises ValueError."""
    text = variables.get(name, "").strip()
    if re.sub(_SPAN, "", text):
        raise ValueError(f"{name} must be a duration, such as 5000ms")
    return sum(float(value) * _UNITS[unit] for value, unit in _SPAN.findall(text))
