"""Signatures: who signed a request, and whether it was really them."""

from cloudlet.gateway.signature.chunks import unchunk
from cloudlet.gateway.signature.forms import check_form, read_form
from cloudlet.gateway.signature.read import Signed, read
from cloudlet.gateway.signature.refusals import unknown_key
from cloudlet.gateway.signature.verify import check_body, check_expiry, check_stream, verify
from cloudlet.services.iam.credentials import Credential

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
