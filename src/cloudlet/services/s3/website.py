"""Buckets as websites: index and error documents, redirects, and the answers to browsers' preflight questions."""

from __future__ import annotations

import html
from typing import Any
from urllib.parse import unquote

from cloudlet.errors import AwsError
from cloudlet.http import Request, Response
from cloudlet.services.api import Call, Output
from cloudlet.services.s3 import cors
from cloudlet.services.s3.reading import Reading
from cloudlet.services.s3.records import EVERYWHERE, Bucket

_HEADERS = {
    "CacheControl": "cache-control",
    "ContentDisposition": "content-disposition",
    "ContentEncoding": "content-encoding",
    "ContentLanguage": "content-language",
    "ContentLength": "content-length",
    "ContentRange": "content-range",
    "ContentType": "content-type",
    "ETag": "etag",
    "VersionId": "x-amz-version-id",
}
_CONDITIONS = {"if-match": "IfMatch", "if-none-match": "IfNoneMatch", "range": "Range"}
_REASONS = {403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed", 412: "Precondition Failed"}


class Websites(Reading):
    """The door of websites, and the CORS preflight of buckets."""

    async def serve(self, request: Request, label: str) -> Response:
        """Answer a browser: an object, an index or error document, or a redirect."""
        record = self.buckets.get(EVERYWHERE, label)
        if record is None:
            return _page(404, "NoSuchBucket", "The specified bucket does not exist", BucketName=label)
        bucket = record.value
        website = bucket.settings.get("website")
        if website is None:
            message = "The specified bucket does not have a website configuration"
            return _page(404, "NoSuchWebsiteConfiguration", message, BucketName=label)
        if request.method not in ("GET", "HEAD"):
            message = "The specified method is not allowed against this resource."
            return _page(405, "MethodNotAllowed", message, Method=request.method, ResourceType="OBJECT")
        key = unquote(request.path.lstrip("/") if request.path.startswith("//") else request.path[1:])
        if (everywhere := website.get("RedirectAllRequestsTo")) is not None:
            scheme = everywhere.get("Protocol", request.scheme)
            return _moved(301, f"{scheme}://{everywhere['HostName']}{request.path}", request)
        if (rule := _rule_for(website, key, 0)) is not None:
            return _redirect(rule, request, key)
        call = Call(bucket.account, bucket.region, request=request)
        headers: dict[str, str] = {}
        if "origin" in request.headers and "cors" in bucket.settings:
            headers = cors.answer(bucket.settings["cors"]["CORSRules"], request)
        response = await self._object_or_error(call, request, bucket, label, website, key)
        response.headers.update(headers)
        return response

    async def _object_or_error(
        self, call: Call, request: Request, bucket: Bucket, name: str, website: dict[str, Any], key: str
    ) -> Response:
        index = website["IndexDocument"]["Suffix"]
        wanted = f"{key}{index}" if not key or key.endswith("/") else key
        conditions = {
            member: request.headers[header] for header, member in _CONDITIONS.items() if header in request.headers
        }
        try:
            found = await self.GetObject(call, {"Bucket": name, "Key": wanted, **conditions})
        except AwsError as error:
            if error.status == 304:
                return Response(304)
            if error.code == "NoSuchKey" and wanted == key:
                try:
                    await self.HeadObject(call, {"Bucket": name, "Key": f"{key}/{index}"})
                except AwsError:
                    pass
                else:
                    return _moved(302, f"/{key}/", request)
            status = error.status or 404
            if (rule := _rule_for(website, key, status)) is not None:
                return _redirect(rule, request, key)
            return await self._error_document(call, name, website, key, error, status)
        if "WebsiteRedirectLocation" in found:
            return _moved(301, found["WebsiteRedirectLocation"], request)
        return _answer(206 if "ContentRange" in found else 200, found)

    async def _error_document(
        self, call: Call, name: str, website: dict[str, Any], key: str, error: AwsError, status: int
    ) -> Response:
        document = website.get("ErrorDocument", {}).get("Key")
        if document is not None:
            try:
                return _answer(status, await self.GetObject(call, {"Bucket": name, "Key": document}))
            except AwsError:
                pass  # S3 then shows its own page
        return _page(status, error.code, error.message, Key=key)

    async def preflight(self, request: Request) -> Response | None:
        """A browser asks whether it may: the rules of the bucket in the path answer; None where there is none."""
        record = self.buckets.get(EVERYWHERE, request.path.split("/")[1])
        if record is None:
            return None
        rules = record.value.settings.get("cors", {}).get("CORSRules")
        if "origin" not in request.headers:
            return _refused("BadRequest", "Insufficient information. Origin request header needed.", 400)
        if not rules:
            return _refused("AccessForbidden", "CORSResponse: CORS is not enabled for this bucket.", 403)
        headers = cors.preflight(rules, request)
        if headers is None:
            message = (
                "CORSResponse: This CORS request is not allowed. This is usually because the evalution of Origin, "
                "request method / Access-Control-Request-Method or Access-Control-Request-Headers are not whitelisted "
                "by the resource's CORS spec."
            )
            return _refused("AccessForbidden", message, 403)
        return Response(200, headers)


def _answer(status: int, found: Output) -> Response:
    headers = {header: str(found[member]) for member, header in _HEADERS.items() if member in found}
    headers.update({f"x-amz-meta-{name}": value for name, value in found.get("Metadata", {}).items()})
    return Response(status, headers, found["Body"])


def _rule_for(website: dict[str, Any], key: str, status: int) -> dict[str, Any] | None:
    """The first routing rule that holds for a key and, once there is one, an error (0: none yet)."""
    for rule in website.get("RoutingRules", ()):
        condition = rule.get("Condition", {})
        code = condition.get("HttpErrorCodeReturnedEquals")
        if (int(code) if code is not None else 0) == status and key.startswith(condition.get("KeyPrefixEquals", "")):
            found: dict[str, Any] = rule
            return found
    return None


def _redirect(rule: dict[str, Any], request: Request, key: str) -> Response:
    to = rule["Redirect"]
    if "ReplaceKeyWith" in to:
        key = to["ReplaceKeyWith"]
    elif "ReplaceKeyPrefixWith" in to:
        key = to["ReplaceKeyPrefixWith"] + key[len(rule.get("Condition", {}).get("KeyPrefixEquals", "")) :]
    host = to.get("HostName") or request.headers.get("host", "")
    location = f"{to.get('Protocol', request.scheme)}://{host}/{key}"
    return _moved(int(to.get("HttpRedirectCode", 301)), location, request)


def _moved(status: int, location: str, request: Request) -> Response:
    return Response(status, {"location": location})


def _page(status: int, code: str, message: str, **details: str) -> Response:
    """An error as S3 shows it to a browser."""
    title = f"{status} {_REASONS.get(status, 'Error')}"
    items = {"Code": code, "Message": message, **details}
    listed = "".join(f"<li>{name}: {html.escape(value)}</li>\n" for name, value in items.items())
    text = (
        f"<html>\n<head><title>{title}</title></head>\n<body>\n<h1>{title}</h1>\n<ul>\n{listed}</ul>\n"
        "<hr/>\n</body>\n</html>\n"
    )
    return Response(status, {"content-type": "text/html; charset=utf-8", "x-amz-error-code": code}, text.encode())


def _refused(code: str, message: str, status: int) -> Response:
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>'
    return Response(status, {"content-type": "application/xml"}, text.encode())
