"""AWS Private CA. Authorities are in ``authorities.py``, their certificates in ``issuing.py``, lists of what is
revoked in ``revocation.py``."""

from __future__ import annotations

from cloudlet.services.acm_pca.authorities import Authorities
from cloudlet.services.acm_pca.issuing import Issuing
from cloudlet.services.acm_pca.permissions import Permissions
from cloudlet.services.acm_pca.revocation import Revocation
from cloudlet.services.acm_pca.tags import Tags


class Service(Revocation, Authorities, Issuing, Permissions, Tags):
    """Authorities whose keys are in the database, and the certificates that they sign."""
