"""Signatures: who signed a request, and whether it was really them."""

from cloudlet.wire.signature.chunks import unchunk
from cloudlet.wire.signature.credential import Credential
from cloudlet.wire.signature.forms import check_form, read_form
from cloudlet.wire.signature.read import Signed, read
from cloudlet.wire.signature.refusals import unknown_key
from cloudlet.wire.signature.verify import check_body, check_expiry, check_stream, verify

__all__ = [
    "Credential",
    "Signed",
    "check_body",
    "check_expiry",
    "check_form",
    "check_stream",
    "read",
    "read_form",
    "unchunk",
    "unknown_key",
    "verify",
]
