"""Operations that encrypt and decrypt, and make keys for others to do so."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.kms import ciphertext, material, specs
from cloudlet.services.kms.base import Base, check_dry_run, check_state, check_usable
from cloudlet.services.kms.records import Key

_HASHES = {"RSAES_OAEP_SHA_1": ("SHA1", 20), "RSAES_OAEP_SHA_256": ("SHA256", 32)}


class Encrypting(Base):
    """Encryption: AES-GCM with symmetric keys, RSA-OAEP with RSA keys."""

    async def Encrypt(self, call: Call, input: Input) -> Output:
        key = await self.named(call, input["KeyId"])
        check_usable(key, "ENCRYPT_DECRYPT", "Encrypt")
        algorithm = _algorithm(key, input, "EncryptionAlgorithm")
        check_dry_run(input)
        blob = await self._encrypt(key, algorithm, input["Plaintext"], input.get("EncryptionContext", {}))
        return {"CiphertextBlob": blob, "KeyId": key.arn, "EncryptionAlgorithm": algorithm}

    async def Decrypt(self, call: Call, input: Input) -> Output:
        _refuse_recipient(input, "Decrypt")
        if "DryRunModifiers" in input:
            raise not_implemented("KMS Decrypt with DryRunModifiers")
        if "CiphertextBlob" not in input:
            raise AwsError("ValidationException", "CiphertextBlob is required.")
        key, algorithm, plaintext = await self._decrypt(
            call,
            input["CiphertextBlob"],
            input.get("KeyId"),
            input.get("EncryptionAlgorithm", specs.SYMMETRIC),
            input.get("EncryptionContext", {}),
        )
        check_dry_run(input)
        return {"KeyId": key.arn, "Plaintext": plaintext, "EncryptionAlgorithm": algorithm}

    async def ReEncrypt(self, call: Call, input: Input) -> Output:
        if "DryRunModifiers" in input:
            raise not_implemented("KMS ReEncrypt with DryRunModifiers")
        if "CiphertextBlob" not in input:
            raise AwsError("ValidationException", "CiphertextBlob is required.")
        source, before, plaintext = await self._decrypt(
            call,
            input["CiphertextBlob"],
            input.get("SourceKeyId"),
            input.get("SourceEncryptionAlgorithm", specs.SYMMETRIC),
            input.get("SourceEncryptionContext", {}),
        )
        key = await self.named(call, input["DestinationKeyId"])
        check_usable(key, "ENCRYPT_DECRYPT", "ReEncryptTo")
        after = _algorithm(key, input, "DestinationEncryptionAlgorithm")
        check_dry_run(input)
        blob = await self._encrypt(key, after, plaintext, input.get("DestinationEncryptionContext", {}))
        return {
            "CiphertextBlob": blob,
            "SourceKeyId": source.arn,
            "KeyId": key.arn,
            "SourceEncryptionAlgorithm": before,
            "DestinationEncryptionAlgorithm": after,
        }

    async def GenerateDataKey(self, call: Call, input: Input) -> Output:
        _refuse_recipient(input, "GenerateDataKey")
        return await self._data_key(call, input, "GenerateDataKey")

    async def GenerateDataKeyWithoutPlaintext(self, call: Call, input: Input) -> Output:
        output = await self._data_key(call, input, "GenerateDataKeyWithoutPlaintext")
        del output["Plaintext"]
        return output

    async def _data_key(self, call: Call, input: Input, operation: str) -> Output:
        if ("NumberOfBytes" in input) == ("KeySpec" in input):
            raise AwsError("ValidationException", "Please specify either number of bytes or key spec.")
        key = await self._symmetric(call, input, operation)
        check_dry_run(input)
        size = input.get("NumberOfBytes") or {"AES_256": 32, "AES_128": 16}[input["KeySpec"]]
        plaintext = os.urandom(size)
        blob = await self._encrypt(key, specs.SYMMETRIC, plaintext, input.get("EncryptionContext", {}))
        return {
            "CiphertextBlob": blob,
            "Plaintext": plaintext,
            "KeyId": key.arn,
            "KeyMaterialId": key.material_id,
        }

    async def GenerateDataKeyPair(self, call: Call, input: Input) -> Output:
        _refuse_recipient(input, "GenerateDataKeyPair")
        return await self._data_key_pair(call, input, "GenerateDataKeyPair")

    async def GenerateDataKeyPairWithoutPlaintext(self, call: Call, input: Input) -> Output:
        output = await self._data_key_pair(call, input, "GenerateDataKeyPairWithoutPlaintext")
        del output["PrivateKeyPlaintext"]
        return output

    async def _data_key_pair(self, call: Call, input: Input, operation: str) -> Output:
        spec = input["KeyPairSpec"]
        if spec not in specs.RSA and spec not in specs.CURVES and spec != specs.EDWARDS:
            raise not_implemented(f"KMS {operation} with the KeyPairSpec {spec}")
        key = await self._symmetric(call, input, operation)
        check_dry_run(input)
        private = await asyncio.to_thread(material.make, spec)
        blob = await self._encrypt(key, specs.SYMMETRIC, private, input.get("EncryptionContext", {}))
        return {
            "PrivateKeyCiphertextBlob": blob,
            "PrivateKeyPlaintext": private,
            "PublicKey": material.public_bytes(material.load(spec, private)),
            "KeyId": key.arn,
            "KeyPairSpec": spec,
            "KeyMaterialId": key.material_id,
        }

    async def GenerateRandom(self, call: Call, input: Input) -> Output:
        _refuse_recipient(input, "GenerateRandom")
        if "CustomKeyStoreId" in input:
            raise not_implemented("KMS GenerateRandom with CustomKeyStoreId")
        if "NumberOfBytes" not in input:
            raise AwsError("ValidationException", "NumberOfBytes is required.")
        return {"Plaintext": os.urandom(input["NumberOfBytes"])}

    async def _symmetric(self, call: Call, input: Input, operation: str) -> Key:
        """A key that data keys can be encrypted with."""
        key = await self.named(call, input["KeyId"])
        check_usable(key, "ENCRYPT_DECRYPT", operation)
        if key.spec != specs.SYMMETRIC:
            raise AwsError(
                "InvalidKeyUsageException", f"{key.arn} key spec is {key.spec} which is not valid for {operation}."
            )
        return key

    async def _encrypt(self, key: Key, algorithm: str, plaintext: bytes, context: dict[str, str]) -> bytes:
        ready = await self.loaded(key, key.material)
        if key.spec == specs.SYMMETRIC:
            return ciphertext.seal(ready, key.account, key.id, key.material, plaintext, context)
        _refuse_context(context)
        largest = specs.RSA[key.spec] // 8 - 2 * _HASHES[algorithm][1] - 2
        if len(plaintext) > largest:
            raise AwsError(
                "ValidationException",
                f"Algorithm {algorithm} and key spec {key.spec} cannot encrypt data larger than {largest} bytes.",
            )
        return bytes(ready.public_key().encrypt(plaintext, _oaep(algorithm)))

    async def _decrypt(
        self, call: Call, blob: bytes, key_id: str | None, algorithm: str, context: dict[str, str]
    ) -> tuple[Key, str, bytes]:
        named = await self.named(call, key_id) if key_id is not None else None
        if named is not None:
            check_state(named)
            if named.usage != "ENCRYPT_DECRYPT":
                raise _incorrect_key()
        if named is None or named.spec == specs.SYMMETRIC:
            if algorithm != specs.SYMMETRIC:
                raise ciphertext.invalid() if named is None else _incompatible(named, algorithm)
            if named is not None and ciphertext.read(blob).key != named.id:
                raise _incorrect_key()
            key, plaintext = await self.opened(call.region, blob, context)
            return key, algorithm, plaintext
        if algorithm not in _HASHES:
            raise _incompatible(named, algorithm)
        _refuse_context(context)
        ready = await self.loaded(named, named.material)
        try:
            return named, algorithm, await asyncio.to_thread(ready.decrypt, blob, _oaep(algorithm))
        except ValueError:
            raise ciphertext.invalid() from None


def _algorithm(key: Key, input: Input, parameter: str) -> str:
    algorithm: str = input.get(parameter, specs.SYMMETRIC)
    if algorithm not in specs.algorithms(key.spec, key.usage)["EncryptionAlgorithms"]:
        raise _incompatible(key, algorithm)
    return algorithm


def _incompatible(key: Key, algorithm: str) -> AwsError:
    return AwsError("InvalidKeyUsageException", f"Algorithm {algorithm} is incompatible with key spec {key.spec}.")


def _incorrect_key() -> AwsError:
    return AwsError(
        "IncorrectKeyException", "The key ID in the request does not identify a CMK that can perform this operation."
    )


def _refuse_context(context: dict[str, str]) -> None:
    if context:
        raise AwsError("ValidationException", "EncryptionContext is not supported for asymmetric keys.")


def _refuse_recipient(input: Input, operation: str) -> None:
    if "Recipient" in input:
        raise not_implemented(f"KMS {operation} with Recipient")


def _oaep(algorithm: str) -> Any:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    hash = getattr(hashes, _HASHES[algorithm][0])
    return padding.OAEP(padding.MGF1(hash()), hash(), None)
