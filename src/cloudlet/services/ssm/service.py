"""Parameter Store. Documents, Run Command and the rest of Systems Manager are not here."""

from __future__ import annotations

from cloudlet.services.ssm.reading import Reading
from cloudlet.services.ssm.writing import Writing


class Service(Reading, Writing):
    """Parameters in hierarchies, with versions, labels and, for secure ones, real encryption."""
