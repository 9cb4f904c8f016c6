"""Endpoint services: load balancers that other VPCs reach through endpoints of theirs. Records, with AWS's own ones."""

from __future__ import annotations

from typing import Any

from cloudlet.errors import AwsError
from cloudlet.places import ENABLED, OPT_IN, zones
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.ec2 import filters
from cloudlet.services.ec2.base import Base, new_tags, page
from cloudlet.services.ec2.kinds import ENDPOINT, ENDPOINT_SERVICE
from cloudlet.services.ec2.operations import describes, refuse_all_but
from cloudlet.services.ec2.records import Item
from cloudlet.services.ec2.world import Members, World, invalid, new_id, shown_tags

_KINDS = {"NetworkLoadBalancerArns": "Interface", "GatewayLoadBalancerArns": "GatewayLoadBalancer"}
_LISTS = (*_KINDS, "SupportedIpAddressTypes", "SupportedRegions")
# AWS's services that endpoints of VPCs lead to; S3 and DynamoDB also by gateway endpoints.
_SERVICES = (
    *("acm-pca", "application-autoscaling", "appmesh-envoy-management", "athena", "autoscaling", "cloudformation"),
    *("cloudtrail", "codebuild", "dynamodb", "ec2", "ec2messages", "ecr.api", "ecr.dkr", "ecs", "ecs-agent"),
    *("ecs-telemetry", "eks", "elasticfilesystem", "elasticloadbalancing", "events", "execute-api", "git-codecommit"),
    *("kinesis-firehose", "kinesis-streams", "kms", "lambda", "logs", "monitoring", "rds", "rds-data", "s3"),
    *("secretsmanager", "servicediscovery", "sns", "sqs", "ssm", "ssmmessages", "states", "sts", "xray"),
)
_DETAIL_PATHS = {
    "owner": ("Owner",),
    "service-name": ("ServiceName",),
    "service-region": ("ServiceRegion",),
    "service-type": ("ServiceType", "ServiceType"),
    "supported-ip-address-types": ("SupportedIpAddressTypes",),
}
_PERMISSION_PATHS = {"principal": ("Principal",), "principal-type": ("PrincipalType",)}


class EndpointServices(Base):
    """Operations on endpoint services."""

    async def CreateVpcEndpointServiceConfiguration(self, call: Call, input: Input) -> Output:
        known = ("AcceptanceRequired", "PrivateDnsName", *_LISTS, "ClientToken", "TagSpecifications", "DryRun")
        refuse_all_but(call, input, *known)
        tags = new_tags(call, input, ENDPOINT_SERVICE)
        given = [name for name in _KINDS if input.get(name)]
        if len(given) != 1:
            raise AwsError(
                "InvalidParameter",
                "exactly one of network_load_balancer_arn or gateway_load_balancer_arn is a required member",
            )
        places = await self._zones(call, input[given[0]])
        id = new_id(ENDPOINT_SERVICE.prefix)

        def work(world: World) -> Output:
            shown = {
                "AcceptanceRequired": input.get("AcceptanceRequired", True),
                "AvailabilityZones": places,
                "BaseEndpointDnsNames": [f"{id}.{world.region}.vpce.amazonaws.com"],
                "ManagesVpcEndpoints": False,
                "ServiceName": f"com.amazonaws.vpce.{world.region}.{id}",
                "ServiceState": "Available",
                "ServiceType": [{"ServiceType": _KINDS[given[0]]}],
                "SupportedIpAddressTypes": input.get("SupportedIpAddressTypes", ["ipv4"]),
                "SupportedRegions": [_region(name) for name in input.get("SupportedRegions", [world.region])],
                given[0]: input[given[0]],
            }
            shown |= _private_name(input["PrivateDnsName"]) if "PrivateDnsName" in input else {}
            made = world.make(ENDPOINT_SERVICE, shown, tags, {"permissions": []}, id)
            return {"ServiceConfiguration": {**made.shown, "Tags": shown_tags(tags)}}

        return await self.write(call.scope, work)

    DescribeVpcEndpointServiceConfigurations = describes(ENDPOINT_SERVICE)

    async def ModifyVpcEndpointServiceConfiguration(self, call: Call, input: Input) -> Output:
        for name in _KINDS:
            await self._zones(call, input.get(f"Add{name}", []))

        def work(world: World) -> Output:
            item = world.get(ENDPOINT_SERVICE, input["ServiceId"])
            changes: Members = {}
            for name in _LISTS:
                there = item.shown.get(name, [])
                gone, new = input.get(f"Remove{name}", []), input.get(f"Add{name}", [])
                if name == "SupportedRegions":
                    there = [one["Region"] for one in there]
                both = [*(one for one in there if one not in gone), *(one for one in new if one not in there)]
                changes[name] = ([_region(one) for one in both] if name == "SupportedRegions" else both) or None
            if "AcceptanceRequired" in input:
                changes["AcceptanceRequired"] = input["AcceptanceRequired"]
            if input.get("RemovePrivateDnsName"):
                changes |= {"PrivateDnsName": None, "PrivateDnsNameConfiguration": None}
            if "PrivateDnsName" in input:
                changes |= _private_name(input["PrivateDnsName"])
            if not any(changes[name] for name in _KINDS):
                raise invalid("A service needs at least one load balancer.")
            world.change(item, changes)
            return {"Return": True}

        return await self.write(call.scope, work)

    async def DeleteVpcEndpointServiceConfigurations(self, call: Call, input: Input) -> Output:
        def work(world: World) -> Output:
            failed = []
            for id in input["ServiceIds"]:
                item = world.find(id)
                if item is None:
                    words = ENDPOINT_SERVICE.words.format(id)
                    failed.append(_failure(id, "InvalidVpcEndpointService.NotFound", words))
                elif world.all(ENDPOINT, ServiceName=item.shown["ServiceName"]):
                    words = "Service has existing active VPC Endpoint connections!"
                    failed.append(_failure(id, "ExistingVpcEndpointConnections", words))
                else:
                    world.delete(item)
            return {"Unsuccessful": failed}

        return await self.write(call.scope, work)

    async def DescribeVpcEndpointServicePermissions(self, call: Call, input: Input) -> Output:
        item = self.world(call.scope).get(ENDPOINT_SERVICE, input["ServiceId"])
        found = [_permission(item, principal) for principal in item.hidden["permissions"]]
        return page("AllowedPrincipals", filters.chosen(found, input.get("Filters", []), _PERMISSION_PATHS), input)

    async def ModifyVpcEndpointServicePermissions(self, call: Call, input: Input) -> Output:
        gone = input.get("RemoveAllowedPrincipals", [])

        def work(world: World) -> Output:
            item = world.get(ENDPOINT_SERVICE, input["ServiceId"])
            kept = [one for one in item.hidden["permissions"] if one not in gone]
            new = [one for one in input.get("AddAllowedPrincipals", []) if one not in kept]
            world.change(item, hidden={"permissions": [*kept, *new]})
            return {"ReturnValue": True, "AddedPrincipals": [_permission(item, one) for one in new]}

        return await self.write(call.scope, work)

    async def DescribeVpcEndpointServices(self, call: Call, input: Input) -> Output:
        world = self.world(call.scope)
        details = _own_details(world.region) + [_detail(world, item) for item in world.all(ENDPOINT_SERVICE)]
        if names := input.get("ServiceNames"):
            known = {one["ServiceName"] for one in details}
            if unknown := [name for name in names if name not in known]:
                raise AwsError("InvalidServiceName", f"The Vpc Endpoint Service '{unknown[0]}' does not exist")
            details = [one for one in details if one["ServiceName"] in names]
        details = filters.chosen(details, input.get("Filters", []), _DETAIL_PATHS)
        answer = page("ServiceDetails", details, input)
        return {**answer, "ServiceNames": list(dict.fromkeys(one["ServiceName"] for one in answer["ServiceDetails"]))}

    async def _zones(self, call: Call, arns: list[str]) -> list[str]:
        """The zones of load balancers. Raises InvalidParameter for one that there is not."""
        if not arns:
            return []
        try:
            ask = {"LoadBalancerArns": arns}
            found = await self.cloud.call(
                "elbv2", "DescribeLoadBalancers", ask, account=call.account, region=call.region
            )
        except AwsError as error:
            if error.code != "LoadBalancerNotFound":
                raise
            raise AwsError("InvalidParameter", f"The load balancer {arns[0]} does not exist.") from None
        return sorted({zone["ZoneName"] for one in found["LoadBalancers"] for zone in one["AvailabilityZones"]})


def _region(name: str) -> dict[str, str]:
    if name not in (*ENABLED, *OPT_IN):
        raise invalid(f"The region {name} does not exist.")
    return {"Region": name, "ServiceState": "Available"}


def _private_name(name: str) -> Members:
    # That the domain is the user's own is proven by a TXT record, which nobody has looked up yet.
    proof = {"Name": f"_{new_id('vpce')[6:]}", "State": "pendingVerification", "Type": "TXT", "Value": new_id("vpce")}
    return {"PrivateDnsName": name, "PrivateDnsNameConfiguration": proof}


def _failure(id: str, code: str, words: str) -> Members:
    return {"ResourceId": id, "Error": {"Code": code, "Message": words}}


def _permission(item: Item, principal: str) -> Members:
    kind = {"root": "Account", "*": "All"}.get(principal.rpartition(":")[2])
    if kind is None:
        kind = {"user": "User", "role": "Role"}.get(principal.rpartition(":")[2].partition("/")[0], "Account")
    return {"Principal": principal, "PrincipalType": kind, "ServiceId": item.id}


def _detail(world: World, item: Item) -> dict[str, Any]:
    names = (
        *("AcceptanceRequired", "AvailabilityZones", "BaseEndpointDnsNames", "ManagesVpcEndpoints", "PrivateDnsName"),
        *("ServiceId", "ServiceName", "ServiceType", "SupportedIpAddressTypes"),
    )
    shown = {name: item.shown[name] for name in names if name in item.shown}
    more = {"Owner": world.account, "ServiceRegion": world.region, "VpcEndpointPolicySupported": False}
    return {**shown, **more, "Tags": shown_tags(item.tags)}


def _own_details(region: str) -> list[dict[str, Any]]:
    """AWS's own services."""
    found = []
    for service in _SERVICES:
        for kind in ("Gateway", "Interface") if service in ("s3", "dynamodb") else ("Interface",):
            detail: dict[str, Any] = {
                "AcceptanceRequired": False,
                "AvailabilityZones": list(zones(region)),
                "BaseEndpointDnsNames": [f"{service}.{region}.vpce.amazonaws.com"],
                "ManagesVpcEndpoints": False,
                "Owner": "amazon",
                "ServiceName": f"com.amazonaws.{region}.{service}",
                "ServiceRegion": region,
                "ServiceType": [{"ServiceType": kind}],
                "SupportedIpAddressTypes": ["ipv4"],
                "VpcEndpointPolicySupported": True,
                "Tags": [],
            }
            if kind == "Interface":
                name = f"{service}.{region}.amazonaws.com"
                detail |= {"PrivateDnsName": name, "PrivateDnsNames": [{"PrivateDnsName": name}]}
                detail["PrivateDnsNameVerificationState"] = "verified"
            found.append(detail)
    return found
