"""Operations that sign, verify, authenticate and agree on secrets."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from typing import Any

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.kms import material, specs
from cloudlet.services.kms.base import Base, check_dry_run, check_state, check_usable
from cloudlet.services.kms.records import Key


class Signing(Base):
    """RSA, ECDSA and Ed25519 signatures, HMACs, ECDH."""

    async def Sign(self, call: Call, input: Input) -> Output:
        key, algorithm = await self._signer(call, input, "Sign")
        check_dry_run(input)
        private = await self.loaded(key, key.material)
        arguments = _arguments(algorithm)
        signature = await asyncio.to_thread(private.sign, _message(input, algorithm), *arguments(input))
        return {"KeyId": key.arn, "Signature": signature, "SigningAlgorithm": algorithm}

    async def Verify(self, call: Call, input: Input) -> Output:
        from cryptography.exceptions import InvalidSignature

        key, algorithm = await self._signer(call, input, "Verify")
        check_dry_run(input)
        public = (await self.loaded(key, key.material)).public_key()
        try:
            public.verify(input["Signature"], _message(input, algorithm), *_arguments(algorithm)(input))
        except InvalidSignature:
            raise AwsError("KMSInvalidSignatureException", "") from None
        return {"KeyId": key.arn, "SignatureValid": True, "SigningAlgorithm": algorithm}

    async def GetPublicKey(self, call: Call, input: Input) -> Output:
        key = await self.named(call, input["KeyId"])
        check_state(key)
        if key.spec == specs.SYMMETRIC or key.spec in specs.MACS:
            raise AwsError(
                "UnsupportedOperationException",
                f"{key.arn} key spec is {key.spec} which is not valid for this operation.",
            )
        return {
            "KeyId": key.arn,
            "PublicKey": material.public_bytes(await self.loaded(key, key.material)),
            "CustomerMasterKeySpec": key.spec,
            "KeySpec": key.spec,
            "KeyUsage": key.usage,
            **specs.algorithms(key.spec, key.usage),
        }

    async def GenerateMac(self, call: Call, input: Input) -> Output:
        key, mac = await self._mac(call, input, "GenerateMac")
        return {"KeyId": key.arn, "Mac": mac, "MacAlgorithm": input["MacAlgorithm"]}

    async def VerifyMac(self, call: Call, input: Input) -> Output:
        key, mac = await self._mac(call, input, "VerifyMac")
        if not hmac.compare_digest(mac, input["Mac"]):
            raise AwsError("KMSInvalidMacException", "")
        return {"KeyId": key.arn, "MacValid": True, "MacAlgorithm": input["MacAlgorithm"]}

    async def DeriveSharedSecret(self, call: Call, input: Input) -> Output:
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.serialization import load_der_public_key

        if "Recipient" in input:
            raise not_implemented("KMS DeriveSharedSecret with Recipient")
        key = await self.named(call, input["KeyId"])
        check_usable(key, "KEY_AGREEMENT", "DeriveSharedSecret")
        check_dry_run(input)
        private = await self.loaded(key, key.material)
        try:
            secret = private.exchange(ec.ECDH(), load_der_public_key(input["PublicKey"]))
        except Exception:
            # Whatever is wrong with the other's key, AWS does not say it.
            raise AwsError("ValidationException", "") from None
        return {
            "KeyId": key.arn,
            "SharedSecret": secret,
            "KeyAgreementAlgorithm": "ECDH",
            "KeyOrigin": "AWS_KMS",
        }

    async def _signer(self, call: Call, input: Input, operation: str) -> tuple[Key, str]:
        key, algorithm = await self.named(call, input["KeyId"]), input["SigningAlgorithm"]
        check_usable(key, "SIGN_VERIFY", operation)
        if algorithm not in specs.algorithms(key.spec, key.usage)["SigningAlgorithms"]:
            if key.spec == specs.EDWARDS and algorithm == "ED25519_PH_SHA_512":
                raise not_implemented(f"KMS {operation} with the algorithm {algorithm}")
            raise AwsError(
                "InvalidKeyUsageException", f"Algorithm {algorithm} is incompatible with key spec {key.spec}."
            )
        return key, algorithm

    async def _mac(self, call: Call, input: Input, operation: str) -> tuple[Key, bytes]:
        key, algorithm = await self.named(call, input["KeyId"]), input["MacAlgorithm"]
        check_usable(key, "GENERATE_VERIFY_MAC", operation)
        if algorithm != specs.MACS[key.spec]:
            raise AwsError(
                "InvalidKeyUsageException", f"Algorithm {algorithm} is incompatible with key spec {key.spec}."
            )
        check_dry_run(input)
        secret = await self.loaded(key, key.material)
        return key, hmac.digest(secret, input["Message"], f"sha{algorithm.rpartition('_')[2]}")


def _message(input: Input, algorithm: str) -> bytes:
    """What is signed. Raises ValidationException for a digest of the wrong length."""
    message: bytes = input["Message"]
    kind = input.get("MessageType", "RAW")
    if kind == "EXTERNAL_MU" or (kind == "DIGEST" and algorithm == "ED25519_SHA_512"):
        raise AwsError("ValidationException", f"MessageType {kind} is incompatible with algorithm {algorithm}.")
    if kind == "DIGEST" and len(message) != hashlib.new(f"sha{_bits(algorithm)}").digest_size:
        raise AwsError("ValidationException", f"Digest is invalid length for algorithm {algorithm}.")
    return message


def _bits(algorithm: str) -> str:
    return algorithm.rpartition("_")[2]


def _arguments(algorithm: str) -> Any:
    """What ``sign`` and ``verify`` of an algorithm's key take besides the message."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, padding, utils

    def of(input: Input) -> list[Any]:
        if algorithm == "ED25519_SHA_512":
            return []
        plain = getattr(hashes, f"SHA{_bits(algorithm)}")()
        hash = utils.Prehashed(plain) if input.get("MessageType") == "DIGEST" else plain
        if algorithm.startswith("ECDSA"):
            return [ec.ECDSA(hash)]
        if "PSS" in algorithm:
            return [padding.PSS(padding.MGF1(plain), plain.digest_size), hash]
        return [padding.PKCS1v15(), hash]

    return of
