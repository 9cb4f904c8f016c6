"""Filters of ListSecrets: words of a value are beginnings of words of an attribute."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from cloudlet.services.secretsmanager.records import Secret

Wanted = Callable[[Secret], bool]
# A word ends where no letter or digit follows, before a capital inside of it, and before its last capital.
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")


def compiled(filters: list[dict[str, Any]]) -> Wanted:
    """The filters as one question: every filter, of each any value."""
    questions = [_question(each["Key"], each["Values"]) for each in filters if each.get("Values")]
    return lambda secret: all(question(secret) for question in questions)


def _question(key: str, values: list[str]) -> Wanted:
    wanted = [value for value in values if not value.startswith("!")]
    unwanted = [value[1:] for value in values if value.startswith("!")]

    def answer(secret: Secret) -> bool:
        texts = _texts(secret, key)
        if any(_matches(key, texts, value) for value in unwanted):
            return False
        return not wanted or any(_matches(key, texts, value) for value in wanted)

    return answer


def _texts(secret: Secret, key: str) -> list[str]:
    match key:
        case "name":
            return [secret.name]
        case "description":
            return [secret.description]
        case "tag-key":
            return list(secret.tags)
        case "tag-value":
            return list(secret.tags.values())
        case "all":
            return [secret.name, secret.description, *secret.tags, *secret.tags.values()]
    return []


def _matches(key: str, texts: list[str], value: str) -> bool:
    if key in ("name", "tag-key", "tag-value"):
        return any(text.startswith(value) for text in texts)
    words, wanted = {word for text in texts for word in _words(text)}, _words(value)
    return bool(wanted) and all(any(word.startswith(each) for word in words) for each in wanted)


def _words(text: str) -> list[str]:
    return [word.lower() for word in _WORDS.findall(text)]
