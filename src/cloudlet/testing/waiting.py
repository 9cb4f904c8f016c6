"""Waiting for what comes true by itself: never a fixed pause in a test."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
_PAUSE = 0.03


def eventually(look: Callable[[], T], seconds: float = 60) -> T:
    """The first true answer of ``look``, which is asked again and again. Raises AssertionError after ``seconds``."""
    end = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < end, f"it has not come true in {seconds:g} s: {found!r}"
        time.sleep(_PAUSE)
    return found
