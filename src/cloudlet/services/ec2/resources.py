"""CloudFormation's types of EC2. Networks are in ``resource_networks.py``, rules in ``resource_rules.py``."""

from __future__ import annotations

import json
from typing import Any

from cloudlet.errors import AwsError
from cloudlet.services.ec2 import kinds, resource_gateways, resource_instances, resource_networks, resource_rules
from cloudlet.services.ec2.stacking import Thing, Type, assign, made, picked, retag, specification, unless
from cloudlet.stacks.api import Deployment, Physical, Properties, changed


class VPCEndpoint(Thing):
    """A VPC endpoint. ``Ref`` is its id."""

    kind = kinds.ENDPOINT
    required = frozenset(("VpcId", "ServiceName"))
    replaces = frozenset(
        (
            *("VpcId", "ServiceName", "VpcEndpointType"),
            *("DnsOptions/PrivateDnsPreference", "DnsOptions/PrivateDnsSpecifiedDomains"),
        )
    )
    changes = frozenset(
        (
            *("RouteTableIds", "SubnetIds", "SecurityGroupIds", "PolicyDocument", "PrivateDnsEnabled", "Tags"),
            *("IpAddressType", "DnsOptions"),
        )
    )
    gives = ("NetworkInterfaceIds",)

    def input(self, do: Deployment, properties: Properties) -> Properties:
        input = picked(properties, *self.replaces, *(self.changes - {"Tags"}))
        return input | ({"PolicyDocument": _text(input["PolicyDocument"])} if "PolicyDocument" in input else {})

    async def attributes(self, do: Deployment, found: Properties) -> Properties:
        return {
            "CreationTimestamp": str(found["CreationTimestamp"]),
            "DnsEntries": [f"{entry['HostedZoneId']}:{entry['DnsName']}" for entry in found["DnsEntries"]],
        }

    async def change(self, do: Deployment, id: str, old: Properties, new: Properties) -> None:
        input = picked(new, "PrivateDnsEnabled", "IpAddressType", "DnsOptions")
        if changed(old, new, "PolicyDocument"):
            is_set = "PolicyDocument" in new
            input |= {"PolicyDocument": _text(new["PolicyDocument"])} if is_set else {"ResetPolicy": True}
        for name in ("RouteTableIds", "SubnetIds", "SecurityGroupIds"):
            before, after = old.get(name, []), new.get(name, [])
            input[f"Add{name}"] = [id for id in after if id not in before]
            input[f"Remove{name}"] = [id for id in before if id not in after]
        if input := {name: value for name, value in input.items() if value != []}:
            await do.call("ec2", "ModifyVpcEndpoint", {"VpcEndpointId": id, **input})

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await unless(do, "DeleteVpcEndpoints", {"VpcEndpointIds": [physical.id]})


class NetworkInterface(Thing):
    """A network interface. ``Ref`` is its id."""

    kind = kinds.INTERFACE
    required = frozenset(("SubnetId",))
    replaces = frozenset(
        (
            *("SubnetId", "PrivateIpAddress", "PrivateIpAddresses", "SecondaryPrivateIpAddressCount"),
            *("InterfaceType", "Ipv6AddressCount", "Ipv6Addresses"),
        )
    )
    changes = frozenset(("Description", "GroupSet", "SourceDestCheck", "Tags"))
    gives = ("VpcId",)

    def input(self, do: Deployment, properties: Properties) -> Properties:
        groups = {"Groups": properties["GroupSet"]} if "GroupSet" in properties else {}
        return picked(properties, "Description", *self.replaces) | groups

    async def attributes(self, do: Deployment, found: Properties) -> Properties:
        others = [entry["PrivateIpAddress"] for entry in found["PrivateIpAddresses"] if not entry["Primary"]]
        return {"PrimaryPrivateIpAddress": found["PrivateIpAddress"], "SecondaryPrivateIpAddresses": others}

    async def settle(self, do: Deployment, id: str, old: Properties, new: Properties) -> None:
        operation, which = "ModifyNetworkInterfaceAttribute", {"NetworkInterfaceId": id}
        await assign(do, operation, which, new, old, SourceDestCheck=True)

    async def change(self, do: Deployment, id: str, old: Properties, new: Properties) -> None:
        operation, which = "ModifyNetworkInterfaceAttribute", {"NetworkInterfaceId": id}
        if changed(old, new, "Description"):
            await do.call("ec2", operation, {**which, "Description": {"Value": new.get("Description", "")}})
        if changed(old, new, "GroupSet"):
            await do.call("ec2", operation, {**which, "Groups": new.get("GroupSet", [])})


_OPTIONS = {
    "DomainName": "domain-name",
    "DomainNameServers": "domain-name-servers",
    "NtpServers": "ntp-servers",
    "NetbiosNameServers": "netbios-name-servers",
    "NetbiosNodeType": "netbios-node-type",
    "Ipv6AddressPreferredLeaseTime": "ipv6-address-preferred-lease-time",
}


class DHCPOptions(Thing):
    """DHCP options. ``Ref`` is their id."""

    kind = kinds.DHCP_OPTIONS
    replaces = frozenset(_OPTIONS)
    changes = frozenset(("Tags",))
    gives = ("DhcpOptionsId",)

    def input(self, do: Deployment, properties: Properties) -> Properties:
        configurations = []
        for name, value in picked(properties, *_OPTIONS).items():
            values = value if isinstance(value, list) else [value]
            configurations.append({"Key": _OPTIONS[name], "Values": [str(one) for one in values]})
        return {"DhcpConfigurations": configurations}


class VPCDHCPOptionsAssociation(Type):
    """Which DHCP options a VPC has."""

    required = frozenset(("VpcId", "DhcpOptionsId"))
    replaces = frozenset(("VpcId", "DhcpOptionsId"))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        self.check(properties)
        await do.call("ec2", "AssociateDhcpOptions", dict(properties))
        return Physical(f"{properties['DhcpOptionsId']}|{properties['VpcId']}")

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        by_id = {"Filters": [{"Name": "vpc-id", "Values": [properties["VpcId"]]}]}
        for vpc in (await do.call("ec2", "DescribeVpcs", by_id))["Vpcs"]:
            # Where it was replaced, the VPC has others by now.
            if vpc["DhcpOptionsId"] == properties["DhcpOptionsId"]:
                await unless(do, "AssociateDhcpOptions", {"VpcId": vpc["VpcId"], "DhcpOptionsId": "default"})


class PrefixList(Thing):
    """A prefix list. ``Ref`` is its id."""

    kind = kinds.PREFIX_LIST
    noun = "ManagedPrefixList"
    required = frozenset(("PrefixListName", "AddressFamily"))
    replaces = frozenset(("AddressFamily",))
    changes = frozenset(("PrefixListName", "MaxEntries", "Entries", "Tags"))
    gives = ("PrefixListId", "OwnerId", "Version")

    def input(self, do: Deployment, properties: Properties) -> Properties:
        most = properties.get("MaxEntries", len(properties.get("Entries", [])) or 1)
        return picked(properties, "PrefixListName", "AddressFamily", "Entries") | {"MaxEntries": most}

    async def attributes(self, do: Deployment, found: Properties) -> Properties:
        return {"Arn": found["PrefixListArn"]}

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        self.check(new)
        input: Properties = {"PrefixListId": physical.id, **picked(new, "PrefixListName", "MaxEntries")}
        before, after = old.get("Entries", []), new.get("Entries", [])
        kept = {entry["Cidr"] for entry in after}
        if gone := [{"Cidr": entry["Cidr"]} for entry in before if entry["Cidr"] not in kept]:
            input["RemoveEntries"] = gone
        if more := [entry for entry in after if entry not in before]:
            input["AddEntries"] = more
        found = (await do.call("ec2", "ModifyManagedPrefixList", input))["PrefixList"]
        await retag(do, physical.id, new)
        return Physical(physical.id, physical.attributes | {"Version": found["Version"]})

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await super().delete(do, physical, properties)
        filters = [{"Name": "prefix-list-id", "Values": [physical.id]}]
        for left in (await do.call("ec2", "DescribeManagedPrefixLists", {"Filters": filters}))["PrefixLists"]:
            raise AwsError("DependencyViolation", left["StateMessage"])


class VPCPeeringConnection(Thing):
    """A peering connection, accepted at once where both sides are the stack's account's and region's."""

    kind = kinds.PEERING
    required = frozenset(("VpcId", "PeerVpcId"))
    replaces = frozenset(("VpcId", "PeerVpcId", "PeerOwnerId", "PeerRegion"))
    changes = frozenset(("Tags",))
    ignored = frozenset(("PeerRoleArn",))

    async def attributes(self, do: Deployment, found: Properties) -> Properties:
        accepter = found["AccepterVpcInfo"]
        is_ours = (accepter["OwnerId"], accepter["Region"]) == (do.account, do.region)
        if is_ours and found["Status"]["Code"] != "active":
            which = {"VpcPeeringConnectionId": found["VpcPeeringConnectionId"]}
            await do.call("ec2", "AcceptVpcPeeringConnection", which)
        return {}

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        input = {"VpcPeeringConnectionId": physical.id}
        await unless(do, "DeleteVpcPeeringConnection", input, "InvalidStateTransition")


class KeyPair(Type):
    """A key pair. ``Ref`` is its name; a private key that is made goes to the parameter ``/ec2/keypair/<its id>``."""

    required = frozenset(("KeyName",))
    replaces = frozenset(("KeyName", "PublicKeyMaterial", "KeyType", "KeyFormat"))
    changes = frozenset(("Tags",))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        self.check(properties)
        name = properties["KeyName"]
        if await made(do, "DescribeKeyPairs") is not None:
            # Of a step that did not end; its private key may be lost.
            await do.call("ec2", "DeleteKeyPair", {"KeyName": name})
        tags = specification(do, properties, "key-pair")
        if "PublicKeyMaterial" in properties:
            material = properties["PublicKeyMaterial"].encode()
            pair = await do.call("ec2", "ImportKeyPair", {"KeyName": name, "PublicKeyMaterial": material} | tags)
        else:
            input = picked(properties, "KeyName", "KeyType", "KeyFormat")
            pair = await do.call("ec2", "CreateKeyPair", input | tags)
            await do.initiated(name)
            parameter = {"Name": f"/ec2/keypair/{pair['KeyPairId']}", "Type": "SecureString"}
            await do.call("ssm", "PutParameter", {**parameter, "Value": pair["KeyMaterial"]})
        return Physical(name, picked(pair, "KeyPairId", "KeyFingerprint"))

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        self.check(new)
        await retag(do, physical.attributes["KeyPairId"], new)
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await do.call("ec2", "DeleteKeyPair", {"KeyName": physical.id})
        if "PublicKeyMaterial" not in properties:
            parameter = {"Names": [f"/ec2/keypair/{physical.attributes['KeyPairId']}"]}
            await do.call("ssm", "DeleteParameters", parameter)


class FlowLog(Thing):
    """A flow log. ``Ref`` is its id."""

    kind = kinds.FLOW_LOG
    required = frozenset(("ResourceId", "ResourceType"))
    replaces = frozenset(
        (
            *("ResourceId", "ResourceType", "TrafficType", "LogDestination", "LogDestinationType", "LogGroupName"),
            *("LogFormat", "MaxAggregationInterval", "DeliverLogsPermissionArn", "DeliverCrossAccountRole"),
            "DestinationOptions",
        )
    )
    changes = frozenset(("Tags",))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        self.check(properties)
        found = await made(do, "DescribeFlowLogs")
        if found is not None:
            return Physical(found["FlowLogId"], {"Id": found["FlowLogId"]})
        input = picked(properties, *(self.replaces - {"ResourceId"})) | {"ResourceIds": [properties["ResourceId"]]}
        answer = await do.call("ec2", "CreateFlowLogs", input | specification(do, properties, "vpc-flow-log"))
        for failure in answer["Unsuccessful"]:
            raise AwsError("InvalidRequest", failure["Error"]["Message"])
        (id,) = answer["FlowLogIds"]
        return Physical(id, {"Id": id})

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await unless(do, "DeleteFlowLogs", {"FlowLogIds": [physical.id]})


def _text(policy: Any) -> str:
    return policy if isinstance(policy, str) else json.dumps(policy)


TYPES = [
    *resource_instances.TYPES,
    *resource_networks.TYPES,
    *resource_gateways.TYPES,
    *resource_rules.TYPES,
    VPCEndpoint,
    NetworkInterface,
    DHCPOptions,
    VPCDHCPOptionsAssociation,
    PrefixList,
    VPCPeeringConnection,
    KeyPair,
    FlowLog,
]
