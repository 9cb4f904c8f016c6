"""Server certificates: kept for whoever terminates TLS, and checked when they come."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable
from typing import Any

import msgspec

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.iam.credentials import new_id
from cloudlet.services.iam.entities import checked_tags, exists, no_such, page, scope_of, with_tags, without_tags
from cloudlet.services.iam.mfa import Mfa
from cloudlet.services.iam.records import ServerCertificate, User
from cloudlet.store import Tx

_MOST_SIGNING = 2


class Certificates(Mfa):
    """Operations on server certificates and on users' signing certificates."""

    async def UploadServerCertificate(self, call: Call, input: Input) -> Output:
        scope, name, path = scope_of(call), input["ServerCertificateName"], input.get("Path", "/")
        members: dict[str, Any] = {
            "Path": path,
            "ServerCertificateName": name,
            "ServerCertificateId": new_id("ASCA"),
            "Arn": f"arn:aws:iam::{call.account}:server-certificate{path}{name}",
            "UploadDate": self.clock.now(),
            "Expiration": _expiry(input["CertificateBody"], input["PrivateKey"]),
        }
        if tags := checked_tags(input.get("Tags", ())):
            members["Tags"] = tags
        kept = ServerCertificate(
            members, input["CertificateBody"], input.get("CertificateChain", ""), input["PrivateKey"]
        )

        def work(tx: Tx) -> None:
            if self.certificates.get(scope, name, tx) is not None:
                raise exists(f"The Server Certificate with name {name} already exists.")
            self.certificates.put(tx, scope, name, kept)

        await self.db.write(work)
        return {"ServerCertificateMetadata": _metadata(members), **({"Tags": tags} if tags else {})}

    async def GetServerCertificate(self, call: Call, input: Input) -> Output:
        kept = self._certificate(call, input)
        shown = {"ServerCertificateMetadata": _metadata(kept.members), "CertificateBody": kept.body}
        if kept.chain:
            shown["CertificateChain"] = kept.chain
        if tags := kept.members.get("Tags"):
            shown["Tags"] = tags
        return {"ServerCertificate": shown}

    async def material(self, arn: str) -> tuple[str, str]:
        """A server certificate with its chain, and its key, both in PEM: for load balancers. Raises NoSuchEntity."""
        for record in self.certificates.list(f"{arn.split(':')[4]}/global"):
            kept = record.value
            if kept.members["Arn"] == arn:
                return kept.body.rstrip("\n") + "\n" + kept.chain, kept.key
        raise no_such(f"The Server Certificate with name {arn.rpartition('/')[2]} cannot be found.")

    async def ListServerCertificates(self, call: Call, input: Input) -> Output:
        prefix = input.get("PathPrefix", "/")
        found = [record.value.members for record in self.certificates.list(scope_of(call))]
        shown = [_metadata(members) for members in found if members["Path"].startswith(prefix)]
        return page("ServerCertificateMetadataList", shown, input)

    async def UpdateServerCertificate(self, call: Call, input: Input) -> Output:
        scope, old = scope_of(call), input["ServerCertificateName"]
        new: str = input.get("NewServerCertificateName") or old

        def work(tx: Tx) -> None:
            kept = self._certificate(call, input, tx)
            if new != old and self.certificates.get(scope, new, tx) is not None:
                raise exists(f"The Server Certificate with name {new} already exists.")
            path = input.get("NewPath", kept.members["Path"])
            arn = f"arn:aws:iam::{call.account}:server-certificate{path}{new}"
            members = {**kept.members, "ServerCertificateName": new, "Path": path, "Arn": arn}
            self.certificates.delete(tx, scope, old)
            self.certificates.put(tx, scope, new, msgspec.structs.replace(kept, members=members))

        await self.db.write(work)
        return {}

    async def DeleteServerCertificate(self, call: Call, input: Input) -> Output:
        def work(tx: Tx) -> None:
            self._certificate(call, input, tx)
            self.certificates.delete(tx, scope_of(call), input["ServerCertificateName"])

        await self.db.write(work)
        return {}

    async def TagServerCertificate(self, call: Call, input: Input) -> Output:
        await self._change_certificate(call, input, lambda kept: with_tags(kept, input["Tags"]))
        return {}

    async def UntagServerCertificate(self, call: Call, input: Input) -> Output:
        await self._change_certificate(call, input, lambda kept: without_tags(kept, input["TagKeys"]))
        return {}

    async def ListServerCertificateTags(self, call: Call, input: Input) -> Output:
        return page("Tags", self._certificate(call, input).members.get("Tags", []), input)

    async def _change_certificate(self, call: Call, input: Input, change: Any) -> None:
        def work(tx: Tx) -> None:
            kept = change(self._certificate(call, input, tx))
            self.certificates.put(tx, scope_of(call), input["ServerCertificateName"], kept)

        await self.db.write(work)

    # Signing certificates: with a user, of whom each may have two.

    async def UploadSigningCertificate(self, call: Call, input: Input) -> Output:
        body = input["CertificateBody"]
        _parsed(body)
        made = {
            "UserName": self._signer(call, input),
            "CertificateId": base64.b32encode(secrets.token_bytes(20)).decode(),
            "CertificateBody": body,
            "Status": "Active",
            "UploadDate": self.clock.now(),
        }

        def add(known: list[dict[str, Any]]) -> list[dict[str, Any]]:
            if len(known) >= _MOST_SIGNING:
                message = f"Cannot exceed quota for CertificatesPerUser: {_MOST_SIGNING}"
                raise AwsError("LimitExceeded", message, status=409)
            if any(one["CertificateBody"] == body for one in known):
                raise AwsError("DuplicateCertificate", "The certificate is already there.", status=409)
            return [*known, made]

        await self._change_signing(call, made["UserName"], add)
        return {"Certificate": made}

    async def ListSigningCertificates(self, call: Call, input: Input) -> Output:
        user: User = self.entity("User", scope_of(call), self._signer(call, input))
        return page("Certificates", user.signing, input)

    async def UpdateSigningCertificate(self, call: Call, input: Input) -> Output:
        id, status = input["CertificateId"], input["Status"]

        def change(known: list[dict[str, Any]]) -> list[dict[str, Any]]:
            _check_signing(known, id)
            return [{**one, "Status": status} if one["CertificateId"] == id else one for one in known]

        await self._change_signing(call, self._signer(call, input), change)
        return {}

    async def DeleteSigningCertificate(self, call: Call, input: Input) -> Output:
        id = input["CertificateId"]

        def drop(known: list[dict[str, Any]]) -> list[dict[str, Any]]:
            _check_signing(known, id)
            return [one for one in known if one["CertificateId"] != id]

        await self._change_signing(call, self._signer(call, input), drop)
        return {}

    def _signer(self, call: Call, input: Input) -> str:
        """The user whose certificates these are: who is named, else who calls. Raises ValidationError."""
        name: str = input.get("UserName") or (call.principal.rpartition("/")[2] if ":user/" in call.principal else "")
        if not name:
            raise AwsError("ValidationError", "Must specify userName when calling with non-User credentials")
        return name

    async def _change_signing(self, call: Call, name: str, change: Callable[[list[Any]], list[Any]]) -> None:
        scope = scope_of(call)

        def work(tx: Tx) -> None:
            user: User = self.entity("User", scope, name, tx)
            self.users.put(tx, scope, name, msgspec.structs.replace(user, signing=change(user.signing)))

        await self.db.write(work)

    def _certificate(self, call: Call, input: Input, tx: Tx | None = None) -> ServerCertificate:
        name = input["ServerCertificateName"]
        record = self.certificates.get(scope_of(call), name, tx)
        if record is None:
            raise no_such(f"The Server Certificate with name {name} cannot be found.")
        return record.value


def _check_signing(known: list[dict[str, Any]], id: str) -> None:
    if all(one["CertificateId"] != id for one in known):
        raise no_such(f"The Certificate with id {id} cannot be found.")


def _parsed(body: str) -> Any:
    """A certificate. Raises MalformedCertificate."""
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificate(body.encode())
    except ValueError:
        raise AwsError("MalformedCertificate", "Unable to parse certificate.", status=400) from None


def _metadata(members: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if name != "Tags"}


def _expiry(body: str, key: str) -> float:
    """When a certificate ends. Raises MalformedCertificate and KeyPairMismatch."""
    from cryptography.hazmat.primitives import serialization

    certificate = _parsed(body)
    try:
        private = serialization.load_pem_private_key(key.encode(), None)
    except (TypeError, ValueError):
        raise AwsError("MalformedCertificate", "Unable to parse private key.", status=400) from None
    if private.public_key() != certificate.public_key():
        raise AwsError("KeyPairMismatch", "Certificate and private key do not match.", status=400)
    ends: float = certificate.not_valid_after_utc.timestamp()
    return ends
