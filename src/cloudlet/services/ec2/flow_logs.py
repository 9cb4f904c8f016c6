"""Flow logs: what is asked of them. Their records are made in ``flow_collecting.py``."""

from __future__ import annotations

from typing import Any

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.ec2 import flow_records
from cloudlet.services.ec2.base import new_tags
from cloudlet.services.ec2.flow_collecting import DELIVERY
from cloudlet.services.ec2.guarding import Guarding
from cloudlet.services.ec2.kinds import FLOW_LOG, INTERFACE, SUBNET, VPC
from cloudlet.services.ec2.records import Item
from cloudlet.services.ec2.world import Members, World, missing

_KINDS = {"VPC": VPC, "Subnet": SUBNET, "NetworkInterface": INTERFACE}
_INTERVALS = (60, 600)
_S3 = "arn:aws:s3:::"
_SETTINGS = ("DeliverLogsPermissionArn", "DeliverCrossAccountRole", "LogGroupName", "LogDestination")


class FlowLogs(Guarding):
    """Operations on flow logs."""

    async def CreateFlowLogs(self, call: Call, input: Input) -> Output:
        shown = _checked(input)
        tags = new_tags(call, input, FLOW_LOG)
        world = self.world(call.scope)
        for id in input["ResourceIds"]:
            world.get(_KINDS[input["ResourceType"]], id)
        if wrong := await self._what_is_wrong(call, shown):
            entries = [{"ResourceId": id, "Error": {"Code": "400", "Message": wrong}} for id in input["ResourceIds"]]
            return {"FlowLogIds": [], "Unsuccessful": entries}

        def work(world: World) -> list[str]:
            ids = []
            for id in input["ResourceIds"]:
                world.get(_KINDS[input["ResourceType"]], id)
                if any(_is_same(one.shown, {"ResourceId": id, **shown}) for one in world.all(FLOW_LOG)):
                    raise AwsError(
                        "FlowLogAlreadyExists",
                        "Error. There is an existing Flow Log with the same configuration and log destination.",
                    )
                always = {"CreationTime": world.now, "FlowLogStatus": "ACTIVE", "ResourceId": id}
                ids.append(world.make(FLOW_LOG, {**always, **shown}, tags).id)
            return ids

        made = await self.write(call.scope, work)
        token = {"ClientToken": input["ClientToken"]} if "ClientToken" in input else {}
        return {"FlowLogIds": made, "Unsuccessful": [], **token}

    async def DescribeFlowLogs(self, call: Call, input: Input) -> Output:
        def present(world: World, item: Item) -> Members:
            why = self.guard.why_uncounted(call.scope, item.shown["ResourceId"]) or item.hidden.get("failed", "")
            failed = {"DeliverLogsStatus": "FAILED", "DeliverLogsErrorMessage": why}
            return {**item.shown, **(failed if why else {"DeliverLogsStatus": "SUCCESS"})}

        # One that is not there is passed over: it is no error.
        filters = list(input.get("Filter", []))
        if input.get("FlowLogIds"):
            filters.append({"Name": "flow-log-id", "Values": input["FlowLogIds"]})
        paged: Input = {name: input[name] for name in ("MaxResults", "NextToken") if name in input}
        return self.described(call, {**paged, "Filters": filters}, FLOW_LOG, present)

    async def DeleteFlowLogs(self, call: Call, input: Input) -> Output:
        def work(world: World) -> Output:
            found = {id: world.find(id) for id in input["FlowLogIds"] if FLOW_LOG.has(id)}
            if unknown := [id for id in input["FlowLogIds"] if found.get(id) is None]:
                raise FLOW_LOG.not_found(f"[TotalCount: {len(unknown)}] {' '.join(unknown)}")
            for item in found.values():
                if item is not None:
                    world.delete(item)
            return {"Unsuccessful": []}

        return await self.write(call.scope, work)

    async def _what_is_wrong(self, call: Call, shown: Members) -> str:
        """Why the destination cannot be written to, or nothing."""
        if shown["LogDestinationType"] != "s3":
            return ""
        bucket = shown["LogDestination"].removeprefix(_S3).partition("/")[0]
        where = {"account": call.account, "region": call.region, "principal": DELIVERY}
        try:
            await self.cloud.call("s3", "HeadBucket", {"Bucket": bucket}, **where)
        except AwsError as error:
            if error.status == 403 or error.code in ("AccessDenied", "403"):
                return f"Access Denied for LogDestination: {bucket}. Please check LogDestination permission"
            return f"LogDestination: {bucket} does not exist."
        return ""


def _checked(input: Input) -> Members:
    """What a new flow log shows. Raises InvalidParameter, MissingParameter."""
    if input["ResourceType"] not in _KINDS:
        raise not_implemented(f"CreateFlowLogs for {input['ResourceType']}")
    if "TagFieldSpecifications" in input:
        raise not_implemented("CreateFlowLogs with TagFieldSpecifications")
    if "TrafficType" not in input:
        raise missing("TrafficType")
    if (traffic := input["TrafficType"].upper()) not in ("ACCEPT", "REJECT", "ALL"):
        raise _wrong(f"Invalid value '{input['TrafficType']}' for trafficType.")
    type = input.get("LogDestinationType", "cloud-watch-logs")
    if type not in ("cloud-watch-logs", "s3"):
        raise not_implemented(f"CreateFlowLogs with LogDestinationType {type}")
    if "LogGroupName" in input and "LogDestination" in input:
        raise _wrong("Please only provide LogGroupName or only provide LogDestination.")
    if type == "s3" and "LogGroupName" in input:
        raise _wrong("LogDestination type must be cloud-watch-logs if LogGroupName is provided.")
    if type == "s3" and "DeliverLogsPermissionArn" in input:
        raise _wrong("DeliverLogsPermissionArn is not applicable for s3 delivery")
    if "LogGroupName" not in input and "LogDestination" not in input:
        raise _wrong("LogDestination can't be empty if LogGroupName is not provided.")
    if type == "cloud-watch-logs" and "DeliverLogsPermissionArn" not in input:
        raise _wrong("DeliverLogsPermissionArn can't be empty if LogDestinationType is cloud-watch-logs.")
    if (interval := input.get("MaxAggregationInterval", 600)) not in _INTERVALS:
        raise _wrong("Invalid Flow Log Max Aggregation Interval")
    shown: dict[str, Any] = {
        "TrafficType": traffic,
        "LogDestinationType": type,
        "LogFormat": input.get("LogFormat", flow_records.DEFAULT),
        "MaxAggregationInterval": interval,
        **{name: input[name] for name in _SETTINGS if name in input},
    }
    flow_records.fields(shown["LogFormat"])
    if type == "s3":
        options = {"FileFormat": "plain-text", "HiveCompatiblePartitions": False, "PerHourPartition": False}
        shown["DestinationOptions"] = options | input.get("DestinationOptions", {})
        if shown["DestinationOptions"]["FileFormat"] != "plain-text":
            raise not_implemented("CreateFlowLogs with FileFormat parquet")
    elif "DestinationOptions" in input:
        raise _wrong("DestinationOptions can only be provided if LogDestinationType is s3.")
    elif "LogDestination" in shown:
        # Its ARN names the group: arn:aws:logs:<region>:<account>:log-group:<name>, perhaps with :* behind it.
        parts = shown["LogDestination"].split(":")
        if len(parts) < 7 or parts[5] != "log-group":
            raise _wrong(f"Invalid log destination: {shown['LogDestination']}")
        shown["LogGroupName"] = parts[6]
    if type == "s3" and not shown["LogDestination"].startswith(_S3):
        raise _wrong(f"Invalid log destination: {shown['LogDestination']}")
    return shown


def _is_same(one: Members, other: Members) -> bool:
    ones = ("ResourceId", "TrafficType", "LogDestinationType", "LogGroupName", "LogDestination")
    return all(one.get(name) == other.get(name) for name in ones)


def _wrong(message: str) -> AwsError:
    return AwsError("InvalidParameter", message)
