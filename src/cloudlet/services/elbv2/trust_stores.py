"""Trust stores: the authorities by which HTTPS listeners judge their clients' certificates, and what is revoked."""

from __future__ import annotations

import re
from collections.abc import Callable

from msgspec.structs import replace

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.elbv2.base import Base, new_id, page, tags_of
from cloudlet.services.elbv2.errors import invalid
from cloudlet.services.elbv2.records import Document, Revocation, TrustStore
from cloudlet.store import Tx

_DOWNLOAD = "elb-auth/"


class TrustStores(Base):
    """Making, changing and showing trust stores."""

    async def CreateTrustStore(self, call: Call, input: Input) -> Output:
        bundle = await self._object(call, input, "CaCertificatesBundle")
        made = TrustStore(
            account=call.account,
            region=call.region,
            name=input["Name"],
            id=new_id(),
            bundle=bundle,
            authorities=_authorities(bundle),
            tags=tags_of(input),
        )

        def create(tx: Tx) -> None:
            if self.trust_stores.get(call.scope, made.name, tx) is not None:
                words = f"A trust store with the name '{made.name}' already exists"
                raise AwsError("DuplicateTrustStoreNameException", words)
            self.trust_stores.put(tx, call.scope, made.name, made)

        await self.db.write(create)
        return {"TrustStores": [_described(made)]}

    async def DescribeTrustStores(self, call: Call, input: Input) -> Output:
        if arns := input.get("TrustStoreArns"):
            found = [self.trust_store(call, arn) for arn in arns]
        else:
            found = [record.value for record in self.trust_stores.list(call.scope)]
            if names := input.get("Names"):
                there = {store.name: store for store in found}
                if missing := [name for name in names if name not in there]:
                    raise AwsError("TrustStoreNotFoundException", f"Trust store '{missing[0]}' not found")
                found = [there[name] for name in names]
        here, marker = page([_described(one) for one in found], input, "TrustStoreArn")
        return {"TrustStores": here, **marker}

    async def ModifyTrustStore(self, call: Call, input: Input) -> Output:
        one = self.trust_store(call, input["TrustStoreArn"])
        bundle = await self._object(call, input, "CaCertificatesBundle")
        count = _authorities(bundle)
        after = await self._change_trust_store(
            call, one.arn, lambda now: replace(now, bundle=bundle, authorities=count)
        )
        return {"TrustStores": [_described(after)]}

    async def DeleteTrustStore(self, call: Call, input: Input) -> Output:
        one = self.trust_store(call, input["TrustStoreArn"])

        def delete(tx: Tx) -> None:
            if self._users(call, one.arn, tx):
                raise AwsError("TrustStoreInUseException", f"Trust store '{one.arn}' is currently in use by a listener")
            self.trust_stores.delete(tx, call.scope, one.name)

        await self.db.write(delete)
        return {}

    async def DescribeTrustStoreAssociations(self, call: Call, input: Input) -> Output:
        one = self.trust_store(call, input["TrustStoreArn"])
        found = [{"ResourceArn": arn} for arn in self._users(call, one.arn)]
        here, marker = page(found, input, "ResourceArn")
        return {"TrustStoreAssociations": here, **marker}

    async def GetTrustStoreCaCertificatesBundle(self, call: Call, input: Input) -> Output:
        one = self.trust_store(call, input["TrustStoreArn"])
        return {"Location": f"{self.cloud.endpoint}/_cloudlet/{_DOWNLOAD}bundle-{one.id}"}

    # What is revoked

    async def AddTrustStoreRevocations(self, call: Call, input: Input) -> Output:
        one = self.trust_store(call, input["TrustStoreArn"])
        lists = []
        for given in input.get("RevocationContents", []):
            content = await self._object(call, given, "")
            lists.append((content, _entries(content)))
        if not lists:
            raise invalid("A revocation content must be specified")

        def added(now: TrustStore) -> TrustStore:
            first = max((each.id for each in now.revocations), default=0) + 1
            fresh = [Revocation(id, content, entries) for id, (content, entries) in enumerate(lists, first)]
            return replace(now, revocations=[*now.revocations, *fresh])

        after = await self._change_trust_store(call, one.arn, added)
        return {"TrustStoreRevocations": [_revocation(after, each) for each in after.revocations[-len(lists) :]]}

    async def DescribeTrustStoreRevocations(self, call: Call, input: Input) -> Output:
        one = self.trust_store(call, input["TrustStoreArn"])
        wanted = input.get("RevocationIds")
        for id in wanted or []:
            _find(one, id)
        found = [_revocation(one, each) for each in one.revocations if not wanted or each.id in wanted]
        here, marker = page(found, input, "RevocationId")
        return {"TrustStoreRevocations": here, **marker}

    async def RemoveTrustStoreRevocations(self, call: Call, input: Input) -> Output:
        one, gone = self.trust_store(call, input["TrustStoreArn"]), set(input["RevocationIds"])
        for id in gone:
            _find(one, id)
        await self._change_trust_store(
            call,
            one.arn,
            lambda now: replace(now, revocations=[each for each in now.revocations if each.id not in gone]),
        )
        return {}

    async def GetTrustStoreRevocationContent(self, call: Call, input: Input) -> Output:
        one = self.trust_store(call, input["TrustStoreArn"])
        each = _find(one, input["RevocationId"])
        return {"Location": f"{self.cloud.endpoint}/_cloudlet/{_DOWNLOAD}revocation-{one.id}-{each.id}"}

    def download(self, label: str) -> str | None:
        """The text that a location of these operations leads to."""
        kind, _, rest = label.partition("-")
        id, _, number = rest.partition("-")
        one = next((record.value for record in self.trust_stores.all() if record.value.id == id), None)
        if one is None:
            return None
        if kind == "bundle":
            return one.bundle
        return next((each.content for each in one.revocations if str(each.id) == number), None)

    # What they share

    def _users(self, call: Call, arn: str, tx: Tx | None = None) -> list[str]:
        """The listeners that judge their clients by a trust store."""
        found = (record.value for record in self.listeners.list(call.scope, "", tx))
        return [one.arn for one in found if one.mutual.get("TrustStoreArn") == arn]

    async def _object(self, call: Call, input: Input, prefix: str) -> str:
        """A text from S3. Raises CaCertificatesBundleNotFound or RevocationContentNotFound."""
        asked: Input = {"Bucket": input.get(f"{prefix}S3Bucket", ""), "Key": input.get(f"{prefix}S3Key", "")}
        if version := input.get(f"{prefix}S3ObjectVersion"):
            asked["VersionId"] = version
        code = "CaCertificatesBundleNotFoundException" if prefix else "RevocationContentNotFoundException"
        try:
            found = await self.cloud.call("s3", "GetObject", asked, account=call.account, region=call.region)
            body = found["Body"]
            return (body if isinstance(body, bytes) else b"".join([part async for part in body])).decode()
        except (AwsError, UnicodeDecodeError):
            what = "certificates bundle" if prefix else "revocation content"
            raise AwsError(code, f"The specified {what} s3://{asked['Bucket']}/{asked['Key']} cannot be read") from None

    async def _change_trust_store(self, call: Call, arn: str, change: Callable[[TrustStore], TrustStore]) -> TrustStore:
        def write(tx: Tx) -> TrustStore:
            one = change(self.trust_store(call, arn, tx))
            return self.trust_stores.put(tx, call.scope, one.name, one).value

        stored = await self.db.write(write, long=True)
        self.changed()
        return stored


def _authorities(bundle: str) -> int:
    """How many certificates a bundle has. Raises InvalidCaCertificatesBundle."""
    from cryptography import x509

    try:
        return len(x509.load_pem_x509_certificates(bundle.encode()))
    except ValueError:
        words = "The specified ca certificate bundle is in an invalid format, or corrupt"
        raise AwsError("InvalidCaCertificatesBundleException", words) from None


def _entries(content: str) -> int:
    """How many certificates are revoked by the lists of a text. Raises InvalidRevocationContent."""
    from cryptography import x509

    found = re.findall("-----BEGIN X509 CRL-----.*?-----END X509 CRL-----", content, re.DOTALL)
    try:
        if not found:
            raise ValueError
        return sum(len(x509.load_pem_x509_crl(one.encode())) for one in found)
    except ValueError:
        words = "The provided revocation file is an invalid format, or uses an incorrect algorithm"
        raise AwsError("InvalidRevocationContentException", words) from None


def _find(one: TrustStore, id: int) -> Revocation:
    found = next((each for each in one.revocations if each.id == id), None)
    if found is None:
        raise AwsError("RevocationIdNotFoundException", f"The specified revocation ID '{id}' does not exist")
    return found


def _described(one: TrustStore) -> Document:
    return {
        "Name": one.name,
        "TrustStoreArn": one.arn,
        "Status": "ACTIVE",
        "NumberOfCaCertificates": one.authorities,
        "TotalRevokedEntries": sum(each.entries for each in one.revocations),
    }


def _revocation(one: TrustStore, each: Revocation) -> Document:
    return {
        "TrustStoreArn": one.arn,
        "RevocationId": each.id,
        "RevocationType": "CRL",
        "NumberOfRevokedEntries": each.entries,
    }
