"""How a service tells EventBridge of what has happened in it."""

from __future__ import annotations

import json
import logging
from typing import Any

from cloudlet.errors import AwsError
from cloudlet.services.api import Cloud

log = logging.getLogger("cloudlet.events")


async def tell(cloud: Cloud, scope: str, source: str, kind: str, detail: dict[str, Any], resource: str) -> None:
    """Put an event on the default bus of its account and region, where buses are used; about a resource, if any.

    ``source`` is the service's short name (``ec2``). Nothing is raised: nobody's work depends on who listens.
    """
    if "events" not in cloud.store.names():
        return
    account, region = scope.split("/")
    about = [resource] if resource else []
    event = {"Source": f"aws.{source}", "DetailType": kind, "Detail": json.dumps(detail), "Resources": about}
    ask, principal = {"Entries": [event]}, f"{source}.amazonaws.com"
    try:
        await cloud.call("events", "PutEvents", ask, account=account, region=region, principal=principal)
    except AwsError as error:
        log.warning("no event of %s: %s", resource, error)
