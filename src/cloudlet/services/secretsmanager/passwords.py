"""Random passwords."""

from __future__ import annotations

import secrets
import string

from cloudlet.errors import AwsError
from cloudlet.services.api import Input

_KINDS = {
    "ExcludeLowercase": string.ascii_lowercase,
    "ExcludeUppercase": string.ascii_uppercase,
    "ExcludeNumbers": string.digits,
    "ExcludePunctuation": string.punctuation,
}
_LENGTH = 32


def make(input: Input) -> str:
    """A password as GetRandomPassword's parameters want it. Raises InvalidParameterException."""
    length, excluded = input.get("PasswordLength", _LENGTH), input.get("ExcludeCharacters", "")
    kinds = [kind for name, kind in _KINDS.items() if not input.get(name)]
    kinds = ["".join(each for each in kind if each not in excluded) for kind in kinds]
    required = [kind for kind in kinds if kind]
    # A space may be in it, but need not.
    allowed = "".join(required) + (" " if input.get("IncludeSpace") and " " not in excluded else "")
    if not allowed:
        raise AwsError("InvalidParameterException", "No characters are left that the password could be made of.")
    if not input.get("RequireEachIncludedType", True):
        required = []
    if length < len(required):
        raise AwsError("InvalidParameterException", "Password length is too short based on the required types.")
    characters = [secrets.choice(kind) for kind in required]
    characters += [secrets.choice(allowed) for _ in range(length - len(required))]
    secrets.SystemRandom().shuffle(characters)
    return "".join(characters)
