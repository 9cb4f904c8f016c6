"""Filter expressions: which traces are meant.

https://docs.aws.amazon.com/xray/latest/devguide/xray-console-filters.html
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from cloudlet.errors import AwsError
from cloudlet.services.xray.graph import Trace, Visit, name_of
from cloudlet.services.xray.records import Document
from cloudlet.services.xray.segments import parts_of, seconds_of, status_of

_TOKEN = re.compile(
    r"""\s*(?:(?P<text>"(?:[^"\\]|\\.)*")|(?P<number>\d+(?:\.\d+)?)|(?P<word>[A-Za-z_][\w.\-]*)"""
    r"""|(?P<sign>&&|\|\||!=|<=|>=|[=<>!(){}\[\],:]))"""
)
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": lambda one, other: bool(one == other),
    "!=": lambda one, other: bool(one != other),
    "<": lambda one, other: bool(one < other),
    "<=": lambda one, other: bool(one <= other),
    ">": lambda one, other: bool(one > other),
    ">=": lambda one, other: bool(one >= other),
    "BEGINSWITH": lambda one, other: one.startswith(other),
    "ENDSWITH": lambda one, other: one.endswith(other),
    "CONTAINS": lambda one, other: other in one,
}
_STRINGS = frozenset(("=", "!=", "BEGINSWITH", "ENDSWITH", "CONTAINS"))
_BOOLEANS = ("ok", "error", "fault", "throttle", "partial")
_NUMBERS = ("responsetime", "duration", "http.status")
_TEXTS = (
    *("http.url", "http.method", "http.useragent", "http.clientip", "user", "name", "resource.arn", "resource.id"),
    *("availabilityzone.name", "instance.id"),
)


class Seen(NamedTuple):
    """What an expression is held against: a whole trace, or the visits of one service or edge."""

    trace: Trace
    parts: list[Document]  # where status and times are read
    everything: list[Document]  # where annotations and users are read


Test = Callable[[Seen], bool]


def seen(trace: Trace) -> Seen:
    """A whole trace: its root says how it went, all of it says what was noted."""
    return Seen(trace, [trace.root], [part for one in trace.segments for part in parts_of(one)])


@functools.lru_cache(maxsize=64)
def compile_filter(expression: str) -> Test:
    """The test that an expression is. Raises InvalidRequestException."""
    return _Parser(expression).whole()


def compile_selector(expression: str) -> Callable[[Visit], bool]:
    """Which visits ``service(...)`` or ``edge(...)`` alone means. Raises InvalidRequestException."""
    return _Parser(expression).selector()


def invalid() -> AwsError:
    """An expression that cannot be read."""
    return AwsError("InvalidRequestException", "Invalid filter expression")


class _Parser:
    """Recursive descent: OR, AND (also by standing side by side), NOT, a keyword or a group."""

    def __init__(self, text: str) -> None:
        self._tokens: list[tuple[str, str]] = []
        place, text = 0, text.rstrip()
        while place < len(text):
            found = _TOKEN.match(text, place)
            if found is None or found.lastgroup is None:
                raise invalid()
            self._tokens.append((found.lastgroup, found[found.lastgroup]))
            place = found.end()
        self._place = 0

    def whole(self) -> Test:
        """All of it; nothing at all is true of every trace."""
        if not self._tokens:
            return lambda seen: True
        test = self._any_of()
        if self._place < len(self._tokens):
            raise invalid()
        return test

    def _peek(self) -> tuple[str, str]:
        return self._tokens[self._place] if self._place < len(self._tokens) else ("end", "")

    def _take(self, *signs: str) -> bool:
        """Pass over a sign or a word, if it is the next."""
        kind, text = self._peek()
        if kind in ("sign", "word") and (text in signs or text.upper() in signs):
            self._place += 1
            return True
        return False

    def _need(self, sign: str) -> None:
        if not self._take(sign):
            raise invalid()

    def _next(self, kind: str) -> str:
        found, text = self._peek()
        if found != kind:
            raise invalid()
        self._place += 1
        return text

    def _string(self) -> str:
        return re.sub(r"\\(.)", r"\1", self._next("text")[1:-1])

    def _any_of(self) -> Test:
        tests = [self._all_of()]
        while self._take("OR", "||"):
            tests.append(self._all_of())
        return tests[0] if len(tests) == 1 else lambda seen: any(test(seen) for test in tests)

    def _all_of(self) -> Test:
        tests = [self._one()]
        while True:
            kind, text = self._peek()
            if self._take("AND", "&&") or (kind == "word" and text.upper() != "OR") or text in ("!", "("):
                tests.append(self._one())
            else:
                return tests[0] if len(tests) == 1 else lambda seen: all(test(seen) for test in tests)

    def _one(self) -> Test:
        if self._take("!"):
            negated = self._one()
            return lambda seen: not negated(seen)
        if self._take("("):
            inner = self._any_of()
            self._need(")")
            return inner
        word = self._next("word")
        keyword = word.lower()
        if keyword in ("service", "edge") and self._peek() == ("sign", "("):
            return self._complex(keyword)
        if keyword.startswith("annotation."):
            return self._values(functools.partial(_annotations, key=word[len("annotation.") :]))
        if keyword == "annotation" and self._take("["):
            key = self._string() if self._peek()[0] == "text" else self._next("word")
            self._need("]")
            return self._values(functools.partial(_annotations, key=key))
        if keyword in _BOOLEANS:
            return self._boolean(keyword)
        if keyword in _NUMBERS or keyword in _TEXTS:
            return self._values(functools.partial(_values_of, keyword=keyword), is_text=keyword in _TEXTS)
        raise invalid()

    def _boolean(self, keyword: str) -> Test:
        def test(seen: Seen) -> bool:
            return _is(seen, keyword)

        if not self._take("=", "!="):
            return test
        negates = self._tokens[self._place - 1][1] == "!="
        wanted = self._next("word").lower()
        if wanted not in ("true", "false"):
            raise invalid()
        return lambda seen: test(seen) is ((wanted == "true") is not negates)

    def _values(self, read: Callable[[Seen], Iterable[Any]], is_text: bool | None = None) -> Test:
        """A comparison with what is there; without an operator, whether anything is there."""
        kind, sign = self._peek()
        operator = sign.upper()
        if operator not in _COMPARE:
            return lambda seen: any(True for _ in read(seen))
        self._place += 1
        kind, _ = self._peek()
        wanted: Any
        if kind == "text":
            wanted = self._string()
            if operator not in _STRINGS or is_text is False:
                raise invalid()
        elif kind == "number":
            wanted = float(self._next("number"))
        else:
            word = self._next("word").lower()
            if word not in ("true", "false"):
                raise invalid()
            wanted = word == "true"
        if not isinstance(wanted, str) and (is_text or operator in ("BEGINSWITH", "ENDSWITH", "CONTAINS")):
            raise invalid()
        compare = _COMPARE[operator]
        return lambda seen: any(compare(value, wanted) for value in read(seen) if _alike(value, wanted))

    def selector(self) -> Callable[[Visit], bool]:
        """All of it, where it is but a service or an edge."""
        keyword = self._next("word").lower()
        if keyword not in ("service", "edge"):
            raise invalid()
        names = self._names(keyword)
        if self._place < len(self._tokens):
            raise invalid()
        return lambda visit: _meant(visit, names, keyword)

    def _names(self, keyword: str) -> list[_Wanted]:
        """The services in the brackets of ``service(...)`` or ``edge(...)``."""
        self._need("(")
        names: list[_Wanted] = []
        while not self._take(")"):
            names.append(self._service())
            if not self._take(","):
                self._need(")")
                break
        if (keyword == "edge" and len(names) != 2) or len(names) > 2:
            raise invalid()
        return names

    def _complex(self, keyword: str) -> Test:
        names = self._names(keyword)
        inner: Test | None = None
        if self._take("{"):
            inner = self._any_of()
            self._need("}")

        def test(seen: Seen) -> bool:
            for visit in seen.trace.visits:
                if _meant(visit, names, keyword):
                    part = [visit.part]
                    if inner is None or inner(Seen(seen.trace, part, list(parts_of(visit.part)))):
                        return True
            return False

        return test

    def _service(self) -> _Wanted:
        """A service by its name, or by ``id(name: "x", type: "y")``."""
        if self._peek()[0] == "text":
            return _Wanted(self._string(), None)
        self._need("ID")
        self._need("(")
        found: dict[str, str] = {}
        while not self._take(")"):
            key = self._next("word").lower()
            if key not in ("name", "type", "account.id"):
                raise invalid()
            self._need(":")
            found[key] = self._string()
            self._take(",")
        return _Wanted(found.get("name"), found.get("type"))


class _Wanted(NamedTuple):
    name: str | None
    type: str | None

    def means(self, name: str, kind: str) -> bool:
        return self.name in (None, name) and self.type in (None, kind)


def _meant(visit: Visit, names: list[_Wanted], keyword: str) -> bool:
    if keyword == "service":
        return not names or all(one.means(*visit.service) for one in names)
    caller, callee = names
    return visit.caller is not None and caller.means(*visit.caller) and callee.means(*visit.service)


def _alike(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, bool) or isinstance(value, bool):
        return type(value) is type(wanted)
    return isinstance(value, str) is isinstance(wanted, str)


def _is(seen: Seen, keyword: str) -> bool:
    if keyword == "partial":
        return any(part.get("in_progress") for part in seen.everything)
    states = [status_of(part) for part in seen.parts]
    if keyword == "ok":
        return not any(any(state) for state in states)
    return any(state[("fault", "error", "throttle").index(keyword)] for state in states)


def _values_of(seen: Seen, keyword: str) -> Iterable[Any]:
    if keyword == "duration" and seen.parts == [seen.trace.root]:
        return [seen.trace.finish - seen.trace.start]
    if keyword in ("duration", "responsetime"):
        return [seconds_of(part) for part in seen.parts if "end_time" in part]
    if keyword == "name":
        return [name_of(part).name for part in seen.parts]
    if keyword == "user":
        return [part["user"] for part in seen.everything if "user" in part]
    if keyword == "resource.arn":
        return [part["resource_arn"] for part in seen.everything if "resource_arn" in part]
    if keyword in ("availabilityzone.name", "instance.id"):
        member = "availability_zone" if keyword.startswith("a") else "instance_id"
        ec2 = [part.get("aws", {}).get("ec2", {}) for part in seen.everything]
        return [one[member] for one in ec2 if member in one]
    if keyword == "resource.id":
        return []
    return _http(seen.parts, keyword)


_HTTP = {
    "http.status": ("response", "status"),
    "http.url": ("request", "url"),
    "http.method": ("request", "method"),
    "http.useragent": ("request", "user_agent"),
    "http.clientip": ("request", "client_ip"),
}


def _http(parts: list[Document], keyword: str) -> list[Any]:
    side, member = _HTTP[keyword]
    found = [part.get("http", {}).get(side, {}) for part in parts]
    return [one[member] for one in found if member in one]


def _annotations(seen: Seen, key: str) -> list[Any]:
    return [part["annotations"][key] for part in seen.everything if key in part.get("annotations", {})]
