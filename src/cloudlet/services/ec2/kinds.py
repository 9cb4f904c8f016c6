"""The kinds of things: how their ids begin, what they are called, and by what they are filtered."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from cloudlet.errors import AwsError


@dataclass(frozen=True)
class Kind:
    """One kind. ``filters`` are names of AWS's, with the path to the member where the name does not say it."""

    prefix: str
    id_member: str
    resource_type: str  # in tags
    code: str  # Invalid<code>.NotFound
    words: str  # of the same error
    id_words: str  # Invalid<id_words>.Malformed
    filters: str = ""

    def not_found(self, id: str) -> AwsError:
        """The error for one that is not there."""
        code = self.code if self.code.endswith("NotFound") else f"Invalid{self.code}.NotFound"
        return AwsError(code, self.words.format(id))

    def malformed(self, id: str) -> AwsError:
        """The error for what is not the id of one."""
        code = self.id_words if self.id_words.endswith("Malformed") else f"Invalid{self.id_words}.Malformed"
        return AwsError(code, f'Invalid id: "{id}" (expecting "{self.prefix}-...")')

    @functools.cached_property
    def paths(self) -> dict[str, tuple[str, ...]]:
        """The members that each filter looks at."""
        found = {}
        for entry in self.filters.split():
            name, _, path = entry.partition("=")
            found[name] = tuple(path.split(".")) if path else tuple(_capitals(part) for part in name.split("."))
        return found


def _capitals(words: str) -> str:
    return "".join(word[:1].upper() + word[1:] for word in words.split("-"))


VPC = Kind(
    "vpc",
    "VpcId",
    "vpc",
    "VpcID",
    "The vpc ID '{}' does not exist",
    "VpcID",
    "vpc-id cidr=CidrBlock cidr-block=CidrBlock state is-default isDefault owner-id dhcp-options-id instance-tenancy "
    "cidr-block-association.association-id=CidrBlockAssociationSet.AssociationId "
    "cidr-block-association.cidr-block=CidrBlockAssociationSet.CidrBlock "
    "cidr-block-association.state=CidrBlockAssociationSet.CidrBlockState.State "
    "ipv6-cidr-block-association.association-id=Ipv6CidrBlockAssociationSet.AssociationId "
    "ipv6-cidr-block-association.ipv6-cidr-block=Ipv6CidrBlockAssociationSet.Ipv6CidrBlock "
    "ipv6-cidr-block-association.state=Ipv6CidrBlockAssociationSet.Ipv6CidrBlockState.State",
)
SUBNET = Kind(
    "subnet",
    "SubnetId",
    "subnet",
    "SubnetID",
    "The subnet ID '{}' does not exist",
    "SubnetID",
    "subnet-id vpc-id cidr=CidrBlock cidr-block=CidrBlock cidrBlock state availability-zone availabilityZone "
    "availability-zone-id availabilityZoneId available-ip-address-count=AvailableIpAddressCount "
    "default-for-az=DefaultForAz defaultForAz=DefaultForAz owner-id subnet-arn=SubnetArn "
    "map-public-ip-on-launch=MapPublicIpOnLaunch ipv6-native enable-dns64=EnableDns64 "
    "ipv6-cidr-block-association.association-id=Ipv6CidrBlockAssociationSet.AssociationId "
    "ipv6-cidr-block-association.ipv6-cidr-block=Ipv6CidrBlockAssociationSet.Ipv6CidrBlock "
    "ipv6-cidr-block-association.state=Ipv6CidrBlockAssociationSet.Ipv6CidrBlockState.State",
)
ROUTE_TABLE = Kind(
    "rtb",
    "RouteTableId",
    "route-table",
    "RouteTableID",
    "The routeTable ID '{}' does not exist",
    "RouteTableId",
    "route-table-id vpc-id owner-id association.gateway-id=Associations.GatewayId "
    "association.route-table-association-id=Associations.RouteTableAssociationId "
    "association.route-table-id=Associations.RouteTableId association.subnet-id=Associations.SubnetId "
    "association.main=Associations.Main route.destination-cidr-block=Routes.DestinationCidrBlock "
    "route.destination-ipv6-cidr-block=Routes.DestinationIpv6CidrBlock route.gateway-id=Routes.GatewayId "
    "route.destination-prefix-list-id=Routes.DestinationPrefixListId route.nat-gateway-id=Routes.NatGatewayId "
    "route.egress-only-internet-gateway-id=Routes.EgressOnlyInternetGatewayId route.origin=Routes.Origin "
    "route.state=Routes.State route.transit-gateway-id=Routes.TransitGatewayId route.instance-id=Routes.InstanceId "
    "route.vpc-peering-connection-id=Routes.VpcPeeringConnectionId",
)
INTERNET_GATEWAY = Kind(
    "igw",
    "InternetGatewayId",
    "internet-gateway",
    "InternetGatewayID",
    "The internetGateway ID '{}' does not exist",
    "InternetGatewayId",
    "internet-gateway-id owner-id attachment.state=Attachments.State attachment.vpc-id=Attachments.VpcId",
)
EGRESS_ONLY = Kind(
    "eigw",
    "EgressOnlyInternetGatewayId",
    "egress-only-internet-gateway",
    "GatewayID",
    "The eigw ID '{}' does not exist",
    "EgressOnlyInternetGatewayId",
    "egress-only-internet-gateway-id",
)
NAT_GATEWAY = Kind(
    "nat",
    "NatGatewayId",
    "natgateway",
    "NatGatewayNotFound",
    "NAT gateway {} was not found",
    "NatGatewayMalformed",
    "nat-gateway-id vpc-id subnet-id state connectivity-type",
)
ELASTIC_IP = Kind(
    "eipalloc",
    "AllocationId",
    "elastic-ip",
    "AllocationID",
    "The allocation ID '{}' does not exist",
    "AllocationId",
    "allocation-id association-id domain instance-id network-border-group network-interface-id "
    "network-interface-owner-id private-ip-address public-ip",
)
INTERFACE = Kind(
    "eni",
    "NetworkInterfaceId",
    "network-interface",
    "NetworkInterfaceID",
    "The networkInterface ID '{}' does not exist",
    "NetworkInterfaceId",
    "network-interface-id subnet-id vpc-id status description group-id=Groups.GroupId group-name=Groups.GroupName "
    "availability-zone interface-type mac-address owner-id private-dns-name private-ip-address requester-id "
    "requester-managed source-dest-check addresses.private-ip-address=PrivateIpAddresses.PrivateIpAddress "
    "addresses.primary=PrivateIpAddresses.Primary "
    "addresses.association.public-ip=PrivateIpAddresses.Association.PublicIp "
    "addresses.association.owner-id=PrivateIpAddresses.Association.IpOwnerId association.allocation-id "
    "association.association-id association.ip-owner-id association.public-ip association.public-dns-name "
    "attachment.attachment-id attachment.attach-time attachment.device-index attachment.instance-id "
    "attachment.instance-owner-id attachment.status attachment.delete-on-termination "
    "ipv6-addresses.ipv6-address=Ipv6Addresses.Ipv6Address",
)
SECURITY_GROUP = Kind(
    "sg",
    "GroupId",
    "security-group",
    "Group",
    "The security group '{}' does not exist",
    "GroupId",
    "group-id group-name description owner-id vpc-id "
    + " ".join(
        f"{side}{name}={member}{path}"
        for side, member in (("", "IpPermissions"), ("egress.", "IpPermissionsEgress"))
        for name, path in (
            ("ip-permission.cidr", ".IpRanges.CidrIp"),
            ("ip-permission.from-port", ".FromPort"),
            ("ip-permission.to-port", ".ToPort"),
            ("ip-permission.protocol", ".IpProtocol"),
            ("ip-permission.group-id", ".UserIdGroupPairs.GroupId"),
            ("ip-permission.group-name", ".UserIdGroupPairs.GroupName"),
            ("ip-permission.ipv6-cidr", ".Ipv6Ranges.CidrIpv6"),
            ("ip-permission.prefix-list-id", ".PrefixListIds.PrefixListId"),
            ("ip-permission.user-id", ".UserIdGroupPairs.UserId"),
        )
    ),
)
RULE = Kind(
    "sgr",
    "SecurityGroupRuleId",
    "security-group-rule",
    "SecurityGroupRuleId",
    "The security group rule ID '{}' does not exist",
    "SecurityGroupRuleId",
    "group-id security-group-rule-id",
)
NETWORK_ACL = Kind(
    "acl",
    "NetworkAclId",
    "network-acl",
    "NetworkAclID",
    "The networkAcl ID '{}' does not exist",
    "NetworkAclId",
    "network-acl-id vpc-id owner-id default=IsDefault association.association-id=Associations.NetworkAclAssociationId "
    "association.network-acl-id=Associations.NetworkAclId association.subnet-id=Associations.SubnetId "
    "entry.cidr=Entries.CidrBlock entry.ipv6-cidr=Entries.Ipv6CidrBlock entry.protocol=Entries.Protocol "
    "entry.egress=Entries.Egress entry.rule-action=Entries.RuleAction entry.rule-number=Entries.RuleNumber "
    "entry.port-range.from=Entries.PortRange.From entry.port-range.to=Entries.PortRange.To",
)
ENDPOINT = Kind(
    "vpce",
    "VpcEndpointId",
    "vpc-endpoint",
    "VpcEndpointId",
    "The Vpc Endpoint Id '{}' does not exist",
    "VpcEndpointId",
    "vpc-endpoint-id vpc-id service-name vpc-endpoint-type vpc-endpoint-state=State ip-address-type",
)
PEERING = Kind(
    "pcx",
    "VpcPeeringConnectionId",
    "vpc-peering-connection",
    "VpcPeeringConnectionID",
    "The vpcPeeringConnection ID '{}' does not exist",
    "VpcPeeringConnectionId",
    "vpc-peering-connection-id status-code=Status.Code status-message=Status.Message expiration-time "
    "accepter-vpc-info.cidr-block=AccepterVpcInfo.CidrBlock accepter-vpc-info.owner-id=AccepterVpcInfo.OwnerId "
    "accepter-vpc-info.vpc-id=AccepterVpcInfo.VpcId requester-vpc-info.cidr-block=RequesterVpcInfo.CidrBlock "
    "requester-vpc-info.owner-id=RequesterVpcInfo.OwnerId requester-vpc-info.vpc-id=RequesterVpcInfo.VpcId",
)
DHCP_OPTIONS = Kind(
    "dopt",
    "DhcpOptionsId",
    "dhcp-options",
    "DhcpOptionID",
    "The dhcpOption ID '{}' does not exist",
    "DhcpOptionsId",
    "dhcp-options-id owner-id key=DhcpConfigurations.Key value=DhcpConfigurations.Values.Value",
)
PREFIX_LIST = Kind(
    "pl",
    "PrefixListId",
    "prefix-list",
    "PrefixListID",
    "The prefix list ID '{}' does not exist",
    "PrefixListId",
    "prefix-list-id prefix-list-name owner-id",
)
KEY_PAIR = Kind(
    "key",
    "KeyPairId",
    "key-pair",
    "KeyPair",
    "The key pair '{}' does not exist",
    "KeyPairId",
    "key-pair-id key-name fingerprint=KeyFingerprint",
)
RESERVATION = Kind(
    "scr",
    "SubnetCidrReservationId",
    "subnet-cidr-reservation",
    "SubnetCidrReservationID",
    "The subnet CIDR reservation ID '{}' does not exist",
    "SubnetCidrReservationId",
    "reservationType=ReservationType subnet-id",
)

KINDS = {
    kind.prefix: kind
    for kind in (
        *(VPC, SUBNET, ROUTE_TABLE, INTERNET_GATEWAY, EGRESS_ONLY, NAT_GATEWAY, ELASTIC_IP, INTERFACE),
        *(SECURITY_GROUP, RULE, NETWORK_ACL, ENDPOINT, PEERING, DHCP_OPTIONS, PREFIX_LIST, KEY_PAIR, RESERVATION),
    )
}
