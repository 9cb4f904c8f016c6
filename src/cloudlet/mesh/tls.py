"""TLS: secrets, and the contexts that name them."""

from __future__ import annotations

from collections.abc import Sequence

from cloudlet.mesh.snapshot import Resource
from cloudlet.mesh.typed import extension

_TLS = "extensions.transport_sockets.tls.v3."

# One of the snapshot's secrets by its name, or one that Envoy asks somebody else for.
Secret = str | Resource


def certificate_secret(name: str, chain: str, key: str) -> Resource:
    """A certificate with its chain and its private key, both PEM texts, for the snapshot's ``secrets``."""
    return {
        "name": name,
        "tls_certificate": {"certificate_chain": {"inline_string": chain}, "private_key": {"inline_string": key}},
    }


def trust_secret(
    name: str, authorities: str, names: Sequence[str] = (), *, revoked: str = "", takes_expired: bool = False
) -> Resource:
    """The authorities (PEM) that are trusted; a peer's certificate must have one of ``names``, if there are any, and
    not be in one of the lists of ``revoked`` (PEM)."""
    context: Resource = {"trusted_ca": {"inline_string": authorities}}
    if revoked:
        context |= {"crl": {"inline_string": revoked}, "only_verify_leaf_cert_crl": True}
    if takes_expired:
        context["allow_expired_certificate"] = True
    if names:
        context["match_typed_subject_alt_names"] = [{"san_type": "DNS", "matcher": {"exact": one}} for one in names]
    return {"name": name, "validation_context": context}


def any_client_secret(name: str) -> Resource:
    """Any certificate of a client is taken, none is needed, and nothing is verified."""
    return {"name": name, "validation_context": {"trust_chain_verification": "ACCEPT_UNTRUSTED"}}


def server_tls(
    certificates: Sequence[Secret],
    *,
    alpn: Sequence[str] = (),
    versions: tuple[str, str] = ("TLSv1_2", "TLSv1_3"),
    ciphers: Sequence[str] = (),
    trust: Secret = "",
    names: Sequence[Resource] = (),
    require_client: bool = False,
) -> Resource:
    """How a listener speaks TLS. Certificates are names of secrets: the first is shown when none fits the SNI.

    ``versions`` are the lowest and the highest, ``ciphers`` those of TLS 1.2 and below; ``trust`` is the secret that
    a client's certificate is judged by, ``names`` are matchers that one of its names must fit as well.
    """
    return extension(
        "envoy.transport_sockets.tls",
        f"{_TLS}DownstreamTlsContext",
        common_tls_context=_context(certificates, alpn, versions, ciphers, trust, names),
        **({"require_client_certificate": True} if require_client else {}),
    )


def client_tls(
    *,
    sni: str = "",
    certificates: Sequence[Secret] = (),
    alpn: Sequence[str] = (),
    versions: tuple[str, str] = ("TLSv1_2", "TLSv1_3"),
    ciphers: Sequence[str] = (),
    trust: Secret = "",
    names: Sequence[Resource] = (),
) -> Resource:
    """How a cluster speaks TLS; without ``trust`` any certificate is taken."""
    return extension(
        "envoy.transport_sockets.tls",
        f"{_TLS}UpstreamTlsContext",
        common_tls_context=_context(certificates, alpn, versions, ciphers, trust, names),
        **({"sni": sni} if sni else {}),
    )


def secret_from(name: str, cluster: str) -> Resource:
    """A secret that Envoy asks the SDS server of a cluster for."""
    source = {"api_type": "GRPC", "transport_api_version": "V3"}
    ask = {**source, "grpc_services": [{"envoy_grpc": {"cluster_name": cluster}}]}
    return {"name": name, "sds_config": {"api_config_source": ask, "resource_api_version": "V3"}}


def plaintext() -> Resource:
    """No TLS, where it has to be said."""
    return extension("envoy.transport_sockets.raw_buffer", "extensions.transport_sockets.raw_buffer.v3.RawBuffer")


def _context(
    certificates: Sequence[Secret],
    alpn: Sequence[str],
    versions: tuple[str, str],
    ciphers: Sequence[str],
    trust: Secret,
    names: Sequence[Resource],
) -> Resource:
    parameters: Resource = {"tls_minimum_protocol_version": versions[0], "tls_maximum_protocol_version": versions[1]}
    if ciphers:
        parameters["cipher_suites"] = list(ciphers)
    made: Resource = {"tls_params": parameters}
    if alpn:
        made["alpn_protocols"] = list(alpn)
    if certificates:
        made["tls_certificate_sds_secret_configs"] = [_secret(one) for one in certificates]
    if trust and names:
        made["combined_validation_context"] = {
            "default_validation_context": {"match_typed_subject_alt_names": list(names)},
            "validation_context_sds_secret_config": _secret(trust),
        }
    elif trust:
        made["validation_context_sds_secret_config"] = _secret(trust)
    return made


def _secret(of: Secret) -> Resource:
    # Whoever publishes the snapshot says where its secrets are to be had.
    return {"name": of, "sds_config": {}} if isinstance(of, str) else of
