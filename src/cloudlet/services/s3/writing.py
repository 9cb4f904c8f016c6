"""Objects written: how a request's bytes become a key's current version."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.s3 import checksums, conditions, contents, drafts, encryption, lifecycle_rules, locks, records
from cloudlet.services.s3.checksums import Expected
from cloudlet.services.s3.contents import Content, Files
from cloudlet.services.s3.drafts import Draft
from cloudlet.services.s3.keys import check_key
from cloudlet.services.s3.notifications import Notifications
from cloudlet.services.s3.records import NULL, Bucket, Stored
from cloudlet.store import Tx

_encode = msgspec.json.encode


class Writing(Notifications):
    """PutObject, and what all other ways to write an object share with it."""

    _last_seq = 0

    def next_seq(self) -> int:
        """A number for a new version, larger than every one before."""
        self._last_seq = max(self._last_seq + 1, int(self.clock.now() * 1_000_000))
        return self._last_seq

    async def PutObject(self, call: Call, input: Input) -> Output:
        """Store an object; its current version is replaced or, with versioning, kept beside it."""
        bucket = self.find(call, input, "s3:PutObject")
        key = check_key(input["Key"])
        if "WriteOffsetBytes" in input:
            raise not_implemented("PutObject with WriteOffsetBytes")
        draft = drafts.draft(bucket, input, call.account, self.clock.now())
        expected = Expected(call, input)
        if draft.lock is not None and "ObjectLockMode" in input and not expected.given and expected.md5 is None:
            raise AwsError(
                "InvalidRequest",
                "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock "
                "parameters",
            )
        body = await contents.sent(call.request, input.get("Body", b""))
        content = await self.contents.receive(call, body, expected)
        new = self.made(bucket, key, draft, content, expected.algorithm)
        stored = await self.store(call, input, bucket, new, "ObjectCreated:Put")
        return self.written(bucket, stored, draft.info)

    def made(
        self,
        bucket: Bucket,
        key: str,
        draft: Draft,
        content: Content,
        algorithm: str,
        *,
        etag: str = "",
        checksum: str = "",
        parts: bytes | None = None,
    ) -> Stored:
        """The row of a new object; its version is given to it in the transaction."""
        return Stored(
            bucket.id,
            key,
            self.next_seq(),
            NULL,
            int(self.clock.now()),
            content.size,
            etag or f'"{content.md5.hex()}"',
            checksum or f"{algorithm} FULL_OBJECT {content.checksum}",
            draft.storage,
            _encode(draft.info),
            draft.tags,
            draft.lock,
            draft.acl,
            parts,
            _encode(content.files) if content.files else None,
            content.body,
        )

    async def store(
        self,
        call: Call,
        input: Input,
        bucket: Bucket,
        new: Stored,
        event: str,
        also: Callable[[Tx], Files] | None = None,
    ) -> Stored:
        """Make a row its key's current version; ``also`` is done in the same transaction and may free files."""
        name = input["Bucket"]
        if_match, if_none_match = input.get("IfMatch"), input.get("IfNoneMatch")
        conditions.check_asked(if_match, if_none_match)

        def write(tx: Tx) -> tuple[Stored, Files, bool]:
            now = self.still(tx, name, bucket)
            stored = new._replace(version=records.new_version()) if now.versioning == "Enabled" else new
            if if_match is not None or if_none_match is not None:
                old = records.current_head(tx, bucket.id, new.key)
                conditions.check_write(if_match, if_none_match, new.key, old.etag if old is not None else None)
            if now.versioning == "Suspended":
                locks.check(records.versioned(tx, bucket.id, new.key, NULL), self.clock.now(), False)
            freed = records.put(tx, now, stored)
            if also is not None:
                freed += also(tx)
            told = "notification" in now.settings and self.announce(tx, call, name, now, event, stored)
            return stored, freed, told

        try:
            stored, freed, told = await self.db.write(write, long=also is not None)
        except BaseException:
            if also is None:
                self.contents.discard(new.file_list())
            raise
        if freed:
            self.contents.discard(freed)
        if told:
            self.outbox.wake()
        return stored

    def written(self, bucket: Bucket, stored: Stored, info: dict[str, Any]) -> Output:
        """What is answered about a new object."""
        output: Output = {"ETag": stored.etag}
        if stored.checksum:
            output.update(checksums.members(stored.checksum))
        for name in encryption.MEMBERS:
            if name in info:
                output[name] = info[name]
        if bucket.versioning == "Enabled":
            output["VersionId"] = stored.version
        if "lifecycle" in bucket.settings and (expiration := lifecycle_rules.header(bucket, stored)) is not None:
            output["Expiration"] = expiration
        return output
