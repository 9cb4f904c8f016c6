"""CloudFormation's types of EC2. Networks are in ``resource_networks.py``, rules in ``resource_rules.py``."""

from __future__ import annotations

import json
from typing import Any

from cloudlet.services.ec2 import resource_networks, resource_rules
from cloudlet.services.ec2.stacking import Type, is_true, made, picked, retag, specification, unless
from cloudlet.stacks.api import Deployment, Physical, Properties, changed


class VPCEndpoint(Type):
    """A VPC endpoint. ``Ref`` is its id."""

    type = "AWS::EC2::VPCEndpoint"
    required = frozenset(("VpcId", "ServiceName"))
    replaces = frozenset(("VpcId", "ServiceName", "VpcEndpointType"))
    changes = frozenset(
        (
            *("RouteTableIds", "SubnetIds", "SecurityGroupIds", "PolicyDocument", "PrivateDnsEnabled", "Tags"),
            *("IpAddressType", "DnsOptions"),
        )
    )

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        self.check(properties)
        endpoint = await made(do, "DescribeVpcEndpoints", "VpcEndpoints")
        if endpoint is None:
            input = {name: value for name, value in properties.items() if name != "Tags"}
            if "PolicyDocument" in input:
                input["PolicyDocument"] = _text(input["PolicyDocument"])
            input |= specification(do, properties, "vpc-endpoint")
            endpoint = (await do.call("ec2", "CreateVpcEndpoint", input))["VpcEndpoint"]
        id = endpoint["VpcEndpointId"]
        attributes = {
            "Id": id,
            "CreationTimestamp": str(endpoint["CreationTimestamp"]),
            "DnsEntries": [f"{entry['HostedZoneId']}:{entry['DnsName']}" for entry in endpoint["DnsEntries"]],
            "NetworkInterfaceIds": endpoint["NetworkInterfaceIds"],
        }
        return Physical(id, attributes)

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        self.check(new)
        input: Properties = picked(new, "PrivateDnsEnabled", "IpAddressType", "DnsOptions")
        if changed(old, new, "PolicyDocument"):
            input |= (
                {"PolicyDocument": _text(new["PolicyDocument"])} if "PolicyDocument" in new else {"ResetPolicy": True}
            )
        for name in ("RouteTableIds", "SubnetIds", "SecurityGroupIds"):
            before, after = old.get(name, []), new.get(name, [])
            input[f"Add{name}"] = [id for id in after if id not in before]
            input[f"Remove{name}"] = [id for id in before if id not in after]
        input = {name: value for name, value in input.items() if value != []}
        if input:
            await do.call("ec2", "ModifyVpcEndpoint", {"VpcEndpointId": physical.id, **input})
        await retag(do, physical.id, new)
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await unless(do, "DeleteVpcEndpoints", {"VpcEndpointIds": [physical.id]})


class NetworkInterface(Type):
    """A network interface. ``Ref`` is its id."""

    type = "AWS::EC2::NetworkInterface"
    required = frozenset(("SubnetId",))
    replaces = frozenset(
        (
            *("SubnetId", "PrivateIpAddress", "PrivateIpAddresses", "SecondaryPrivateIpAddressCount"),
            *("InterfaceType", "Ipv6AddressCount", "Ipv6Addresses"),
        )
    )
    changes = frozenset(("Description", "GroupSet", "SourceDestCheck", "Tags"))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        self.check(properties)
        found = await made(do, "DescribeNetworkInterfaces", "NetworkInterfaces")
        if found is None:
            input = picked(properties, "Description", *self.replaces)
            if "GroupSet" in properties:
                input["Groups"] = properties["GroupSet"]
            input |= specification(do, properties, "network-interface")
            found = (await do.call("ec2", "CreateNetworkInterface", input))["NetworkInterface"]
        id = found["NetworkInterfaceId"]
        if "SourceDestCheck" in properties:
            await self._set(do, id, SourceDestCheck={"Value": is_true(properties["SourceDestCheck"])})
        others = [entry["PrivateIpAddress"] for entry in found["PrivateIpAddresses"] if not entry["Primary"]]
        attributes = {
            "Id": id,
            "PrimaryPrivateIpAddress": found["PrivateIpAddress"],
            "SecondaryPrivateIpAddresses": others,
            "VpcId": found["VpcId"],
        }
        return Physical(id, attributes)

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        self.check(new)
        if changed(old, new, "Description"):
            await self._set(do, physical.id, Description={"Value": new.get("Description", "")})
        if changed(old, new, "GroupSet"):
            await self._set(do, physical.id, Groups=new.get("GroupSet", []))
        if changed(old, new, "SourceDestCheck"):
            await self._set(do, physical.id, SourceDestCheck={"Value": is_true(new.get("SourceDestCheck", True))})
        await retag(do, physical.id, new)
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await unless(do, "DeleteNetworkInterface", {"NetworkInterfaceId": physical.id})

    async def _set(self, do: Deployment, id: str, **attribute: Any) -> None:
        await do.call("ec2", "ModifyNetworkInterfaceAttribute", {"NetworkInterfaceId": id, **attribute})


_OPTIONS = {
    "DomainName": "domain-name",
    "DomainNameServers": "domain-name-servers",
    "NtpServers": "ntp-servers",
    "NetbiosNameServers": "netbios-name-servers",
    "NetbiosNodeType": "netbios-node-type",
    "Ipv6AddressPreferredLeaseTime": "ipv6-address-preferred-lease-time",
}


class DHCPOptions(Type):
    """DHCP options. ``Ref`` is their id."""

    type = "AWS::EC2::DHCPOptions"
    replaces = frozenset(_OPTIONS)
    changes = frozenset(("Tags",))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        self.check(properties)
        configurations = []
        for name, key in _OPTIONS.items():
            if name in properties:
                value = properties[name]
                values = value if isinstance(value, list) else [value]
                configurations.append({"Key": key, "Values": [str(one) for one in values]})
        input = {"DhcpConfigurations": configurations} | specification(do, properties, "dhcp-options")
        found = await made(do, "DescribeDhcpOptions", "DhcpOptions")
        if found is None:
            found = (await do.call("ec2", "CreateDhcpOptions", input))["DhcpOptions"]
        id = found["DhcpOptionsId"]
        return Physical(id, {"DhcpOptionsId": id})

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        self.check(new)
        await retag(do, physical.id, new)
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await unless(do, "DeleteDhcpOptions", {"DhcpOptionsId": physical.id})


class VPCDHCPOptionsAssociation(Type):
    """Which DHCP options a VPC has."""

    type = "AWS::EC2::VPCDHCPOptionsAssociation"
    required = frozenset(("VpcId", "DhcpOptionsId"))
    replaces = frozenset(("VpcId",))
    changes = frozenset(("DhcpOptionsId",))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        self.check(properties)
        await do.call("ec2", "AssociateDhcpOptions", dict(properties))
        return Physical(f"{properties['DhcpOptionsId']}|{properties['VpcId']}")

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        return await self.create(do, new)

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await unless(do, "AssociateDhcpOptions", {"VpcId": properties["VpcId"], "DhcpOptionsId": "default"})


class PrefixList(Type):
    """A prefix list. ``Ref`` is its id."""

    type = "AWS::EC2::PrefixList"
    required = frozenset(("PrefixListName", "AddressFamily"))
    replaces = frozenset(("AddressFamily",))
    changes = frozenset(("PrefixListName", "MaxEntries", "Entries", "Tags"))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        self.check(properties)
        found = await made(do, "DescribeManagedPrefixLists", "PrefixLists")
        if found is None:
            input = picked(properties, "PrefixListName", "AddressFamily", "Entries")
            input["MaxEntries"] = properties.get("MaxEntries", len(properties.get("Entries", [])) or 1)
            input |= specification(do, properties, "prefix-list")
            found = (await do.call("ec2", "CreateManagedPrefixList", input))["PrefixList"]
        return _prefix_list(found)

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
        return _prefix_list(found)

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await unless(do, "DeleteManagedPrefixList", {"PrefixListId": physical.id})


class VPCPeeringConnection(Type):
    """A peering connection, accepted at once where both sides are the stack's account's and region's."""

    type = "AWS::EC2::VPCPeeringConnection"
    required = frozenset(("VpcId", "PeerVpcId"))
    replaces = frozenset(("VpcId", "PeerVpcId", "PeerOwnerId", "PeerRegion"))
    changes = frozenset(("Tags",))
    ignored = frozenset(("PeerRoleArn",))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        self.check(properties)
        found = await made(do, "DescribeVpcPeeringConnections", "VpcPeeringConnections")
        if found is None:
            input = picked(properties, *self.replaces) | specification(do, properties, "vpc-peering-connection")
            found = (await do.call("ec2", "CreateVpcPeeringConnection", input))["VpcPeeringConnection"]
        id = found["VpcPeeringConnectionId"]
        accepter = found["AccepterVpcInfo"]
        is_ours = (accepter["OwnerId"], accepter["Region"]) == (do.account, do.region)
        if is_ours and found["Status"]["Code"] != "active":
            await do.call("ec2", "AcceptVpcPeeringConnection", {"VpcPeeringConnectionId": id})
        return Physical(id, {"Id": id})

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        self.check(new)
        await retag(do, physical.id, new)
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        input = {"VpcPeeringConnectionId": physical.id}
        await unless(do, "DeleteVpcPeeringConnection", input, "InvalidStateTransition")


class KeyPair(Type):
    """A key pair. ``Ref`` is its name; a private key that is made goes to the parameter ``/ec2/keypair/<its id>``."""

    type = "AWS::EC2::KeyPair"
    required = frozenset(("KeyName",))
    replaces = frozenset(("KeyName", "PublicKeyMaterial", "KeyType", "KeyFormat"))
    changes = frozenset(("Tags",))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        self.check(properties)
        name = properties["KeyName"]
        if await made(do, "DescribeKeyPairs", "KeyPairs") is not None:
            # Of a step that did not end; its private key may be lost.
            await do.call("ec2", "DeleteKeyPair", {"KeyName": name})
        tags = specification(do, properties, "key-pair")
        if "PublicKeyMaterial" in properties:
            material = properties["PublicKeyMaterial"].encode()
            pair = await do.call("ec2", "ImportKeyPair", {"KeyName": name, "PublicKeyMaterial": material} | tags)
        else:
            input = picked(properties, "KeyName", "KeyType", "KeyFormat")
            pair = await do.call("ec2", "CreateKeyPair", input | tags)
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


def _text(policy: Any) -> str:
    return policy if isinstance(policy, str) else json.dumps(policy)


def _prefix_list(found: Properties) -> Physical:
    id = found["PrefixListId"]
    return Physical(
        id,
        {
            "PrefixListId": id,
            "Arn": found["PrefixListArn"],
            "OwnerId": found["OwnerId"],
            "Version": found["Version"],
        },
    )


TYPES = [
    *resource_networks.TYPES,
    *resource_rules.TYPES,
    VPCEndpoint,
    NetworkInterface,
    DHCPOptions,
    VPCDHCPOptionsAssociation,
    PrefixList,
    VPCPeeringConnection,
    KeyPair,
]
