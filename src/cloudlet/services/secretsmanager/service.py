"""Secrets Manager. Secrets are in ``secrets.py``, their versions in ``values.py``, rotation in ``rotation.py``."""

from __future__ import annotations

from cloudlet.services.secretsmanager.rotation import Rotation
from cloudlet.services.secretsmanager.secrets import Secrets
from cloudlet.services.secretsmanager.values import Values


class Service(Rotation, Secrets, Values):
    """Secrets whose values are ciphertexts of KMS, with versions, staging labels and real rotation."""

    refused = {
        "DeleteResourcePolicy": "PolicyName",
        "GetResourcePolicy": "PolicyName",
        "PutResourcePolicy": "PolicyName",
    }
