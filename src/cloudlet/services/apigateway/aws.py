"""AWS service integrations: the request that a URI such as ``arn:aws:apigateway:us-east-1:sqs:path/…`` stands for.

It goes through the cloud's own endpoint as any client's would, in the service's own protocol.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any
from urllib.parse import quote, urlencode

from cloudlet.errors import AwsError
from cloudlet.observe import traces
from cloudlet.services.api import Cloud
from cloudlet.services.apigateway.events import Context
from cloudlet.services.apigateway.refusals import Refused
from cloudlet.services.fronts.functions import SELF
from cloudlet.wire.model import Library, Metadata, UnknownService

URI = re.compile(
    r"arn:[^:]+:apigateway:(?P<region>[^:]+):(?:(?P<bucket>[^:]+)\.)?(?P<service>[a-z0-9-]+):(?P<how>action|path)/(?P<what>.*)",
    re.DOTALL,
)
# API Gateway names services by their endpoints.
_NAMES = {"states": "stepfunctions", "monitoring": "cloudwatch", "email": "ses", "elasticloadbalancing": "elbv2"}


@dataclass(frozen=True, slots=True)
class ServiceCall:
    """A signed request of a service's protocol."""

    method: str
    url: str
    headers: dict[str, str]
    body: bytes


@cache
def _metadata(service: str) -> Metadata | None:
    """What a service's model says of its protocol; None where there is no such service."""
    try:
        return Library().metadata(_NAMES.get(service, service))
    except UnknownService:
        return None


async def prepare(
    cloud: Cloud,
    context: Context,
    integration: dict[str, Any],
    uri: str,
    query: list[tuple[str, str]],
    given: dict[str, str],
    body: bytes,
) -> ServiceCall:
    """The request that an integration makes. Raises Refused where its URI names no service."""
    found = URI.fullmatch(uri)
    if found is None:
        raise Refused("INTEGRATION_FAILURE")
    service, what = found["service"], found["what"]
    metadata = await asyncio.to_thread(_metadata, service)
    if metadata is None:
        raise Refused("INTEGRATION_FAILURE")
    headers = {name.lower(): value for name, value in given.items()}
    path = "/"
    if found["how"] == "path":
        path += what.lstrip("/")
        if found["bucket"]:
            path = f"/{found['bucket']}{path}"
    elif metadata.protocol == "json":
        headers.setdefault("x-amz-target", f"{metadata.target_prefix}.{what}")
        headers.setdefault("content-type", f"application/x-amz-json-{metadata.json_version}")
    else:
        query = [("Action", what), ("Version", metadata.api_version), *query]
    is_form = headers.get("content-type", "").startswith("application/x-www-form-urlencoded")
    if metadata.protocol in ("query", "ec2") or (service == "sqs" and is_form):
        # Parameters that were mapped to the query string and those of a form's body are one set.
        body = b"&".join(part for part in (urlencode(query).encode(), body if is_form else b"") if part)
        headers["content-type"], query = "application/x-www-form-urlencoded", []
    elif service == "sqs" and found["how"] == "path" and ("Action", "SendMessage") in query:
        body, query = urlencode(query).encode(), []
        headers["content-type"] = "application/x-www-form-urlencoded"
    if service == "sqs" and found["how"] == "path" and b"QueueUrl=" not in body:
        # The queue's own path says which queue it is.
        body += b"&" + urlencode({"QueueUrl": cloud.endpoint + path}).encode()
    headers.setdefault("content-type", context.request.headers.get("content-type", "application/json"))
    url = cloud.endpoint + path + (f"?{urlencode(query, quote_via=quote)}" if query else "")
    method = integration.get("httpMethod", "POST")
    headers["host"] = cloud.endpoint.partition("://")[2]
    headers["x-amz-date"] = datetime.fromtimestamp(cloud.clock.now(), UTC).strftime("%Y%m%dT%H%M%SZ")
    headers["x-amz-content-sha256"] = hashlib.sha256(body).hexdigest()
    if context.trace:
        headers[traces.HEADER] = context.trace
    scope = f"{headers['x-amz-date'][:8]}/{found['region']}/{metadata.scope}/aws4_request"
    _sign(headers, await _keys(cloud, context, integration), scope, method, path, query)
    return ServiceCall(method, url, headers, body)


def _sign(
    headers: dict[str, str],
    keys: tuple[str, str, str],
    scope: str,
    method: str,
    path: str,
    query: list[tuple[str, str]],
) -> None:
    """Sign a request with an access key, its secret and the token of its session, if any; all headers are signed."""
    access_key, secret, token = keys
    if token:
        headers["x-amz-security-token"] = token
    signature = _signature(method, path, query, headers, secret, scope)
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={access_key}/{scope}, SignedHeaders={';'.join(sorted(headers))}, "
        f"Signature={signature}"
    )


async def _keys(cloud: Cloud, context: Context, integration: dict[str, Any]) -> tuple[str, str, str]:
    """Access key, secret and session token of the integration's role."""
    session = {"RoleArn": integration.get("credentials") or "", "RoleSessionName": "BackplaneAssumeRoleSession"}
    where: dict[str, Any] = {"account": context.account, "region": context.region, "principal": SELF}
    try:
        made = (await cloud.call("sts", "AssumeRole", session, **where))["Credentials"]
    except AwsError:
        # A role that nobody has made: the call is the account's own, as the user of this machine makes it.
        return context.account, "local", ""
    return made["AccessKeyId"], made["SecretAccessKey"], made["SessionToken"]


def _signature(
    method: str, path: str, query: list[tuple[str, str]], headers: dict[str, str], secret: str, scope: str
) -> str:
    """Signature Version 4. https://docs.aws.amazon.com/IAM/latest/UserGuide/create-signed-request.html"""
    names = sorted(headers)
    canonical = "\n".join(
        (
            method,
            quote(path, safe="/~") if not scope.endswith("/s3/aws4_request") else path,
            "&".join(sorted(f"{quote(name, safe='~')}={quote(value, safe='~')}" for name, value in query)),
            "".join(f"{name}:{' '.join(headers[name].split())}\n" for name in names),
            ";".join(names),
            headers["x-amz-content-sha256"],
        )
    )
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = f"AWS4-HMAC-SHA256\n{headers['x-amz-date']}\n{scope}\n{digest}"
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, text.encode(), "sha256").hex()
