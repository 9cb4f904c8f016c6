"""Words and signs of CloudWatch's small languages: expressions, queries, searches and rules."""

from __future__ import annotations

import re
from collections.abc import Callable

Token = tuple[str, str]  # kind, text
END: Token = ("end", "")


def tokens(pattern: re.Pattern[str], text: str, wrong: Callable[[int], Exception]) -> list[Token]:
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


class Parser:
    """Goes through a text's tokens, from one to the next."""

    def __init__(self, pattern: re.Pattern[str], text: str, wrong: Callable[[int], Exception]) -> None:
        self._tokens = tokens(pattern, text, wrong)
        self._next = 0

    def peek(self) -> Token:
        """The token that comes next."""
        return self._tokens[self._next] if self._next < len(self._tokens) else END

    def step(self) -> Token:
        """The token that comes next, and go on."""
        token = self.peek()
        self._next += 1
        return token

    def have(self, wanted: Token) -> bool:
        """Go on where this token comes next."""
        if self.peek() != wanted:
            return False
        self._next += 1
        return True
