"""AWS service integrations: the request that a URI such as ``arn:aws:apigateway:us-east-1:sqs:path/…`` stands for.

It goes through the cloud's own endpoint as any client's would, in the service's own protocol.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import urlencode

from cloudlet.errors import AwsError
from cloudlet.services.api import Cloud
from cloudlet.services.apigateway.events import Context
from cloudlet.services.apigateway.refusals import Refused

SELF = "apigateway.amazonaws.com"
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
def _metadata(service: str) -> dict[str, Any]:
    """What a service's model says of its protocol; empty where there is no such service."""
    from botocore.exceptions import UnknownServiceError
    from botocore.loaders import Loader

    try:
        found: dict[str, Any] = Loader().load_service_model(_NAMES.get(service, service), "service-2")["metadata"]
    except UnknownServiceError:
        return {}
    return found


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
    import asyncio

    found = URI.fullmatch(uri)
    if found is None:
        raise Refused("INTEGRATION_FAILURE")
    service, what = found["service"], found["what"]
    metadata = await asyncio.to_thread(_metadata, service)
    if not metadata:
        raise Refused("INTEGRATION_FAILURE")
    headers = {name.lower(): value for name, value in given.items()}
    path = "/"
    if found["how"] == "path":
        path += what.lstrip("/")
        if found["bucket"]:
            path = f"/{found['bucket']}{path}"
    elif metadata["protocol"] == "json":
        headers.setdefault("x-amz-target", f"{metadata['targetPrefix']}.{what}")
        headers.setdefault("content-type", f"application/x-amz-json-{metadata['jsonVersion']}")
    else:
        query = [("Action", what), ("Version", metadata["apiVersion"]), *query]
    is_form = headers.get("content-type", "").startswith("application/x-www-form-urlencoded")
    if metadata["protocol"] in ("query", "ec2") or (service == "sqs" and is_form):
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
    url = cloud.endpoint + path + (f"?{urlencode(query)}" if query else "")
    method = integration.get("httpMethod", "POST")
    headers |= await _signature(cloud, context, integration, method, url, metadata, found["region"], headers, body)
    return ServiceCall(method, url, headers, body)


async def _signature(
    cloud: Cloud,
    context: Context,
    integration: dict[str, Any],
    method: str,
    url: str,
    metadata: dict[str, Any],
    region: str,
    headers: dict[str, str],
    body: bytes,
) -> dict[str, str]:
    """The headers that sign a request with the keys of the integration's role."""
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    session = {"RoleArn": integration.get("credentials") or "", "RoleSessionName": "BackplaneAssumeRoleSession"}
    where: dict[str, Any] = {"account": context.account, "region": context.region, "principal": SELF}
    try:
        made = (await cloud.call("sts", "AssumeRole", session, **where))["Credentials"]
        keys = Credentials(made["AccessKeyId"], made["SecretAccessKey"], made["SessionToken"])
    except AwsError:
        # A role that nobody has made: the call is the account's own, as the user of this machine makes it.
        keys = Credentials(context.account, "local")
    request = AWSRequest(method, url, data=body, headers=headers)
    SigV4Auth(keys, metadata.get("signingName") or metadata["endpointPrefix"], region).add_auth(request)
    return {name.lower(): value for name, value in request.headers.items()}
