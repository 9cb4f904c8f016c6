"""What keys of each spec can do."""

from __future__ import annotations

from cloudlet.errors import AwsError, not_implemented

SYMMETRIC = "SYMMETRIC_DEFAULT"
CURVES = {
    "ECC_NIST_P256": "ECDSA_SHA_256",
    "ECC_NIST_P384": "ECDSA_SHA_384",
    "ECC_NIST_P521": "ECDSA_SHA_512",
    "ECC_SECG_P256K1": "ECDSA_SHA_256",
}
EDWARDS = "ECC_NIST_EDWARDS25519"
MACS = {f"HMAC_{size}": f"HMAC_SHA_{size}" for size in (224, 256, 384, 512)}
RSA = {"RSA_2048": 2048, "RSA_3072": 3072, "RSA_4096": 4096}
_RSA_SIGNING = [f"RSASSA_{scheme}_SHA_{size}" for scheme in ("PKCS1_V1_5", "PSS") for size in (256, 384, 512)]
_RSA_ENCRYPTION = ["RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256"]


def usage_of(spec: str, wanted: str | None) -> str:
    """The usage of a new key. Raises ValidationException where the spec has none of that kind."""
    if spec != SYMMETRIC and wanted is None:
        raise AwsError(
            "ValidationException",
            "You must specify a KeyUsage value for all KMS keys except for symmetric encryption keys.",
        )
    usage = wanted or "ENCRYPT_DECRYPT"
    if usage not in _usages(spec):
        raise AwsError("ValidationException", f"KeyUsage {usage} is not compatible with KeySpec {spec}")
    return usage


def _usages(spec: str) -> tuple[str, ...]:
    if spec == SYMMETRIC:
        return ("ENCRYPT_DECRYPT",)
    if spec in RSA:
        return ("ENCRYPT_DECRYPT", "SIGN_VERIFY")
    if spec in MACS:
        return ("GENERATE_VERIFY_MAC",)
    if spec in ("ECC_SECG_P256K1", EDWARDS):
        return ("SIGN_VERIFY",)
    if spec in CURVES:
        return ("SIGN_VERIFY", "KEY_AGREEMENT")
    raise not_implemented(f"KMS keys of the spec {spec}")


def algorithms(spec: str, usage: str) -> dict[str, list[str]]:
    """The algorithms of a key, under the name of the member that lists them."""
    match usage:
        case "ENCRYPT_DECRYPT":
            return {"EncryptionAlgorithms": [SYMMETRIC] if spec == SYMMETRIC else list(_RSA_ENCRYPTION)}
        case "GENERATE_VERIFY_MAC":
            return {"MacAlgorithms": [MACS[spec]]}
        case "KEY_AGREEMENT":
            return {"KeyAgreementAlgorithms": ["ECDH"]}
    if spec in RSA:
        return {"SigningAlgorithms": list(_RSA_SIGNING)}
    return {"SigningAlgorithms": ["ED25519_SHA_512"] if spec == EDWARDS else [CURVES[spec]]}
