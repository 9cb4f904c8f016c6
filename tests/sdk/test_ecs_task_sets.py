"""Task sets of a service whose deployments somebody else controls, by the API and in a stack."""

from __future__ import annotations

import json
from typing import Any

from cloudlet.testing import LocalCloud, eventually


def template(weights: dict[str, float], primary: str) -> str:
    container = {"Name": "web", "Image": "nowhere/none"}
    definition = {"Family": "web", "ContainerDefinitions": [container], "Memory": "64"}
    place = {"Cluster": {"Ref": "Cluster"}, "Service": {"Ref": "Service"}}
    resources: dict[str, Any] = {
        "Cluster": {"Type": "AWS::ECS::Cluster"},
        "Web": {"Type": "AWS::ECS::TaskDefinition", "Properties": definition},
        "Service": {
            "Type": "AWS::ECS::Service",
            "Properties": {
                "Cluster": {"Ref": "Cluster"},
                "ServiceName": "web",
                "DesiredCount": 4,
                "DeploymentController": {"Type": "EXTERNAL"},
            },
        },
        "Primary": {
            "Type": "AWS::ECS::PrimaryTaskSet",
            "Properties": {**place, "TaskSetId": {"Fn::GetAtt": [primary, "Id"]}},
        },
    }
    for name, value in weights.items():
        members = {**place, "TaskDefinition": {"Ref": "Web"}, "LaunchType": "EC2", "ExternalId": name}
        scale = {"Scale": {"Unit": "PERCENT", "Value": value}}
        resources[name] = {"Type": "AWS::ECS::TaskSet", "Properties": members | scale}
    return json.dumps({"Resources": resources, "Outputs": {"Cluster": {"Value": {"Ref": "Cluster"}}}})


def test_a_stack_has_task_sets_and_says_which_is_the_primary_one(cloud: LocalCloud) -> None:
    stacks, ecs = cloud.client("cloudformation"), cloud.client("ecs")
    stacks.create_stack(StackName="s", TemplateBody=template({"Blue": 100.0}, "Blue"))
    stacks.get_waiter("stack_create_complete").wait(StackName="s", WaiterConfig={"Delay": 1})
    cluster = stacks.describe_stacks(StackName="s")["Stacks"][0]["Outputs"][0]["OutputValue"]

    def sets() -> dict[str, tuple[str, int]]:
        (service,) = ecs.describe_services(cluster=cluster, services=["web"])["services"]
        return {one["externalId"]: (one["status"], one["computedDesiredCount"]) for one in service["taskSets"]}

    def update(weights: dict[str, float], primary: str) -> None:
        stacks.update_stack(StackName="s", TemplateBody=template(weights, primary))
        eventually(lambda: stacks.describe_stacks(StackName="s")["Stacks"][0]["StackStatus"] == "UPDATE_COMPLETE")

    assert sets() == {"Blue": ("PRIMARY", 4)}
    update({"Blue": 100.0, "Green": 50.0}, "Blue")
    assert sets() == {"Blue": ("PRIMARY", 4), "Green": ("ACTIVE", 2)}
    update({"Blue": 25.0, "Green": 100.0}, "Green")
    assert sets() == {"Blue": ("ACTIVE", 1), "Green": ("PRIMARY", 4)}
    update({"Green": 100.0}, "Green")
    assert sets() == {"Green": ("PRIMARY", 4)}
    stacks.delete_stack(StackName="s")
    stacks.get_waiter("stack_delete_complete").wait(StackName="s", WaiterConfig={"Delay": 1})
