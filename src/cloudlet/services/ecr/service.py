"""ECR. Repositories are in ``repositories.py``, images in ``images.py``, layers in ``layers.py``.

What ``docker push`` and ``docker pull`` speak is in ``registry.py``.
"""

from __future__ import annotations

from cloudlet.services.ecr.caching import Caching
from cloudlet.services.ecr.images import Images
from cloudlet.services.ecr.layers import Layers
from cloudlet.services.ecr.policies import Policies
from cloudlet.services.ecr.registry import Registry
from cloudlet.services.ecr.replication import Replication
from cloudlet.services.ecr.repositories import Repositories
from cloudlet.services.ecr.scanning import Scanning


class Service(Replication, Caching, Registry, Repositories, Policies, Scanning, Images, Layers):
    """One store of layers and images, pushed to and pulled from by the API and by every container engine."""
