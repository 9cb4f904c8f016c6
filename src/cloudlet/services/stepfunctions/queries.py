"""JSONata: expressions ``{% ... %}`` in a state, and what Step Functions adds to the language."""

from __future__ import annotations

import functools
import hashlib
import math
import random
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

import msgspec

if TYPE_CHECKING:
    from jsonata import Jsonata

_PATIENCE = 1000  # milliseconds that one expression may take
_DEEPEST = 500
_HASHES = {"MD5": "md5", "SHA-1": "sha1", "SHA-256": "sha256", "SHA-384": "sha384", "SHA-512": "sha512"}


class BadQuery(ValueError):
    """The text is no JSONata; the message says why."""


class QueryFailed(Exception):
    """An expression that came to no value; the message is what Step Functions says of it, ``field`` where it stands."""

    def __init__(self, message: str, field: str) -> None:
        super().__init__(message)
        self.field = field


def is_query(value: Any) -> bool:
    """Whether a value of a definition is an expression."""
    return isinstance(value, str) and value.startswith("{%") and value.endswith("%}")


@functools.lru_cache(2048)
def compile_query(text: str) -> Jsonata:
    """The expression between ``{%`` and ``%}``. Raises BadQuery."""
    # The library has 8000 lines and is needed only where a definition says JSONata.
    from jsonata import Jsonata
    from jsonata.jexception import JException

    try:
        compiled = Jsonata(text[2:-2].strip())
    except (JException, RecursionError) as error:
        raise BadQuery(str(error)) from None
    compiled.set_output_convert_nulls(False)
    return compiled


def evaluate(template: Any, states: dict[str, Any], variables: dict[str, Any], field: str, now: float) -> Any:
    """A template with every expression replaced by its value. ``field`` is where it stands. Raises QueryFailed."""
    if isinstance(template, dict):
        return {key: evaluate(item, states, variables, f"{field}/{key}", now) for key, item in template.items()}
    if isinstance(template, list):
        return [evaluate(item, states, variables, f"{field}[{index}]", now) for index, item in enumerate(template)]
    return _value(template, states, variables, field, now) if is_query(template) else template


def _value(text: str, states: dict[str, Any], variables: dict[str, Any], field: str, now: float) -> Any:
    from jsonata.jexception import JException
    from jsonata.utils import Utils

    bindings = {name: _with_nulls(value, Utils.NULL_VALUE) for name, value in {**variables, "states": states}.items()}
    said = f"The JSONata expression '{text[2:-2].strip()}' specified for the field '{field}'"
    try:
        query = compile_query(text)
        # Patience is counted from here: an expression is compiled once, and evaluated as often as its state is entered.
        query.environment.set_runtime_bounds(_PATIENCE, _DEEPEST)
        result = query.evaluate(None, {**bindings, **_functions(now)})
    except (JException, ArithmeticError, ValueError, TypeError, LookupError, RecursionError, AttributeError) as error:
        raise QueryFailed(f"{said} threw an error during evaluation. {type(error).__name__}: {error}", field) from error
    if result is None:
        raise QueryFailed(f"{said} returned nothing (undefined).", field)
    try:
        return _plain(result, Utils.NULL_VALUE)
    except TypeError:
        raise QueryFailed(f"{said} returned an unsupported result type.", field) from None


def _with_nulls(value: Any, null: Any) -> Any:
    """JSON as the library wants it: its own null, since to it None is the absence of a value."""
    if isinstance(value, dict):
        return {key: _with_nulls(item, null) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_nulls(item, null) for item in value]
    return null if value is None else value


def _plain(value: Any, null: Any) -> Any:
    if value is null or value is None:
        return None
    if isinstance(value, dict):
        return {str(key): _plain(item, null) for key, item in value.items()}
    if isinstance(value, list | tuple | range):
        return [_plain(item, null) for item in value]
    if isinstance(value, float):
        if not math.isfinite(value):
            raise TypeError(value)
        return int(value) if value.is_integer() and abs(value) < 2**53 else value
    if isinstance(value, bool | int | str):
        return value
    raise TypeError(value)


def _functions(now: float) -> dict[str, Any]:
    """What Step Functions adds or changes; time is the cloud's."""
    from jsonata import Jsonata

    made = {name: Jsonata.JLambda(function) for name, function in _ADDED.items()}
    moment = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {
        **made,
        "millis": Jsonata.JLambda(lambda: int(now * 1000)),
        "now": Jsonata.JLambda(lambda picture=None, zone=None: _moment(now, picture, zone) if picture else moment),
    }


def _moment(now: float, picture: str, zone: str | None) -> Any:
    from jsonata import DateTimeUtils

    return DateTimeUtils.format_datetime(int(now * 1000), picture, zone)


def _partition(items: list[Any], size: float) -> list[list[Any]]:
    length = int(size)
    if length < 1:
        raise ValueError("The size of a partition must be positive")
    return [items[at : at + length] for at in range(0, len(items), length)]


def _range(first: float, last: float, step: float) -> list[int]:
    from jsonata.utils import Utils

    numbers = Utils.create_sequence()  # of which JSONata makes its element where it has but one
    numbers.extend(range(int(first), int(last) + (1 if step > 0 else -1), int(step)))
    return cast(list[int], numbers)


def _hash(content: str, algorithm: str = "SHA-1") -> str:
    return hashlib.new(_HASHES[algorithm], content.encode(), usedforsecurity=False).hexdigest()


def _no_eval(*_: Any) -> Any:
    raise ValueError("$eval is not supported")


_ADDED: dict[str, Any] = {
    "partition": _partition,
    "range": _range,
    "hash": _hash,
    "random": lambda seed=None: random.Random(seed).random(),
    "uuid": lambda: str(uuid.uuid4()),
    "parse": lambda text: msgspec.json.decode(text),
    "eval": _no_eval,
}
