"""Key pairs: real ones. The private key is the user's only."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from typing import Any

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.ec2.base import Base, new_tags
from cloudlet.services.ec2.kinds import KEY_PAIR
from cloudlet.services.ec2.records import Item
from cloudlet.services.ec2.world import World, invalid, shown_tags


class KeyPairs(Base):
    """Operations on key pairs."""

    async def CreateKeyPair(self, call: Call, input: Input) -> Output:
        kind, name = input.get("KeyType", "rsa"), input["KeyName"]
        if kind not in ("rsa", "ed25519"):
            raise invalid(f"Invalid value '{kind}' for KeyType.")
        if input.get("KeyFormat", "pem") != "pem":
            raise not_implemented("CreateKeyPair with KeyFormat ppk")
        tags = new_tags(call, input, KEY_PAIR)
        private, public, fingerprint = await asyncio.to_thread(_made, kind)
        shown = {"KeyName": name, "KeyType": kind, "KeyFingerprint": fingerprint, "CreateTime": self.clock.now()}
        item = await self._keep(call, name, shown, tags, public)
        return {
            "KeyName": name,
            "KeyPairId": item.id,
            "KeyFingerprint": fingerprint,
            "KeyMaterial": private,
            **({"Tags": shown_tags(tags)} if tags else {}),
        }

    async def ImportKeyPair(self, call: Call, input: Input) -> Output:
        name = input["KeyName"]
        tags = new_tags(call, input, KEY_PAIR)
        kind, public, fingerprint = _read(input["PublicKeyMaterial"])
        shown = {"KeyName": name, "KeyType": kind, "KeyFingerprint": fingerprint, "CreateTime": self.clock.now()}
        item = await self._keep(call, name, shown, tags, public)
        return {"KeyName": name, "KeyPairId": item.id, "KeyFingerprint": fingerprint, "Tags": shown_tags(tags)}

    async def DescribeKeyPairs(self, call: Call, input: Input) -> Output:
        world = self.world(call.scope)
        ids = [*input.get("KeyPairIds", [])]
        for name in input.get("KeyNames", []):
            found = world.all(KEY_PAIR, KeyName=name)
            if not found:
                raise KEY_PAIR.not_found(name)
            ids.append(found[0].id)

        def shown(world: World, item: Item) -> dict[str, Any]:
            public = {"PublicKey": item.hidden["public"]} if input.get("IncludePublicKey") else {}
            return {**item.shown, **public}

        return self.described(call, {**input, "KeyPairIds": ids}, KEY_PAIR, shown)

    async def DeleteKeyPair(self, call: Call, input: Input) -> Output:
        def work(world: World) -> Output:
            if "KeyPairId" in input:
                found = [item for item in (world.find(input["KeyPairId"]),) if item is not None]
            else:
                found = world.all(KEY_PAIR, KeyName=input.get("KeyName"))
            for item in found:
                world.delete(item)
            return {"Return": True, **({"KeyPairId": found[0].id} if found else {})}

        return await self.write(call.scope, work)

    async def _keep(self, call: Call, name: str, shown: dict[str, Any], tags: dict[str, str], public: str) -> Item:
        def work(world: World) -> Item:
            if world.all(KEY_PAIR, KeyName=name):
                raise AwsError("InvalidKeyPair.Duplicate", f"The key pair '{name}' already exists")
            return world.make(KEY_PAIR, shown, tags, {"public": public})

        return await self.write(call.scope, work)


def _made(kind: str) -> tuple[str, str, str]:
    """A new private key, its public one in OpenSSH's form, and its fingerprint as AWS takes it."""
    from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    key: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
    if kind == "rsa":
        key = rsa.generate_private_key(65537, 2048)
        private = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
        der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        fingerprint = hashlib.sha1(der, usedforsecurity=False).digest().hex(":")
    else:
        key = ed25519.Ed25519PrivateKey.generate()
        private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
        fingerprint = ""
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    return private.decode(), public, fingerprint or _sha256(public)


def _sha256(public: str) -> str:
    blob = base64.b64decode(public.split()[1])
    return base64.b64encode(hashlib.sha256(blob).digest()).decode()


def _read(material: bytes) -> tuple[str, str, str]:
    """The type of a public key, the key, and its fingerprint. Raises InvalidKey.Format."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_public_key

    text = material.decode("utf-8", "replace").strip()
    try:
        public = _as_openssh(text)
        key = load_ssh_public_key(public.encode())
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if isinstance(key, rsa.RSAPublicKey):
        der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return "rsa", public, hashlib.md5(der, usedforsecurity=False).digest().hex(":")
    if isinstance(key, ed25519.Ed25519PublicKey):
        return "ed25519", public, _sha256(public)
    raise AwsError("InvalidKey.Format", "Key is not in valid OpenSSH public key format")


def _as_openssh(text: str) -> str:
    """A public key on one line; it may come in the form of RFC 4716, or as base64 of its DER. Raises ValueError."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

    if text.startswith("---- BEGIN SSH2 PUBLIC KEY ----"):
        joined = text.replace("\\\n", "").splitlines()[1:-1]
        blob = "".join(line.strip() for line in joined if ":" not in line)
        raw = base64.b64decode(blob, validate=True)
        kind = raw[4 : 4 + int.from_bytes(raw[:4])].decode("ascii")
        return f"{kind} {blob}"
    if " " not in text:
        key = load_der_public_key(base64.b64decode(text))
        return key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    return text
