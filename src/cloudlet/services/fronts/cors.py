"""Cross-origin requests, answered by the API's own configuration."""

from __future__ import annotations

from typing import Any

from cloudlet.http import Request, Response


def is_preflight(request: Request) -> bool:
    """Whether a browser asks what it may do."""
    return (
        request.method == "OPTIONS"
        and "origin" in request.headers
        and "access-control-request-method" in request.headers
    )


def preflight(request: Request, configuration: dict[str, Any]) -> Response:
    """The answer to a preflight; without a permission when the origin or the method is not allowed."""
    origin = _origin(request, configuration)
    wanted = request.headers["access-control-request-method"].upper()
    methods = configuration.get("AllowMethods") or []
    response = Response(204)
    if origin is None or not ("*" in methods or wanted in methods):
        return response
    response.headers["access-control-allow-origin"] = origin
    response.headers["access-control-allow-methods"] = ",".join(methods)
    if allowed := configuration.get("AllowHeaders"):
        response.headers["access-control-allow-headers"] = ",".join(allowed)
    if "MaxAge" in configuration:
        response.headers["access-control-max-age"] = str(configuration["MaxAge"])
    _common(response, configuration, origin)
    return response


def add_headers(request: Request, response: Response, configuration: dict[str, Any]) -> None:
    """Put the API's CORS headers on an answer, in place of what the integration says of CORS."""
    for name in [name for name in response.headers if name.startswith("access-control-")]:
        del response.headers[name]
    if (origin := _origin(request, configuration)) is not None:
        response.headers["access-control-allow-origin"] = origin
        if exposed := configuration.get("ExposeHeaders"):
            response.headers["access-control-expose-headers"] = ",".join(exposed)
        _common(response, configuration, origin)


def _origin(request: Request, configuration: dict[str, Any]) -> str | None:
    origin = request.headers.get("origin")
    if origin is None:
        return None
    for allowed in configuration.get("AllowOrigins") or []:
        if allowed == "*":
            return "*"
        if allowed == origin or (allowed.endswith("://*") and origin.startswith(allowed[:-1])):
            return origin
    return None


def _common(response: Response, configuration: dict[str, Any], origin: str) -> None:
    if configuration.get("AllowCredentials"):
        response.headers["access-control-allow-credentials"] = "true"
    if origin != "*":
        response.headers["vary"] = "origin"
