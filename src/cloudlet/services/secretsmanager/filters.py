"""Filters of ListSecrets: words of a value are beginnings of words of an attribute."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from cloudlet.errors import AwsError
from cloudlet.services.secretsmanager.records import Secret

Wanted = Callable[[Secret], bool]
# A word ends where no letter or digit follows, before a capital inside of it, and before its last capital.
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")


def compiled(filters: list[dict[str, Any]]) -> Wanted:
    """The filters as one question: every filter, of each any value. Raises InvalidParameterException."""
    for each in filters:
        if "Key" not in each:
            raise AwsError("InvalidParameterException", "Invalid filter key")
        if not each.get("Values"):
            raise AwsError("InvalidParameterException", f"Invalid filter values for key: {each['Key']}")
    questions = [_question(each["Key"], each["Values"]) for each in filters]
    return lambda secret: all(question(secret) for question in questions)


def _question(key: str, values: list[str]) -> Wanted:
    wishes = [(value.removeprefix("!"), value.startswith("!")) for value in values]

    def answer(secret: Secret) -> bool:
        texts = _texts(secret, key)
        return any(_matches(key, texts, value) != negated for value, negated in wishes)

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
