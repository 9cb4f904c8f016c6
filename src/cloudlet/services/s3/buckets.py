"""Buckets: their making and finding, and who may use them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from cloudlet.control.outbox import Delivery, Outbox
from cloudlet.errors import AwsError, not_implemented
from cloudlet.services import api
from cloudlet.services.api import Call, Input, Output, Tagged
from cloudlet.services.s3 import contents, cors, policy, records
from cloudlet.services.s3.contents import Contents
from cloudlet.services.s3.records import EVERYWHERE, Bucket
from cloudlet.services.s3.reporting import Daily
from cloudlet.store import Database, Tx
from cloudlet.store.api import Resources

_NAME = re.compile(r"(?!xn--|sthree-|amzn-s3-demo-)[a-z0-9](?:[a-z0-9.-]{1,61})[a-z0-9]\Z")
_ADDRESS = re.compile(r"\d+\.\d+\.\d+\.\d+\Z")
_RESERVED_ENDS = ("-s3alias", "--ol-s3", "--x-s3", "--table-s3", ".mrap")
_MOST_LISTED = 10_000

# Instead of an action: a form carries its own signature, and an object may be public by its own list.
JUDGED_LATER = "later"
_REGION = re.compile(r"[a-z]{2}(?:-[a-z]+)+-\d\Z")


class Buckets(api.Service):
    """The operations on buckets themselves, and what every other part of S3 stands on."""

    name = "s3"
    db: Database
    contents: Contents
    outbox: Outbox
    buckets: Resources[Bucket]

    async def start(self) -> None:
        self.db = await self.cloud.store.database("s3", records.MIGRATIONS)
        self.buckets = self.db.resources(Bucket)
        self.contents = Contents(
            self.db, self.cloud.data_dir / "s3", self.cloud.config.sync == "full", self.cloud.spawn
        )
        await self.contents.start()
        self.outbox = Outbox(self.db, self.clock, self.deliver, retries=self.pause_after)
        await self.outbox.start()
        self.daily = Daily(self.cloud.metrics, self.clock, self.db, self.buckets, self.cloud.spawn)

    async def resource_policy(self, call: Call, input: Input) -> str | None:
        record = self.buckets.get(EVERYWHERE, input.get("Bucket", ""))
        return record.value.settings.get("policy", {}).get("Policy") if record is not None else None

    async def deliver(self, delivery: Delivery) -> None:
        """Make one delivery of the outbox."""
        raise NotImplementedError

    def pause_after(self, failed: int, delivery: Delivery) -> float | None:
        """Seconds to a delivery's next try, None for no further one."""
        raise NotImplementedError

    def find(self, call: Call, input: Input, action: str = "") -> Bucket:
        """The bucket that a request names. Raises NoSuchBucket, and AccessDenied where it is not the caller's to use.

        ``action`` is what a caller without credentials would need to be allowed.
        """
        name = input["Bucket"]
        record = self.buckets.get(EVERYWHERE, name)
        if record is None:
            raise no_such_bucket(name)
        bucket = record.value
        request = call.request
        if request is not None:
            if "origin" in request.headers and "cors" in bucket.settings:
                call.headers.update(cors.answer(bucket.settings["cors"]["CORSRules"], request))
            if not call.access_key:
                if self.cloud.config.auth == "enforce" and not self._is_public(call, bucket, name, action, input):
                    raise access_denied()
            elif bucket.account != call.account and not policy.admits(bucket, call.account):
                raise access_denied()
            if bucket.account != call.account and not _is_paid(bucket, input):
                raise access_denied()
        if (owner := input.get("ExpectedBucketOwner")) is not None and owner != bucket.account:
            if re.fullmatch(r"[0-9]{12}", owner) is None:
                raise AwsError(
                    "InvalidBucketOwnerAWSAccountID",
                    f"The value of the expected bucket owner parameter must be an AWS Account ID... [{owner}]",
                )
            raise access_denied()
        return bucket

    def _is_public(
        self, call: Call, bucket: Bucket, name: str, action: str, input: Input, grants: list[Any] | None = None
    ) -> bool:
        """Whether anyone may do this: by the policy or, where it is silent, by an object's list or the bucket's."""
        from cloudlet.services.s3 import acl  # which knows this room

        if action == JUDGED_LATER:
            return True
        key = f"/{input['Key']}" if "Key" in input else ""
        said = policy.said_of_anyone(bucket, action, f"arn:aws:s3:::{name}{key}", call.request)
        if said is not None:
            return said
        if policy.blocks(bucket, "IgnorePublicAcls") or acl.enforced(bucket):
            return False
        if grants is None:
            return acl.public(bucket.settings.get("acl") or [], acl.GIVEN_BY.get(action, "FULL_CONTROL"))
        return acl.public(grants, "READ")

    def still(self, tx: Tx, name: str, bucket: Bucket) -> Bucket:
        """The bucket as a transaction finds it. Raises NoSuchBucket when it was deleted in the meantime."""
        record = self.buckets.get(EVERYWHERE, name, tx)
        if record is None or record.value.id != bucket.id:
            raise no_such_bucket(name)
        return record.value

    async def change_bucket(self, call: Call, input: Input, change: Callable[[Bucket], Bucket]) -> None:
        """Replace a bucket's record by what ``change`` makes of it."""
        found = self.find(call, input)
        name = input["Bucket"]

        def put(tx: Tx) -> None:
            self.buckets.put(tx, EVERYWHERE, name, change(self.still(tx, name, found)))

        await self.db.write(put)

    async def set(self, call: Call, input: Input, kind: str, members: dict[str, Any] | None) -> None:
        """Keep one kind of configuration, or forget it."""

        def change(bucket: Bucket) -> Bucket:
            settings = {known: value for known, value in bucket.settings.items() if known != kind}
            if members is not None:
                settings[kind] = members
            return replace(bucket, settings=settings)

        await self.change_bucket(call, input, change)

    async def CreateBucket(self, call: Call, input: Input) -> Output:
        """Make a bucket; making one's own again succeeds only in us-east-1, as AWS has it."""
        name = input["Bucket"]
        _check_name(name)
        asked = input.get("CreateBucketConfiguration") or {}
        if "Bucket" in asked or "Location" in asked:
            raise not_implemented("CreateBucket of a directory bucket")
        if input.get("BucketNamespace", "global") != "global":
            raise not_implemented("CreateBucket with BucketNamespace")
        region = _region(call.region, asked.get("LocationConstraint"))
        settings = _first_settings(input)
        made = Bucket(
            0,
            call.account,
            region,
            int(self.clock.now()),
            "Enabled" if input.get("ObjectLockEnabledForBucket") else "",
            bool(input.get("ObjectLockEnabledForBucket")),
            asked.get("Tags", []),
            settings,
        )

        def put(tx: Tx) -> None:
            if (known := self.buckets.get(EVERYWHERE, name, tx)) is not None:
                _check_known(call, name, known.value)
                return
            # A revision is never given twice, so that it makes a good id: rows of a former bucket are never seen again.
            id = self.buckets.put(tx, EVERYWHERE, name, made).revision
            self.buckets.put(tx, EVERYWHERE, name, replace(made, id=id))

        await self.db.write(put)
        self.daily.arm()
        location = f"/{name}" if region == "us-east-1" else f"http://{name}.s3.amazonaws.com/"
        return {"Location": location, "BucketArn": f"arn:aws:s3:::{name}"}

    async def DeleteBucket(self, call: Call, input: Input) -> Output:
        """Delete an empty bucket, and with it the uploads that nobody finished."""
        found = self.find(call, input)
        name = input["Bucket"]

        def delete(tx: Tx) -> contents.Files:
            bucket = self.still(tx, name, found)
            if records.has_any(tx, bucket.id):
                versions = ". You must delete all versions in the bucket." if bucket.versioning else ""
                raise AwsError(
                    "BucketNotEmpty", f"The bucket you tried to delete is not empty{versions}", BucketName=name
                )
            freed: contents.Files = []
            for (upload,) in tx.execute("DELETE FROM upload WHERE bucket = ? RETURNING id", (bucket.id,)).fetchall():
                freed += tx.execute("DELETE FROM part WHERE upload = ? RETURNING file, size", (upload,)).fetchall()
            contents.release(tx, freed)
            self.buckets.delete(tx, EVERYWHERE, name)
            return freed

        self.contents.discard(await self.db.write(delete, long=True))
        return {}

    async def HeadBucket(self, call: Call, input: Input) -> Output:
        name = input["Bucket"]
        region = self.find(call, input, "s3:ListBucket").region
        call.headers["content-type"] = "application/xml"
        output: Output = {"BucketRegion": region, "BucketArn": f"arn:aws:s3:::{name}", "AccessPointAlias": False}
        if call.request is None:
            output["WebsiteUrl"] = self.cloud.door("s3-website", name)  # for a template's GetAtt
        return output

    async def GetBucketLocation(self, call: Call, input: Input) -> Output:
        bucket = self.find(call, input)
        return {} if bucket.region == "us-east-1" else {"LocationConstraint": bucket.region}

    async def ListBuckets(self, call: Call, input: Input) -> Output:
        """The caller's own buckets, of all regions."""
        prefix, region = input.get("Prefix", ""), input.get("BucketRegion")
        after = input.get("ContinuationToken", "")
        most = input.get("MaxBuckets", _MOST_LISTED)
        if not 1 <= most <= _MOST_LISTED:
            raise AwsError("InvalidArgument", f"Argument max-buckets must be an integer between 1 and {_MOST_LISTED}")
        found = [
            record
            for record in self.buckets.list(EVERYWHERE, prefix)
            if record.value.account == call.account and record.name > after and region in (None, record.value.region)
        ]
        output: Output = {
            "Buckets": [
                {
                    "Name": record.name,
                    "CreationDate": record.value.created,
                    "BucketRegion": record.value.region,
                    "BucketArn": f"arn:aws:s3:::{record.name}",
                }
                for record in found[:most]
            ],
            "Owner": owner(call.account),
        }
        if "Prefix" in input:
            output["Prefix"] = prefix
        if len(found) > most:
            output["ContinuationToken"] = found[most - 1].name
        return output

    async def GetBucketVersioning(self, call: Call, input: Input) -> Output:
        bucket = self.find(call, input)
        return {"Status": bucket.versioning} if bucket.versioning else {}

    async def PutBucketVersioning(self, call: Call, input: Input) -> Output:
        asked = input["VersioningConfiguration"]
        status = asked.get("Status")
        if asked.get("MFADelete") == "Enabled":
            raise not_implemented("PutBucketVersioning with MFADelete")
        if status is None:
            raise AwsError(
                "IllegalVersioningConfigurationException",
                "The Versioning element must be specified",
            )
        if status not in ("Enabled", "Suspended"):
            raise malformed_xml()

        def change(bucket: Bucket) -> Bucket:
            if bucket.object_lock and status != "Enabled":
                raise AwsError(
                    "InvalidBucketState",
                    "An Object Lock configuration is present on this bucket, so the versioning state cannot be "
                    "changed.",
                )
            return replace(bucket, versioning=status)

        await self.change_bucket(call, input, change)
        return {}

    def resources_of(self, account: str, region: str) -> list[dict[str, str]]:
        return [
            {
                "type": "AWS::S3::Bucket",
                "name": record.name,
                "arn": f"arn:aws:s3:::{record.name}",
                "endpoint": f"{self.cloud.endpoint}/{record.name}",
            }
            for record in self.buckets.list(EVERYWHERE)
            if record.value.account == account and record.value.region == region
        ]

    async def tagged(self, account: str, region: str) -> list[Tagged]:
        return [
            (f"arn:aws:s3:::{record.name}", {tag["Key"]: tag["Value"] for tag in record.value.tags})
            for record in self.buckets.list(EVERYWHERE)
            if record.value.account == account and record.value.region == region
        ]


def _is_paid(bucket: Bucket, input: Input) -> bool:
    """Whether somebody else's request says that he pays for it, where the bucket wants that."""
    payer = bucket.settings.get("request_payment", {}).get("Payer", "BucketOwner")
    return payer == "BucketOwner" or input.get("RequestPayer") == "requester"


def _first_settings(input: Input) -> dict[str, Any]:
    """The settings that a new bucket has. Raises for lists of access that they do not allow."""
    ownership = input.get("ObjectOwnership", "BucketOwnerEnforced")
    if ownership not in ("BucketOwnerEnforced", "BucketOwnerPreferred", "ObjectWriter"):
        raise AwsError(
            "InvalidArgument",
            "Invalid x-amz-object-ownership header: " + ownership,
            ArgumentName="x-amz-object-ownership",
        )
    settings: dict[str, Any] = {
        "ownership": {"OwnershipControls": {"Rules": [{"ObjectOwnership": ownership}]}},
        "public_access_block": {
            "PublicAccessBlockConfiguration": {
                "BlockPublicAcls": True,
                "IgnorePublicAcls": True,
                "BlockPublicPolicy": True,
                "RestrictPublicBuckets": True,
            }
        },
    }
    if input.get("ACL", "private") != "private" or any(member.startswith("Grant") for member in input):
        if ownership == "BucketOwnerEnforced":
            raise AwsError(
                "InvalidBucketAclWithObjectOwnership",
                "Bucket cannot have ACLs set with ObjectOwnership's BucketOwnerEnforced setting",
            )
        raise AwsError(
            "InvalidBucketAclWithBlockPublicAccessError",
            "Bucket cannot have public ACLs set with BlockPublicAccess enabled",
        )
    if input.get("ObjectLockEnabledForBucket"):
        settings["object_lock"] = {"ObjectLockConfiguration": {"ObjectLockEnabled": "Enabled"}}
    return settings


def _check_known(call: Call, name: str, known: Bucket) -> None:
    """Whether a bucket that is there may be made again: one's own, in us-east-1."""
    if known.account != call.account:
        raise AwsError(
            "BucketAlreadyExists",
            "The requested bucket name is not available. The bucket namespace is shared by all users of "
            "the system. Please select a different name and try again.",
            BucketName=name,
        )
    if call.region != "us-east-1" or known.region != "us-east-1":
        raise AwsError(
            "BucketAlreadyOwnedByYou",
            "Your previous request to create the named bucket succeeded and you already own it.",
            BucketName=name,
        )


def _check_name(name: str) -> None:
    if _NAME.match(name) is None or ".." in name or _ADDRESS.match(name) or name.endswith(_RESERVED_ENDS):
        raise AwsError("InvalidBucketName", "The specified bucket is not valid.", BucketName=name)


def _region(here: str, constraint: str | None) -> str:
    """Where a bucket is to be made."""
    if not constraint:
        if here != "us-east-1":
            raise AwsError(
                "IllegalLocationConstraintException",
                "The unspecified location constraint is incompatible for the region specific endpoint this request was "
                "sent to.",
            )
        return here
    if constraint == "EU":
        constraint = "eu-west-1"
    if (here == constraint == "us-east-1") or _REGION.match(constraint) is None:
        raise AwsError(
            "InvalidLocationConstraint",
            "The specified location-constraint is not valid",
            LocationConstraint=constraint,
        )
    if here not in ("us-east-1", constraint):
        raise AwsError(
            "IllegalLocationConstraintException",
            f"The {constraint} location constraint is incompatible for the region specific endpoint this request was "
            "sent to.",
        )
    return constraint


def owner(account: str) -> dict[str, str]:
    """An account as S3 shows it: by its canonical id."""
    return {"ID": hashlib.sha256(account.encode()).hexdigest()}


def no_such_bucket(name: str) -> AwsError:
    """The error for a bucket that is not there."""
    return AwsError("NoSuchBucket", "The specified bucket does not exist", status=404, BucketName=name)


def access_denied(message: str = "Access Denied") -> AwsError:
    """The error for what is not the caller's to do."""
    return AwsError("AccessDenied", message, status=403)


def malformed_xml() -> AwsError:
    """The error for a document that says what the schema does not allow."""
    return AwsError(
        "MalformedXML", "The XML you provided was not well-formed or did not validate against our published schema"
    )
