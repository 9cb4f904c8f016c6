"""What EventBridge and the topics of a group's triggers are told of its deployments.

https://docs.aws.amazon.com/codedeploy/latest/userguide/monitoring-sns-event-notifications-json-format.html
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

from cloudlet.errors import AwsError
from cloudlet.services.api import Cloud
from cloudlet.services.codedeploy.records import Deployment
from cloudlet.services.telling import tell

log = logging.getLogger("cloudlet.codedeploy")

_SELF = "codedeploy.amazonaws.com"
# A deployment's status, the state of its event, the event of triggers, the status in their messages.
_STATES = {
    "InProgress": ("START", "DeploymentStart", "CREATED"),
    "Ready": ("READY", "DeploymentReady", "READY"),
    "Succeeded": ("SUCCESS", "DeploymentSuccess", "SUCCEEDED"),
    "Failed": ("FAILURE", "DeploymentFailure", "FAILED"),
    "Stopped": ("STOP", "DeploymentStop", "STOPPED"),
}


async def announce(cloud: Cloud, scope: str, one: Deployment) -> None:
    """Tell of a deployment's new state."""
    account, region = scope.split("/")
    state, trigger, status = _STATES[one.status]
    arn = f"arn:aws:codedeploy:{region}:{account}:deploymentgroup:{one.application}/{one.group}"
    detail = {
        "region": region,
        "deploymentId": one.id,
        "instanceGroupId": one.id,
        "deploymentGroup": one.group,
        "state": state,
        "application": one.application,
    }
    await tell(cloud, scope, "codedeploy", "CodeDeploy Deployment State-change Notification", detail, arn)
    events = {trigger, "DeploymentRollback"} if one.undoes or one.rollback else {trigger}
    for given in one.settings.get("triggerConfigurations") or ():
        if events.intersection(given.get("triggerEvents", ())):
            await _publish(cloud, scope, one, given, status)


async def _publish(cloud: Cloud, scope: str, one: Deployment, given: dict[str, str], status: str) -> None:
    account, region = scope.split("/")
    message = {
        "region": region,
        "accountId": account,
        "eventTriggerName": given["triggerName"],
        "applicationName": one.application,
        "deploymentId": one.id,
        "deploymentGroupName": one.group,
        "createTime": _written(one.created),
        "completeTime": _written(one.finished) if one.finished else None,
        "deploymentOverview": None,
        "status": status,
        **({"errorInformation": json.dumps({k.title(): v for k, v in one.error.items()})} if one.error else {}),
    }
    ask = {
        "TopicArn": given["triggerTargetArn"],
        "Subject": f"{status}: AWS CodeDeploy {one.id} in {region} to {one.application}"[:100],
        "Message": json.dumps(message),
    }
    try:
        await cloud.call("sns", "Publish", ask, account=account, region=region, principal=_SELF)
    except AwsError as error:
        log.warning("trigger %s of %s: %s", given["triggerName"], one.group, error)


def _written(moment: float) -> str:
    """A moment as these messages write it."""
    return datetime.fromtimestamp(moment, UTC).strftime("%a %b %d %H:%M:%S UTC %Y")
