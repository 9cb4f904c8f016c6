"""Signature Version 4, from the server's side.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html
"""

from cloudlet.gateway.signature.chunked import check_stream, unchunk
from cloudlet.gateway.signature.credentials import Credential, unknown_key
from cloudlet.gateway.signature.signed import Signed, read
from cloudlet.gateway.signature.verify import check_body, check_expiry, verify

__all__ = [
    "Credential",
    "Signed",
    "check_body",
    "check_expiry",
    "check_stream",
    "read",
    "unchunk",
    "unknown_key",
    "verify",
]
