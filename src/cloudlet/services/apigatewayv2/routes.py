"""Route keys and the choice of a route: the most specific one wins."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote

from cloudlet.errors import AwsError
from cloudlet.services.fronts.events import Match

_METHODS = frozenset(("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "ANY"))
_SEGMENT = re.compile(r"\{([A-Za-z0-9_.\-]+)(\+?)\}")


def check_route_key(key: str) -> str:
    """A route key that can be matched. Raises BadRequestException."""
    if key == "$default":
        return key
    method, _, path = key.partition(" ")
    segments = path.split("/")[1:]
    greedy = [index for index, segment in enumerate(segments) if segment.endswith("+}")]
    if (
        method not in _METHODS
        or not path.startswith("/")
        or (greedy and greedy != [len(segments) - 1])
        or any("{" in segment and not _SEGMENT.fullmatch(segment) for segment in segments)
    ):
        raise AwsError(
            "BadRequestException",
            f"The provided route key is not formatted properly for HTTP protocol. Format should be "
            f'"<HTTP METHOD> /<RESOURCE PATH>" or "$default": {key}',
        )
    return key


class Router:
    """The routes of one API, compiled once for each change of it."""

    def __init__(self, routes: list[dict[str, Any]]) -> None:
        self._default: dict[str, Any] | None = None
        # Literal segments before variables before greedy ones, a method before ANY.
        candidates: list[tuple[Any, str, re.Pattern[str], dict[str, Any]]] = []
        for route in routes:
            if route["RouteKey"] == "$default":
                self._default = route
                continue
            method, path = route["RouteKey"].split(" ", 1)
            segments = path.strip("/").split("/") if path.strip("/") else []
            order = tuple(2 if segment.endswith("+}") else 1 if segment.startswith("{") else 0 for segment in segments)
            pattern = "".join(_pattern(segment) for segment in segments) or "/?"
            compiled = re.compile(pattern + ("" if order and order[-1] == 2 else "/?"), re.DOTALL)
            candidates.append(((order, method == "ANY"), method, compiled, route))
        self._routes = sorted(candidates, key=lambda candidate: candidate[0])

    def match(self, method: str, path: str) -> Match | None:
        """The route for a request, or None."""
        for _, wanted, pattern, route in self._routes:
            if wanted in (method, "ANY") and (found := pattern.fullmatch(path)):
                names = _SEGMENT.findall(route["RouteKey"])
                return Match(
                    route, {name: unquote(value) for (name, _), value in zip(names, found.groups(), strict=True)}
                )
        return Match(self._default, {}) if self._default is not None else None


def _pattern(segment: str) -> str:
    variable = _SEGMENT.fullmatch(segment)
    if variable is None:
        return "/" + re.escape(segment)
    return "/(.+)" if variable[2] else "/([^/]+)"
