"""TLS of listeners and of clients, and the secrets that it needs."""

from __future__ import annotations

import os
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field

from cloudlet.mesh.snapshot import Resource, Snapshot
from cloudlet.mesh.tls import Secret, certificate_secret, client_tls, secret_from, server_tls
from cloudlet.services.appmesh.world import SDS, Found, Proxy, Spec


class MaterialMissing(Exception):
    """A certificate that a specification names is not there; the message says which."""


@dataclass(slots=True)
class Secrets:
    """Collects the secrets of one Envoy."""

    found: Found
    proxy: Proxy
    made: dict[str, Resource] = field(default_factory=dict)

    def server(self, tls: Spec, http2: bool) -> Resource:
        """How a listener speaks TLS: with its certificate, and asking for the client's where it is to be validated."""
        trust, names = self._trust(tls["validation"]) if "validation" in tls else ("", [])
        return server_tls(
            [self._certificate(tls["certificate"])],
            alpn=("h2", "http/1.1") if http2 else ("http/1.1",),
            trust=trust,
            names=names,
            require_client=bool(trust),
        )

    def offered(self, certificate: Spec, sni: str, http2: bool) -> Resource:
        """How a cluster speaks TLS without a policy: it asks who it speaks to only where ACM says who that must be."""
        arn = certificate.get("acm", {}).get("certificateArn", "")
        root = self.found.roots.get(arn)
        trust = self._validation(f"trust:offered:{arn}", {"inline_string": root}, [sni] if sni else []) if root else ""
        return client_tls(sni=sni, alpn=("h2",) if http2 else (), trust=trust)

    def client(self, tls: Spec, sni: str, http2: bool) -> Resource:
        """How a cluster speaks TLS with a policy. Without names in it the certificate must be that of ``sni``, the name
        that the node is discovered by."""
        certificates = [self._certificate(tls["certificate"])] if "certificate" in tls else []
        trust, names = self._trust(tls["validation"], [sni] if sni else [])
        return client_tls(sni=sni, certificates=certificates, alpn=("h2",) if http2 else (), trust=trust, names=names)

    def _certificate(self, certificate: Spec) -> Secret:
        if "file" in certificate:
            chain, key = (self.proxy.file(certificate["file"][part]) for part in ("certificateChain", "privateKey"))
            name = f"file:{chain}"
            self.made[name] = {
                "name": name,
                "tls_certificate": {"certificate_chain": {"filename": chain}, "private_key": {"filename": key}},
            }
            return name
        if "sds" in certificate and self.proxy.sds:
            return secret_from(certificate["sds"]["secretName"], SDS)
        wanted = certificate["acm"]["certificateArn"] if "acm" in certificate else certificate["sds"]["secretName"]
        if wanted not in self.found.certificates:
            raise MaterialMissing(f"the certificate {wanted} is not there")
        self.made[wanted] = certificate_secret(wanted, *self.found.certificates[wanted])
        return str(wanted)

    def _trust(self, validation: Spec, default: Sequence[str] = ()) -> tuple[Secret, list[Resource]]:
        """The secret with what is trusted; subject names are held against DNS names and URIs. Their matchers come apart
        where the task's own SDS server says what is trusted."""
        trust = validation["trust"]
        names = validation.get("subjectAlternativeNames", {}).get("match", {}).get("exact", default)
        if "sds" in trust and self.proxy.sds:
            return secret_from(trust["sds"]["secretName"], SDS), _matchers(names)
        if "file" in trust:
            source: Resource = {"filename": self.proxy.file(trust["file"]["certificateChain"])}
        elif "acm" in trust:
            arns = trust["acm"]["certificateAuthorityArns"]
            if missing := [arn for arn in arns if arn not in self.found.authorities]:
                raise MaterialMissing(f"the certificate authority {missing[0]} is not there, or has no certificate")
            source = {"inline_string": "".join(self.found.authorities[arn].rstrip("\n") + "\n" for arn in arns)}
        elif self.found.authority:
            source = {"inline_string": self.found.authority}
        else:
            raise MaterialMissing("the local certificate authority is not there")
        where = next(iter(trust))
        what = ",".join(trust["acm"]["certificateAuthorityArns"]) if where == "acm" else source.get("filename", "")
        return self._validation(f"trust:{where}:{what}:{','.join(names)}", source, names), []

    def _validation(self, name: str, authorities: Resource, names: Sequence[str]) -> str:
        context: Resource = {"trusted_ca": authorities}
        if names:
            context["match_typed_subject_alt_names"] = _matchers(names)
        self.made[name] = {"name": name, "validation_context": context}
        return name


def _matchers(names: Sequence[str]) -> list[Resource]:
    return [{"san_type": kind, "matcher": {"exact": name}} for name in names for kind in ("DNS", "URI")]


def check_files(snapshot: Snapshot) -> None:
    """Every file that a secret names is there, and keys fit their certificates. Raises MaterialMissing.

    Envoy would refuse the secret without a word, and carry nothing.
    """
    for secret in snapshot.secrets.values():
        certificate = secret.get("tls_certificate", {})
        sources = [*certificate.values(), secret.get("validation_context", {}).get("trusted_ca", {})]
        for file in (source["filename"] for source in sources if "filename" in source):
            if not os.path.isfile(file):
                raise MaterialMissing(f"the file {file} is not there; give it to the Envoy container with a volume")
        if "filename" in certificate.get("private_key", {}):
            chain, key = certificate["certificate_chain"]["filename"], certificate["private_key"]["filename"]
            try:
                ssl.create_default_context().load_cert_chain(chain, key)
            except (ssl.SSLError, OSError) as error:
                raise MaterialMissing(f"the certificate {chain} and the key {key} do not fit: {error}") from None
