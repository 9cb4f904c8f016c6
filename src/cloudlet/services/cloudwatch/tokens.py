"""Words and signs of CloudWatch's small languages: expressions, queries, searches and rules."""

from __future__ import annotations

import re
from collections.abc import Callable


def tokens(pattern: re.Pattern[str], text: str, wrong: Callable[[int], Exception]) -> list[tuple[str, str]]:
    """Each word's kind, the name of its group in the pattern, and itself. Raises what ``wrong`` makes of a position."""
    found, position, text = [], 0, text.rstrip()
    while position < len(text):
        one = pattern.match(text, position)
        if one is None:
            raise wrong(position)
        assert one.lastgroup is not None
        found.append((one.lastgroup, one[one.lastgroup]))
        position = one.end()
    return found
