"""Data planes by host name: ``<label>.<door>[.<region>].localhost``, or by path: ``/_cloudlet/<door>/<label>/...``.

The container registry is where its clients look for it: under ``/v2/`` of ``<account>.dkr.ecr.<region>.localhost``, or
of a bare host. OpenTelemetry's exporters post to ``/v1/traces`` and its like of the endpoint that they are given.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from cloudlet.http import Request

# The door's name in a host name -> the service that answers there.
DOORS = {
    "acm": "acm",
    "execute-api": "apigatewayv2",
    "lambda-url": "lambda",
    "lambda-code": "lambda",
    "s3-website": "s3",
    "cloudformation": "cloudformation",
    "elb-lambda": "elbv2",
    "elb-auth": "elbv2",
    "sns": "sns",
    "ecs-task": "ecs",
    "ec2-instance": "ec2",
}
_BY_HOST = frozenset(("execute-api", "lambda-url"))
_ENDS = (".localhost", ".com", ".aws", ".on")
_BY_PATH = "/_cloudlet/"
_REGISTRY = re.compile(r"/v2/?\Z|/v2/_catalog\Z|/v2/.+/(blobs|manifests|tags|referrers)/")
_TELEMETRY = frozenset(("/v1/traces", "/v1/metrics", "/v1/logs"))
_REGISTRY_HOST = re.compile(r"(\d{12})\.dkr\.ecr\.([a-z0-9-]+)\.")


@dataclass(frozen=True, slots=True)
class Door:
    """Which service answers, and for which of its resources."""

    service: str
    label: str


def find(request: Request) -> Door | None:
    """The front door that a request asks for, or None: it is an AWS API's. A door in the path is cut off the path."""
    if request.path.startswith(_BY_PATH):
        name, _, rest = request.path[len(_BY_PATH) :].partition("/")
        if name not in DOORS:
            return None
        label, slash, path = rest.partition("/")
        request.path = slash + path or "/"
        return Door(DOORS[name], label)
    if request.path.startswith("/v2") and (registry := _registry(request)) is not None:
        return registry
    if request.path in _TELEMETRY and request.method == "POST" and not request.query:
        return Door("xray", "")
    host = request.host
    if ".s3-website" in host and host.endswith(_ENDS):
        return Door("s3", host.partition(".s3-website")[0])  # a bucket's name may have dots and begin with a digit
    if host.count(".") < 2 or host[0].isdigit():
        return None
    label, name, *_ = host.split(".")
    if name in _BY_HOST and host.endswith(_ENDS):
        return Door(DOORS[name], label)
    return None


def may_be_a_users_own(host: str) -> bool:
    """Whether a host name may be a user's custom domain: not this machine's, an endpoint's or a bucket's."""
    return "." in host and not host[:1].isdigit() and not host.endswith(".amazonaws.com") and ".s3." not in host


def _registry(request: Request) -> Door | None:
    """The container registry, of the account and region that the host names, or of a bare host."""
    if not _REGISTRY.match(request.path) or request.headers.get("authorization", "").startswith("AWS4-"):
        return None
    host = request.host
    if (found := _REGISTRY_HOST.match(host)) is not None:
        return Door("ecr", f"{found[1]}/{found[2]}")
    is_bare = "." not in host or host.replace(".", "").isdigit()
    return Door("ecr", "") if is_bare else None
