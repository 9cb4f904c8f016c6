"""The security policies of HTTPS and TLS listeners, as AWS's documentation lists them."""

from __future__ import annotations

from typing import NamedTuple

from cloudlet.errors import AwsError
from cloudlet.services.api import Output

DEFAULT = "ELBSecurityPolicy-2016-08"

_TLS13 = ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"]
_ECDHE_GCM = [
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
]
_ECDHE_SHA2 = [
    "ECDHE-ECDSA-AES128-SHA256",
    "ECDHE-RSA-AES128-SHA256",
    "ECDHE-ECDSA-AES256-SHA384",
    "ECDHE-RSA-AES256-SHA384",
]
_ECDHE_SHA = ["ECDHE-ECDSA-AES128-SHA", "ECDHE-RSA-AES128-SHA", "ECDHE-RSA-AES256-SHA", "ECDHE-ECDSA-AES256-SHA"]
_RSA_SHA2 = ["AES128-GCM-SHA256", "AES128-SHA256", "AES256-GCM-SHA384", "AES256-SHA256"]
_RSA_SHA = ["AES128-SHA", "AES256-SHA"]

_FORWARD = [*_ECDHE_GCM, *_ECDHE_SHA2]
_ALL_FORWARD = [*_FORWARD, *_ECDHE_SHA]
_ALL = [*_ALL_FORWARD, *_RSA_SHA2, *_RSA_SHA]
_VERSIONS = ["TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"]
_ENVOY = {"TLSv1": "TLSv1_0", "TLSv1.1": "TLSv1_1", "TLSv1.2": "TLSv1_2", "TLSv1.3": "TLSv1_3"}


class Policy(NamedTuple):
    """A security policy: the versions of TLS from the lowest on, and the ciphers in their order."""

    versions: list[str]
    ciphers: list[str]

    @property
    def range(self) -> tuple[str, str]:
        """The lowest and the highest version, in Envoy's names."""
        return _ENVOY[self.versions[0]], _ENVOY[self.versions[-1]]

    @property
    def old_ciphers(self) -> list[str]:
        """The ciphers of TLS 1.2 and below that this TLS library still has: those with SHA-2 in CBC mode are gone."""
        return [one for one in self.ciphers if one not in _TLS13 and one not in _GONE]


_GONE = {*_ECDHE_SHA2, "AES128-SHA256", "AES256-SHA256"}


def _of(lowest: str, ciphers: list[str], highest: str = "TLSv1.2") -> Policy:
    versions = _VERSIONS[_VERSIONS.index(lowest) : _VERSIONS.index(highest) + 1]
    return Policy(versions, [*(_TLS13 if highest == "TLSv1.3" else []), *ciphers])


_POLICIES = {
    "ELBSecurityPolicy-2016-08": _of("TLSv1", _ALL),
    "ELBSecurityPolicy-2015-05": _of("TLSv1", _ALL),
    "ELBSecurityPolicy-TLS-1-0-2015-04": _of("TLSv1", [*_ALL, "DES-CBC3-SHA"]),
    "ELBSecurityPolicy-TLS-1-1-2017-01": _of("TLSv1.1", _ALL),
    "ELBSecurityPolicy-TLS-1-2-2017-01": _of("TLSv1.2", [*_FORWARD, *_RSA_SHA2]),
    "ELBSecurityPolicy-TLS-1-2-Ext-2018-06": _of("TLSv1.2", _ALL),
    "ELBSecurityPolicy-FS-2018-06": _of("TLSv1", _ALL_FORWARD),
    "ELBSecurityPolicy-FS-1-1-2019-08": _of("TLSv1.1", _ALL_FORWARD),
    "ELBSecurityPolicy-FS-1-2-2019-08": _of("TLSv1.2", _ALL_FORWARD),
    "ELBSecurityPolicy-FS-1-2-Res-2019-08": _of("TLSv1.2", _FORWARD),
    "ELBSecurityPolicy-FS-1-2-Res-2020-10": _of("TLSv1.2", _ECDHE_GCM),
    "ELBSecurityPolicy-TLS13-1-0-2021-06": _of("TLSv1", _ALL, "TLSv1.3"),
    "ELBSecurityPolicy-TLS13-1-1-2021-06": _of("TLSv1.1", _ALL, "TLSv1.3"),
    "ELBSecurityPolicy-TLS13-1-2-2021-06": _of("TLSv1.2", _FORWARD, "TLSv1.3"),
    "ELBSecurityPolicy-TLS13-1-2-Ext1-2021-06": _of("TLSv1.2", [*_FORWARD, *_RSA_SHA2], "TLSv1.3"),
    "ELBSecurityPolicy-TLS13-1-2-Ext2-2021-06": _of("TLSv1.2", _ALL, "TLSv1.3"),
    "ELBSecurityPolicy-TLS13-1-2-Res-2021-06": _of("TLSv1.2", _ECDHE_GCM, "TLSv1.3"),
    "ELBSecurityPolicy-TLS13-1-3-2021-06": Policy(["TLSv1.3"], _TLS13),
}


def find(name: str) -> Policy:
    """A policy by its name. Raises SSLPolicyNotFound."""
    if name not in _POLICIES:
        raise AwsError("SSLPolicyNotFoundException", f"SSL policy '{name}' not found")
    return _POLICIES[name]


def described(names: list[str]) -> list[Output]:
    """The named policies, or all, as DescribeSSLPolicies has them. Raises SSLPolicyNotFound."""
    return [
        {
            "Name": name,
            "SslProtocols": list(reversed(policy.versions)),
            "Ciphers": [{"Name": cipher, "Priority": place} for place, cipher in enumerate(policy.ciphers, 1)],
            "SupportedLoadBalancerTypes": ["application", "network"],
        }
        for name in dict.fromkeys(names or _POLICIES)
        for policy in (find(name),)
    ]
