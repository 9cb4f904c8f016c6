"""A browser's upload: a form whose fields are the headers, a policy of what may be uploaded, and a streamed file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote, urlencode

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.s3 import checksums, contents, drafts
from cloudlet.services.s3.buckets import JUDGED_LATER
from cloudlet.services.s3.checksums import Expected
from cloudlet.services.s3.contents import Content
from cloudlet.services.s3.keys import check_key
from cloudlet.services.s3.records import Bucket, Stored
from cloudlet.services.s3.writing import Writing
from cloudlet.wire import signature

_LARGEST_FIELDS = 64 * 1024
_MEMBERS = {
    "acl": "ACL",
    "cache-control": "CacheControl",
    "content-disposition": "ContentDisposition",
    "content-encoding": "ContentEncoding",
    "content-md5": "ContentMD5",
    "content-type": "ContentType",
    "expires": "Expires",
    "x-amz-storage-class": "StorageClass",
    "x-amz-website-redirect-location": "WebsiteRedirectLocation",
    "x-amz-server-side-encryption": "ServerSideEncryption",
    "x-amz-server-side-encryption-aws-kms-key-id": "SSEKMSKeyId",
    "x-amz-server-side-encryption-customer-algorithm": "SSECustomerAlgorithm",
    "x-amz-server-side-encryption-customer-key": "SSECustomerKey",
    "x-amz-server-side-encryption-customer-key-md5": "SSECustomerKeyMD5",
    **{f"x-amz-checksum-{name.lower()}": member for name, member in checksums.MEMBERS.items()},
}
_METADATA = "x-amz-meta-"


class Forms(Writing):
    """PostObject."""

    async def PostObject(self, call: Call, input: Input) -> Output:
        bucket = self.find(call, input, JUDGED_LATER)
        form = Form(input.get("ContentType", ""), input.get("Body"))
        fields = await form.fields()
        if "key" not in fields:
            raise AwsError(
                "InvalidArgument",
                "Bucket POST must contain a field named 'key'.  If it is specified, please check the order of the "
                "fields.",
                ArgumentName="key",
                ArgumentValue="",
            )
        key = check_key(fields["key"].replace("${filename}", form.filename))
        asked = _as_input(fields, input["Bucket"], key)
        draft = drafts.draft(bucket, asked, bucket.account, self.clock.now())
        expected = Expected(Call(call.account, call.region), asked)
        content = await self.contents.receive(call, form.file(), expected)
        try:
            await self._check_form(call, bucket, input["Bucket"], fields, content)
        except BaseException:
            self.contents.discard(content.files)
            raise
        new = self.made(bucket, key, draft, content, expected.algorithm)
        stored = await self.store(call, asked, bucket, new, "ObjectCreated:Post")
        return self._answer(call, bucket, input["Bucket"], fields, stored)

    async def _check_form(
        self, call: Call, bucket: Bucket, name: str, fields: dict[str, str], content: Content
    ) -> None:
        """Hold a form against its policy and, where signatures are verified, its signature.

        Both are in its body, which the gateway does not read.
        """
        signed = signature.read_form(fields)
        enforce = self.cloud.config.auth == "enforce"
        if signed is None:
            if enforce and not self._is_public(call, bucket, name, "s3:PutObject", {"Key": fields["key"]}):
                raise AwsError("AccessDenied", "Access Denied", status=403)
            return
        credential = None
        if enforce:
            for service in ("sts", "iam") if signed.access_key.startswith("ASIA") else ("iam", "sts"):
                keys: Any = await self.cloud.service(service)
                credential = credential or await keys.credential(signed.access_key)
            if credential is None:
                raise signature.unknown_key(signed.access_key, "s3")
            call.account, call.principal, call.access_key = credential.account, credential.principal, signed.access_key
        signature.check_form(fields, signed, credential, self.clock.now(), name, content.size)

    def _answer(self, call: Call, bucket: Bucket, name: str, fields: dict[str, str], stored: Stored) -> Output:
        request = call.request
        host = request.headers.get("host", "") if request is not None else ""
        location = f"{self.cloud.endpoint if not host else f'http://{host}'}/{name}/{quote(stored.key)}"
        etag = stored.etag or ""
        output: Output = {"Location": location, "ETag": etag, "StatusCode": 204}
        if bucket.versioning:
            output["VersionId"] = stored.version
        redirect = fields.get("success_action_redirect") or fields.get("redirect")
        if redirect and redirect.startswith(("http://", "https://")):
            query = urlencode({"bucket": name, "key": stored.key, "etag": etag})
            output.update(StatusCode=303, Location=f"{redirect}{'&' if '?' in redirect else '?'}{query}")
        elif (status := fields.get("success_action_status")) in ("200", "201"):
            output["StatusCode"] = int(status)
            if status == "201":
                output["ContentType"] = "application/xml"
                output["Body"] = _document(location, name, stored.key, etag)
        return output


def _as_input(fields: dict[str, str], bucket: str, key: str) -> Input:
    """A form's fields as PutObject's members."""
    asked: Input = {"Bucket": bucket, "Key": key}
    for name, value in fields.items():
        if name in _MEMBERS:
            asked[_MEMBERS[name]] = value
        elif name.startswith(_METADATA):
            asked.setdefault("Metadata", {})[name[len(_METADATA) :]] = value
    if "tagging" in fields:
        asked["Tagging"] = _tags(fields["tagging"])
    return asked


def _tags(document: str) -> str:
    """A form's tags, which are a document, as PutObject's header has them."""
    from xml.etree import ElementTree

    try:
        root = ElementTree.fromstring(document)
    except ElementTree.ParseError:
        raise AwsError(
            "MalformedXML", "The XML you provided was not well-formed or did not validate against our published schema"
        ) from None
    found = {tag.findtext("{*}Key", ""): tag.findtext("{*}Value", "") for tag in root.iter() if tag.tag.endswith("Tag")}
    return urlencode(found)


def _document(location: str, bucket: str, key: str, etag: str) -> bytes:
    from xml.sax.saxutils import escape

    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<PostResponse>'
        f"<Location>{escape(location)}</Location><Bucket>{bucket}</Bucket><Key>{escape(key)}</Key>"
        f"<ETag>{escape(etag)}</ETag></PostResponse>"
    ).encode()


class Form:
    """A ``multipart/form-data`` body: its fields up to the file, then the file as a stream."""

    def __init__(self, content_type: str, body: contents.Body | None) -> None:
        kind, _, rest = content_type.partition(";")
        boundary = rest.partition("boundary=")[2].partition(";")[0].strip().strip('"')
        if kind.strip() != "multipart/form-data" or not boundary:
            raise AwsError(
                "PreconditionFailed",
                "At least one of the pre-conditions you specified did not hold",
                status=412,
                Condition="Bucket POST must be of the enclosure-type multipart/form-data",
            )
        self.filename = ""
        self._end = b"\r\n--" + boundary.encode()
        # The first boundary has no line before it; with one all are alike.
        self._buffer = b"\r\n"
        self._source = aiter(_once(body or b"") if isinstance(body, bytes | None) else body)

    async def fields(self) -> dict[str, str]:
        """The fields before the file, their names in lower case. Raises MalformedPOSTRequest."""
        found: dict[str, str] = {}
        size = 0
        await self._until(self._end)
        while True:
            ending = await self._until(b"\r\n")
            if ending.startswith(b"--"):
                raise AwsError(
                    "InvalidArgument", "POST requires exactly one file upload per request.", ArgumentName="file"
                )
            name, filename = _disposition(await self._until(b"\r\n\r\n"))
            if name == "file":
                self.filename = filename.replace("\\", "/").rpartition("/")[2]
                return found
            value = await self._until(self._end)
            size += len(value)
            if size > _LARGEST_FIELDS:
                raise AwsError(
                    "MaxPostPreDataLengthExceeded", "Your POST request fields preceeding the upload file was too large."
                )
            found[name.lower()] = value.decode("utf-8", "replace")

    async def file(self) -> AsyncIterator[bytes]:
        """The file's bytes. Raises MalformedPOSTRequest when it does not end."""
        held = len(self._end)
        while (end := self._buffer.find(self._end)) < 0:
            # The boundary may begin in the last bytes.
            if len(self._buffer) > held:
                piece, self._buffer = self._buffer[:-held], self._buffer[-held:]
                yield piece
            await self._more()
        yield self._buffer[:end]
        async for _ in self._source:
            pass  # what comes after the file does not count

    async def _until(self, mark: bytes) -> bytes:
        """What comes before a mark, which is taken off too."""
        while (end := self._buffer.find(mark)) < 0:
            if len(self._buffer) > _LARGEST_FIELDS:
                raise _malformed()
            await self._more()
        found, self._buffer = self._buffer[:end], self._buffer[end + len(mark) :]
        return found

    async def _more(self) -> None:
        piece = await anext(self._source, None)
        if piece is None:
            raise _malformed()
        self._buffer += piece


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body


def _disposition(head: bytes) -> tuple[str, str]:
    """The name of a part and of its file."""
    from email.parser import HeaderParser
    from email.policy import HTTP

    message = HeaderParser(policy=HTTP).parsestr(head.decode("utf-8", "replace"))
    name = message.get_param("name", header="content-disposition")
    filename = message.get_param("filename", "", header="content-disposition")
    if not isinstance(name, str):
        raise _malformed()
    return name, filename if isinstance(filename, str) else ""


def _malformed() -> AwsError:
    return AwsError("MalformedPOSTRequest", "The body of your POST request is not well-formed multipart/form-data.")
