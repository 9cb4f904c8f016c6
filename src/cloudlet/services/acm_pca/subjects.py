"""Names of subjects and alternative names: from the API's form to X.509's."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

from cloudlet.errors import AwsError, not_implemented

if TYPE_CHECKING:
    from cryptography import x509

# In the order in which AWS writes them.
_PARTS = {
    "Country": "2.5.4.6",
    "Organization": "2.5.4.10",
    "OrganizationalUnit": "2.5.4.11",
    "DistinguishedNameQualifier": "2.5.4.46",
    "State": "2.5.4.8",
    "CommonName": "2.5.4.3",
    "SerialNumber": "2.5.4.5",
    "Locality": "2.5.4.7",
    "Title": "2.5.4.12",
    "Surname": "2.5.4.4",
    "GivenName": "2.5.4.42",
    "Initials": "2.5.4.43",
    "Pseudonym": "2.5.4.65",
    "GenerationQualifier": "2.5.4.44",
}


def name_of(subject: dict[str, Any]) -> x509.Name:
    """A subject. Raises InvalidArgsException."""
    from cryptography import x509

    custom = subject.get("CustomAttributes", [])
    if custom and len(subject) > 1:
        raise AwsError("InvalidArgsException", "Custom attributes cannot be used with standard attributes.")
    pairs = [(_PARTS[part], subject[part]) for part in _PARTS if subject.get(part)]
    pairs += [(one["ObjectIdentifier"], one["Value"]) for one in custom]
    try:
        return x509.Name([x509.NameAttribute(x509.ObjectIdentifier(oid), value) for oid, value in pairs])
    except (ValueError, TypeError) as error:
        raise AwsError("InvalidArgsException", f"The subject is not valid: {error}") from None


def general_name(one: dict[str, Any]) -> x509.GeneralName:
    """An alternative name. Raises InvalidArgsException."""
    from cryptography import x509

    if len(one) != 1:
        raise AwsError("InvalidArgsException", "A general name must have exactly one value.")
    ((kind, value),) = one.items()
    try:
        match kind:
            case "DnsName":
                return x509.DNSName(value)
            case "Rfc822Name":
                return x509.RFC822Name(value)
            case "UniformResourceIdentifier":
                return x509.UniformResourceIdentifier(value)
            case "IpAddress":
                return x509.IPAddress(ipaddress.ip_address(value))
            case "RegisteredId":
                return x509.RegisteredID(x509.ObjectIdentifier(value))
            case "DirectoryName":
                return x509.DirectoryName(name_of(value))
    except ValueError as error:
        raise AwsError("InvalidArgsException", f"The general name {value} is not valid: {error}") from None
    raise not_implemented(f"IssueCertificate with a general name of kind {kind}")
