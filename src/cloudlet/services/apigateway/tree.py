"""The tree of an API's resources, and the choice of one for a request."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote

_VARIABLE = re.compile(r"\{([A-Za-z0-9._$\-:]+)(\+?)\}")
PATH_PART = re.compile(
    r"[A-Za-z0-9._\-:%]+|\{[A-Za-z0-9._$\-:]+\+?\}|\.well-known|[A-Za-z0-9._\-:%]*\{[^{}]+\}[A-Za-z0-9._\-:%]*"
)


class Tree:
    """The resources of a deployment, compiled once: literals before variables before greedy variables."""

    def __init__(self, resources: list[dict[str, Any]]) -> None:
        found = []
        for resource in resources:
            segments = [segment for segment in resource["path"].split("/") if segment]
            order = [2 if segment.endswith("+}") else 1 if segment.startswith("{") else 0 for segment in segments]
            pattern = "".join("/" + self._pattern(segment) for segment in segments) + "/?"
            names = [name for name, _ in _VARIABLE.findall(resource["path"])]
            found.append((order, re.compile(pattern, re.DOTALL), names, resource))
        self._resources = sorted(found, key=lambda entry: entry[0])

    def match(self, method: str, path: str) -> tuple[dict[str, Any], dict[str, Any], dict[str, str]] | None:
        """The resource, the method and the path's variables for a request with a still encoded path, or None."""
        for _, pattern, names, resource in self._resources:
            if (found := pattern.fullmatch(path)) is not None:
                methods = resource.get("resourceMethods") or {}
                chosen = methods.get(method) or methods.get("ANY")
                if chosen is not None:
                    return (
                        resource,
                        chosen,
                        {name: unquote(value) for name, value in zip(names, found.groups(), strict=True)},
                    )
        return None

    @staticmethod
    def _pattern(segment: str) -> str:
        pattern, position = "", 0
        for variable in _VARIABLE.finditer(segment):
            pattern += re.escape(segment[position : variable.start()]) + ("(.+?)" if variable[2] else "([^/]+)")
            position = variable.end()
        return pattern + re.escape(segment[position:])
