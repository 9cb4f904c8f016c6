"""The kinds of things: how AWS names them and their ids, and by what they are filtered. A new kind is an entry here."""

from __future__ import annotations

import functools
import re
from dataclasses import KW_ONLY, dataclass

from cloudlet.errors import AwsError


@dataclass(frozen=True)
class Kind:
    """One kind. What is not given follows from ``noun``, its name in operations, as it does for most.

    ``filters`` are names of AWS's, with the path to the member where the name does not say it; that of the id need not
    be named. ``lingers``: one that is deleted is shown as that for an hour.
    """

    prefix: str  # of ids
    noun: str
    filters: str = ""
    _: KW_ONLY
    id_member: str = ""  # VpcEndpointId
    plural: str = ""  # VpcEndpoints: what its Describe operation answers
    ids: str = ""  # VpcEndpointIds: what its Describe operation asks for
    resource_type: str = ""  # vpc-endpoint: in tags
    code: str = ""  # Invalid<VpcEndpointID>.NotFound
    words: str = ""  # of the same error: The vpcEndpoint ID '{}' does not exist
    id_words: str = ""  # Invalid<VpcEndpointId>.Malformed
    lingers: bool = False
    has_uuid: bool = False  # a UUID follows the prefix

    def __post_init__(self) -> None:
        noun = self.noun
        derived = {
            "id_member": f"{noun}Id",
            "plural": f"{noun}s",
            "ids": f"{self.id_member or noun + 'Id'}s",
            "resource_type": _hyphens(noun),
            "code": f"{noun}ID",
            "words": f"The {noun[:1].lower()}{noun[1:]} ID '{{}}' does not exist",
            "id_words": f"{noun}Id",
        }
        for name, value in derived.items():
            if not getattr(self, name):
                object.__setattr__(self, name, value)

    def has(self, id: str) -> bool:
        """Whether an id is one of this kind."""
        return id.rpartition("-")[0] == self.prefix or (self.has_uuid and id.startswith(f"{self.prefix}-"))

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
        found: dict[str, tuple[str, ...]] = {_hyphens(self.id_member): (self.id_member,)}
        for entry in self.filters.split():
            name, _, path = entry.partition("=")
            found[name] = tuple(path.split(".")) if path else tuple(_capitals(part) for part in name.split("."))
        return found


def _capitals(words: str) -> str:
    return "".join(word[:1].upper() + word[1:] for word in words.split("-"))


def _hyphens(capitals: str) -> str:
    return re.sub("(?<!^)(?=[A-Z][a-z])|(?<=[a-z0-9])(?=[A-Z])", "-", capitals).lower()


VPC = Kind(
    "vpc",
    "Vpc",
    "cidr=CidrBlock cidr-block=CidrBlock state is-default isDefault owner-id dhcp-options-id instance-tenancy "
    "cidr-block-association.association-id=CidrBlockAssociationSet.AssociationId "
    "cidr-block-association.cidr-block=CidrBlockAssociationSet.CidrBlock "
    "cidr-block-association.state=CidrBlockAssociationSet.CidrBlockState.State "
    "ipv6-cidr-block-association.association-id=Ipv6CidrBlockAssociationSet.AssociationId "
    "ipv6-cidr-block-association.ipv6-cidr-block=Ipv6CidrBlockAssociationSet.Ipv6CidrBlock "
    "ipv6-cidr-block-association.state=Ipv6CidrBlockAssociationSet.Ipv6CidrBlockState.State "
    "ipv6-cidr-block-association.ipv6-pool=Ipv6CidrBlockAssociationSet.Ipv6Pool",
    id_words="VpcID",
)
SUBNET = Kind(
    "subnet",
    "Subnet",
    "vpc-id cidr=CidrBlock cidr-block=CidrBlock cidrBlock state availability-zone availabilityZone "
    "availability-zone-id availabilityZoneId available-ip-address-count=AvailableIpAddressCount "
    "default-for-az=DefaultForAz defaultForAz=DefaultForAz owner-id subnet-arn=SubnetArn "
    "map-public-ip-on-launch=MapPublicIpOnLaunch ipv6-native enable-dns64=EnableDns64 "
    "ipv6-cidr-block-association.association-id=Ipv6CidrBlockAssociationSet.AssociationId "
    "ipv6-cidr-block-association.ipv6-cidr-block=Ipv6CidrBlockAssociationSet.Ipv6CidrBlock "
    "ipv6-cidr-block-association.state=Ipv6CidrBlockAssociationSet.Ipv6CidrBlockState.State "
    "customer-owned-ipv4-pool enable-lni-at-device-index map-customer-owned-ip-on-launch outpost-arn "
    + " ".join(
        f"private-dns-name-options-on-launch.{_hyphens(name)}=PrivateDnsNameOptionsOnLaunch.{name}"
        for name in ("HostnameType", "EnableResourceNameDnsARecord", "EnableResourceNameDnsAAAARecord")
    ),
    id_words="SubnetID",
)
ROUTE_TABLE = Kind(
    "rtb",
    "RouteTable",
    "vpc-id owner-id association.gateway-id=Associations.GatewayId "
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
    "InternetGateway",
    "owner-id attachment.state=Attachments.State attachment.vpc-id=Attachments.VpcId",
)
EGRESS_ONLY = Kind(
    "eigw",
    "EgressOnlyInternetGateway",
    code="GatewayID",
    words="The eigw ID '{}' does not exist",
)
NAT_GATEWAY = Kind(
    "nat",
    "NatGateway",
    "vpc-id subnet-id state connectivity-type",
    lingers=True,
    resource_type="natgateway",
    code="NatGatewayNotFound",
    words="NAT gateway {} was not found",
    id_words="NatGatewayMalformed",
)
ELASTIC_IP = Kind(
    "eipalloc",
    "Address",
    "association-id domain instance-id network-border-group network-interface-id "
    "network-interface-owner-id private-ip-address public-ip",
    plural="Addresses",
    id_member="AllocationId",
    resource_type="elastic-ip",
    code="AllocationID",
    words="The allocation ID '{}' does not exist",
    id_words="AllocationId",
)
INTERFACE = Kind(
    "eni",
    "NetworkInterface",
    "subnet-id vpc-id status description group-id=Groups.GroupId group-name=Groups.GroupName "
    "availability-zone interface-type mac-address owner-id private-dns-name private-ip-address requester-id "
    "requester-managed source-dest-check addresses.private-ip-address=PrivateIpAddresses.PrivateIpAddress "
    "addresses.primary=PrivateIpAddresses.Primary "
    "addresses.association.public-ip=PrivateIpAddresses.Association.PublicIp "
    "addresses.association.owner-id=PrivateIpAddresses.Association.IpOwnerId association.allocation-id "
    "association.association-id association.ip-owner-id association.public-ip association.public-dns-name "
    "attachment.attachment-id attachment.attach-time attachment.device-index attachment.instance-id "
    "attachment.instance-owner-id attachment.status attachment.delete-on-termination "
    "ipv6-addresses.ipv6-address=Ipv6Addresses.Ipv6Address availability-zone-id operator.managed operator.principal",
)
SECURITY_GROUP = Kind(
    "sg",
    "SecurityGroup",
    "group-name description owner-id vpc-id "
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
    id_member="GroupId",
    code="Group",
    words="The security group '{}' does not exist",
    id_words="GroupId",
)
RULE = Kind(
    "sgr",
    "SecurityGroupRule",
    "group-id",
    code="SecurityGroupRuleId",
    words="The security group rule ID '{}' does not exist",
)
NETWORK_ACL = Kind(
    "acl",
    "NetworkAcl",
    "vpc-id owner-id default=IsDefault association.association-id=Associations.NetworkAclAssociationId "
    "association.network-acl-id=Associations.NetworkAclId association.subnet-id=Associations.SubnetId "
    "entry.cidr=Entries.CidrBlock entry.ipv6-cidr=Entries.Ipv6CidrBlock entry.protocol=Entries.Protocol "
    "entry.egress=Entries.Egress entry.rule-action=Entries.RuleAction entry.rule-number=Entries.RuleNumber "
    "entry.port-range.from=Entries.PortRange.From entry.port-range.to=Entries.PortRange.To "
    "entry.icmp.code=Entries.IcmpTypeCode.Code entry.icmp.type=Entries.IcmpTypeCode.Type",
)
ENDPOINT = Kind(
    "vpce",
    "VpcEndpoint",
    "vpc-id service-name service-region vpc-endpoint-type vpc-endpoint-state=State ip-address-type",
    code="VpcEndpointId",
    words="The Vpc Endpoint Id '{}' does not exist",
)
PEERING = Kind(
    "pcx",
    "VpcPeeringConnection",
    "status-code=Status.Code status-message=Status.Message expiration-time "
    "accepter-vpc-info.cidr-block=AccepterVpcInfo.CidrBlock accepter-vpc-info.owner-id=AccepterVpcInfo.OwnerId "
    "accepter-vpc-info.vpc-id=AccepterVpcInfo.VpcId requester-vpc-info.cidr-block=RequesterVpcInfo.CidrBlock "
    "requester-vpc-info.owner-id=RequesterVpcInfo.OwnerId requester-vpc-info.vpc-id=RequesterVpcInfo.VpcId",
)
DHCP_OPTIONS = Kind(
    "dopt",
    "DhcpOptions",
    "owner-id key=DhcpConfigurations.Key value=DhcpConfigurations.Values.Value",
    plural="DhcpOptions",
    ids="DhcpOptionsIds",
    code="DhcpOptionID",
    words="The dhcpOption ID '{}' does not exist",
)
PREFIX_LIST = Kind(
    "pl",
    "PrefixList",
    "prefix-list-name owner-id",
    words="The prefix list ID '{}' does not exist",
)
KEY_PAIR = Kind(
    "key",
    "KeyPair",
    "key-name fingerprint=KeyFingerprint",
    code="KeyPair",
    words="The key pair '{}' does not exist",
)
RESERVATION = Kind(
    "scr",
    "SubnetCidrReservation",
    "reservationType=ReservationType subnet-id",
    plural="SubnetIpv4CidrReservations",
    words="The subnet CIDR reservation ID '{}' does not exist",
)
CARRIER_GATEWAY = Kind("cagw", "CarrierGateway", "owner-id state vpc-id")
CUSTOMER_GATEWAY = Kind("cgw", "CustomerGateway", "bgp-asn ip-address state type", lingers=True)
VPN_GATEWAY = Kind(
    "vgw",
    "VpnGateway",
    "amazon-side-asn availability-zone state type attachment.state=VpcAttachments.State "
    "attachment.vpc-id=VpcAttachments.VpcId",
    lingers=True,
)
VPN_CONNECTION = Kind(
    "vpn",
    "VpnConnection",
    "bgp-asn customer-gateway-configuration customer-gateway-id state type vpn-gateway-id transit-gateway-id "
    "option.static-routes-only=Options.StaticRoutesOnly route.destination-cidr-block=Routes.DestinationCidrBlock",
    lingers=True,
)
TRANSIT_GATEWAY = Kind(
    "tgw",
    "TransitGateway",
    "owner-id state "
    + " ".join(
        f"options.{_hyphens(name)}=Options.{name}"
        for name in (
            *("PropagationDefaultRouteTableId", "AmazonSideAsn", "AssociationDefaultRouteTableId"),
            *("AutoAcceptSharedAttachments", "DefaultRouteTableAssociation", "DefaultRouteTablePropagation"),
            *("DnsSupport", "VpnEcmpSupport"),
        )
    ),
)
TRANSIT_ATTACHMENT = Kind(
    "tgw-attach",
    "TransitGatewayAttachment",
    "association.state association.transit-gateway-route-table-id resource-id resource-owner-id resource-type state "
    "transit-gateway-id transit-gateway-owner-id vpc-id local-owner-id=ResourceOwnerId "
    "remote-owner-id=AccepterTgwInfo.OwnerId",
    lingers=True,
)
TRANSIT_TABLE = Kind(
    "tgw-rtb",
    "TransitGatewayRouteTable",
    "default-association-route-table default-propagation-route-table state transit-gateway-id",
    lingers=True,
)
ENDPOINT_SERVICE = Kind(
    "vpce-svc",
    "VpcEndpointService",
    "service-name service-state supported-ip-address-types",
    id_member="ServiceId",
    plural="ServiceConfigurations",
    code="VpcEndpointServiceId",
    words="The VpcEndpointService Id '{}' does not exist",
)
FLOW_LOG = Kind(
    "fl",
    "FlowLog",
    "deliver-log-status=DeliverLogsStatus log-destination-type log-group-name resource-id traffic-type",
    resource_type="vpc-flow-log",
    code="FlowLogId",
    words="These flow log ids in the input list are not found: {}",
)
MIRROR_FILTER = Kind("tmf", "TrafficMirrorFilter", "description")
MIRROR_RULE = Kind(
    "tmfr",
    "TrafficMirrorFilterRule",
    "traffic-mirror-filter-id rule-number rule-action traffic-direction protocol source-cidr-block "
    "destination-cidr-block description",
)
MIRROR_TARGET = Kind(
    "tmt",
    "TrafficMirrorTarget",
    "description network-interface-id network-load-balancer-arn owner-id type",
)
INSTANCE = Kind(
    "i",
    "Instance",
    "affinity=Placement.Affinity architecture availability-zone=Placement.AvailabilityZone "
    "block-device-mapping.attach-time=BlockDeviceMappings.Ebs.AttachTime "
    "block-device-mapping.delete-on-termination=BlockDeviceMappings.Ebs.DeleteOnTermination "
    "block-device-mapping.device-name=BlockDeviceMappings.DeviceName "
    "block-device-mapping.status=BlockDeviceMappings.Ebs.Status "
    "block-device-mapping.volume-id=BlockDeviceMappings.Ebs.VolumeId client-token dns-name=PublicDnsName hypervisor "
    "iam-instance-profile.arn iam-instance-profile.id image-id instance-id instance-state-code=State.Code "
    "instance-lifecycle instance-state-name=State.Name instance-type instance.group-id=SecurityGroups.GroupId "
    "group-id=SecurityGroups.GroupId instance.group-name=SecurityGroups.GroupName "
    "ip-address=PublicIpAddress key-name launch-index=AmiLaunchIndex launch-time metadata-options.http-tokens "
    "metadata-options.http-endpoint monitoring-state=Monitoring.State "
    "network-interface.addresses.private-ip-address=NetworkInterfaces.PrivateIpAddresses.PrivateIpAddress "
    "network-interface.network-interface-id=NetworkInterfaces.NetworkInterfaceId "
    "network-interface.private-dns-name=NetworkInterfaces.PrivateDnsName "
    "network-interface.subnet-id=NetworkInterfaces.SubnetId network-interface.vpc-id=NetworkInterfaces.VpcId "
    "network-interface.group-id=NetworkInterfaces.Groups.GroupId owner-id placement-group-name=Placement.GroupName "
    "platform private-dns-name private-ip-address reason=StateTransitionReason reservation-id root-device-name "
    "root-device-type source-dest-check state-reason-code=StateReason.Code subnet-id tenancy=Placement.Tenancy "
    "virtualization-type vpc-id",
    code="InstanceID",
    words="The instance ID '{}' does not exist",
    id_words="InstanceID",
    lingers=True,
)
VOLUME = Kind(
    "vol",
    "Volume",
    "attachment.attach-time=Attachments.AttachTime attachment.delete-on-termination=Attachments.DeleteOnTermination "
    "attachment.device=Attachments.Device attachment.instance-id=Attachments.InstanceId "
    "attachment.status=Attachments.State availability-zone create-time encrypted size snapshot-id status=State "
    "volume-type",
    code="Volume",
    words="The volume '{}' does not exist.",
)
LAUNCH_TEMPLATE = Kind(
    "lt",
    "LaunchTemplate",
    "create-time launch-template-name",
    code="LaunchTemplateId",
    words="The specified launch template, with template ID {}, does not exist.",
)
SPOT_REQUEST = Kind(
    "sir",
    "SpotInstanceRequest",
    "instance-id state type status-code=Status.Code status-message=Status.Message spot-price product-description "
    "launched-availability-zone launch.image-id=LaunchSpecification.ImageId "
    "launch.instance-type=LaunchSpecification.InstanceType",
    resource_type="spot-instances-request",
    words="The spot instance request ID '{}' does not exist",
)
IMAGE = Kind("ami", "Image", code="AMIID", words="The image id '[{}]' does not exist", id_words="AMIID")
SNAPSHOT = Kind(
    "snap",
    "Snapshot",
    "description encrypted owner-id progress start-time status=State storage-tier volume-id volume-size",
    code="Snapshot",
    words="The snapshot '{}' does not exist.",
)
PLACEMENT_GROUP = Kind(
    "pg",
    "PlacementGroup",
    "group-name group-arn spread-level state strategy",
    id_member="GroupId",
)
FLEET = Kind(
    "fleet",
    "Fleet",
    "activity-status fleet-state type excess-capacity-termination-policy",
    has_uuid=True,
    words="The fleet ID '{}' does not exist",
)


KINDS = {kind.prefix: kind for kind in list(globals().values()) if isinstance(kind, Kind)}


def kind_of(id: str) -> Kind | None:
    """The kind that an id is of."""
    return KINDS.get(id.rpartition("-")[0]) or (FLEET if FLEET.has(id) else None)
