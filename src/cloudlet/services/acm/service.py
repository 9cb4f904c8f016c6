"""ACM. Asking for certificates and what becomes of them is in ``certificates.py``, tags in ``tags.py``."""

from __future__ import annotations

from cloudlet.http import Request, Response
from cloudlet.services.acm.certificates import Certificates
from cloudlet.services.acm.tags import Tags
from cloudlet.services.api import Tagged


class Service(Certificates, Tags):
    """Real certificates for whatever terminates TLS here.

    The authority's own certificate, which clients have to trust, is read at ``/_cloudlet/acm/authority.pem``.
    """

    async def serve(self, request: Request, label: str) -> Response:
        if label != "authority.pem" or request.path != "/" or request.method not in ("GET", "HEAD"):
            return Response(404, {"content-type": "text/plain"}, b"The authority's certificate is authority.pem.\n")
        pem = await self.authority_pem()
        return Response(200, {"content-type": "application/x-pem-file"}, pem.encode())

    def resources_of(self, account: str, region: str) -> list[dict[str, str]]:
        return [
            {"type": "AWS::CertificateManager::Certificate", "name": record.value.domain, "arn": record.value.arn}
            for record in self.certificates.list(f"{account}/{region}")
        ]

    async def tagged(self, account: str, region: str) -> list[Tagged]:
        certificates = [record.value for record in self.certificates.list(f"{account}/{region}")]
        return [(one.arn, {key: value or "" for key, value in one.tags.items()}) for one in certificates]
