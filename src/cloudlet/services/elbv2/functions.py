"""Lambda targets: the proxy sends their requests to a front door of ours, which makes ALB's event and the answer."""

from __future__ import annotations

import base64
import binascii
from typing import Any

import msgspec

from cloudlet.errors import AwsError
from cloudlet.http import BodyTooLarge, Request, Response
from cloudlet.observe import traces
from cloudlet.services.elbv2 import routing
from cloudlet.services.elbv2.attributes import group_attributes
from cloudlet.services.elbv2.envoy import used_groups
from cloudlet.services.elbv2.records import LoadBalancer, TargetGroup
from cloudlet.services.elbv2.targets import Targets

_LARGEST = 1024 * 1024
_TEXT = ("text/", "application/json", "application/javascript", "application/xml")


class Functions(Targets):
    """The front door ``elb-lambda``."""

    # By a group's id, made again after each change: looking through all that is stored is not for every request.
    _carried: dict[str, tuple[TargetGroup, LoadBalancer]] | None = None

    def changed(self) -> None:
        self._carried = None
        super().changed()

    def carried_function(self, label: str) -> tuple[TargetGroup, LoadBalancer] | None:
        """The target group with this id that a load balancer forwards to, and that load balancer."""
        if self._carried is None:
            groups = {record.value.arn: record.value for record in self.groups.all()}
            used = used_groups(self.world()).items()
            self._carried = {groups[arn].id: (groups[arn], owner) for arn, owner in used}
        return self._carried.get(label)

    async def invoke(self, request: Request, group: TargetGroup, owner: LoadBalancer) -> Response:
        """Invoke the function of a target group."""
        targets = [target for target in self.targets_of(group) if not target.draining_until]
        if not targets:
            return failed(503, "Service Temporarily Unavailable")
        try:
            body = await request.read(_LARGEST)
        except BodyTooLarge:
            return failed(413, "Request Entity Too Large")
        many = group_attributes(group)["lambda.multi_value_headers.enabled"] == "true"
        self._count(owner, group, "RequestCount")
        self._count(owner, group, "LambdaTargetProcessedBytes", len(body), "Bytes")
        try:
            asked = msgspec.json.encode(event(request, body, group, many))
            with traces.within(request.headers.get(traces.HEADER, "")):
                answer = await self.cloud.call(
                    "lambda",
                    "Invoke",
                    {"FunctionName": targets[0].target, "Payload": asked},
                    account=group.account,
                    region=group.region,
                    principal="elasticloadbalancing.amazonaws.com",
                )
        except AwsError:
            self._count(owner, group, "LambdaInternalError")
            return failed(502, "Bad Gateway")
        made = None if answer.get("FunctionError") else response(answer["Payload"], many)
        if made is None:
            self._count(owner, group, "LambdaUserError")
            return failed(502, "Bad Gateway")
        self._count(owner, group, "LambdaTargetProcessedBytes", len(answer["Payload"]), "Bytes")
        return made

    def _count(self, owner: LoadBalancer, group: TargetGroup, name: str, value: float = 1, unit: str = "Count") -> None:
        dimensions = (("LoadBalancer", owner.path), ("TargetGroup", group.path))
        places = {"RequestCount": (dimensions, dimensions[:1]), "LambdaTargetProcessedBytes": (dimensions[:1],)}
        for these in places.get(name, (dimensions[1:],)):
            self.cloud.metrics.add(owner.scope, "AWS/ApplicationELB", name, these, value, unit)


def event(request: Request, body: bytes, group: TargetGroup, many: bool) -> dict[str, Any]:
    """The event of a request; ``many``: with all values of headers and parameters. Nothing is decoded, as with ALB."""
    pairs = [part.partition("=")[::2] for part in request.query.split("&") if part]
    made: dict[str, Any] = {
        "requestContext": {"elb": {"targetGroupArn": group.arn}},
        "httpMethod": request.method,
        "path": request.path,
    }
    if many:
        made["multiValueQueryStringParameters"] = _gathered(pairs)
        given = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.raw_headers]
        made["multiValueHeaders"] = _gathered([(name.lower(), value) for name, value in given])
    else:
        made["queryStringParameters"] = dict(pairs)
        made["headers"] = dict(request.headers)
    kind = request.headers.get("content-type", "")
    is_text = not body or (kind.startswith(_TEXT) and "content-encoding" not in request.headers)
    made["body"] = body.decode(errors="replace") if is_text else base64.b64encode(body).decode()
    made["isBase64Encoded"] = not is_text
    return made


def response(payload: bytes, many: bool) -> Response | None:
    """The answer that a function's outcome stands for, or None when it stands for none."""
    try:
        document = msgspec.json.decode(payload)
        status = int(document["statusCode"])
        body = document.get("body") or ""
        content = base64.b64decode(body, validate=True) if document.get("isBase64Encoded") else body.encode()
        headers = document.get("multiValueHeaders" if many else "headers") or {}
        if not 200 <= status <= 599 or len(payload) > _LARGEST:
            return None
        made = Response(status, {}, content)
        for name, value in headers.items():
            values = [str(one) for one in (value if many else [value])]
            if name.lower() == "set-cookie":
                made.cookies = values
            elif name.lower() not in ("content-length", "transfer-encoding", "connection"):
                made.headers[name.lower()] = ", ".join(values)
    except (msgspec.DecodeError, KeyError, TypeError, ValueError, AttributeError, binascii.Error):
        return None
    made.headers.setdefault("content-type", "application/octet-stream")
    return made


def _gathered(pairs: list[tuple[str, str]]) -> dict[str, list[str]]:
    made: dict[str, list[str]] = {}
    for name, value in pairs:
        made.setdefault(name, []).append(value)
    return made


def failed(status: int, words: str) -> Response:
    """The load balancer's own page for a failure."""
    page = routing.page(status, words)
    return Response(status, {"content-type": "text/html", "server": "awselb/2.0"}, page.encode())
