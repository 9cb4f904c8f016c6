"""KMS. Keys and aliases are in ``keys.py``; what they do is in ``encrypting.py`` and ``signing.py``."""

from __future__ import annotations

from cloudlet.services.kms.encrypting import Encrypting
from cloudlet.services.kms.grants import Grants
from cloudlet.services.kms.keys import Keys
from cloudlet.services.kms.rotation import Rotation
from cloudlet.services.kms.signing import Signing


class Service(Keys, Rotation, Grants, Encrypting, Signing):
    """Keys whose material is made here, wrapped on disk, and does real cryptography."""

    refused = {
        "CreateGrant": "Constraints.SourceArn",
        "ListKeys": "ResourceOwners!=SELF",
    }
