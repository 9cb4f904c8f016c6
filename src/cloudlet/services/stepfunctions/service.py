"""Step Functions. Machines are in ``machines.py``, executions in ``executions.py``; what runs them is ``runs.py``."""

from __future__ import annotations

from cloudlet.services.api import Tagged
from cloudlet.services.stepfunctions.tags import Tags
from cloudlet.services.stepfunctions.trying import Trying
from cloudlet.services.stepfunctions.versions import Versions


class Service(Versions, Trying, Tags):
    """State machines: where an execution stands is in the store, and is taken up from there."""

    refused = {
        "TestState": "revealSecrets",
    }

    def resources_of(self, account: str, region: str) -> list[dict[str, str]]:
        scope, prefix = f"{account}/{region}", f"arn:aws:states:{region}:{account}"
        machines = [("StateMachine", "stateMachine", record.name) for record in self.machines.list(scope)]
        activities = [("Activity", "activity", record.name) for record in self.activities.list(scope)]
        return [
            {"type": f"AWS::StepFunctions::{type}", "name": name, "arn": f"{prefix}:{kind}:{name}"}
            for type, kind, name in machines + activities
        ]

    async def tagged(self, account: str, region: str) -> list[Tagged]:
        scope, prefix = f"{account}/{region}", f"arn:aws:states:{region}:{account}"
        machines = [(f"{prefix}:stateMachine:{one.name}", one.value.tags) for one in self.machines.list(scope)]
        return machines + [(f"{prefix}:activity:{one.name}", one.value.tags) for one in self.activities.list(scope)]
