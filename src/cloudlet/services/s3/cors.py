"""Cross-origin requests: which rule of a bucket answers a browser, and with what headers."""

from __future__ import annotations

from typing import Any

from cloudlet.http import Request

Rule = dict[str, Any]


def answer(rules: list[Rule], request: Request) -> dict[str, str]:
    """The headers for an actual request; none when no rule matches."""
    origin = request.headers["origin"]
    for rule in rules:
        if request.method in rule["AllowedMethods"] and (allowed := _allowed_origin(rule, origin)) is not None:
            return _headers(rule, origin, allowed)
    return {}


def preflight(rules: list[Rule], request: Request) -> dict[str, str] | None:
    """The headers for a browser's question; None when it may not."""
    origin = request.headers.get("origin", "")
    method = request.headers["access-control-request-method"]
    asked = [name.strip() for name in request.headers.get("access-control-request-headers", "").split(",")]
    asked = [name for name in asked if name]
    for rule in rules:
        allowed = _allowed_origin(rule, origin)
        if allowed is None or method not in rule["AllowedMethods"]:
            continue
        patterns = [pattern.lower() for pattern in rule.get("AllowedHeaders", [])]
        if all(any(_matches(pattern, name.lower()) for pattern in patterns) for name in asked):
            headers = _headers(rule, origin, allowed)
            if asked:
                headers["Access-Control-Allow-Headers"] = ", ".join(name.lower() for name in asked)
            return headers
    return None


def _headers(rule: Rule, origin: str, allowed: str) -> dict[str, str]:
    headers = {
        "Access-Control-Allow-Origin": "*" if allowed == "*" else origin,
        "Access-Control-Allow-Methods": ", ".join(rule["AllowedMethods"]),
        "Vary": "Origin, Access-Control-Request-Headers, Access-Control-Request-Method",
    }
    if allowed != "*":
        headers["Access-Control-Allow-Credentials"] = "true"
    if exposed := rule.get("ExposeHeaders"):
        headers["Access-Control-Expose-Headers"] = ", ".join(exposed)
    if (age := rule.get("MaxAgeSeconds")) is not None:
        headers["Access-Control-Max-Age"] = str(age)
    return headers


def _allowed_origin(rule: Rule, origin: str) -> str | None:
    return next((pattern for pattern in rule["AllowedOrigins"] if _matches(pattern, origin)), None)


def _matches(pattern: str, text: str) -> bool:
    """Whether a text fits a pattern with at most one star."""
    before, star, after = pattern.partition("*")
    if not star:
        return pattern == text
    return len(text) >= len(before) + len(after) and text.startswith(before) and text.endswith(after)
