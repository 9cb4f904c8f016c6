"""What EC2's operations take that has no effect here: it is refused by its name (``services/refusing.py``)."""

from __future__ import annotations

REFUSED = {
    "AssignPrivateIpAddresses": "AllowReassignment",
    "AssociateSubnetCidrBlock": "Ipv6NetmaskLength",
    "AssociateVpcCidrBlock": "Ipv4NetmaskLength Ipv6NetmaskLength",
    "AttachNetworkInterface": "EnaQueueCount EnaSrdSpecification",
    "AttachVolume": "EbsCardIndex",
    "CreateNetworkInterface": "ConnectionTrackingSpecification",
    "CreatePlacementGroup": "LinkedGroupId ParentGroupId",
    "CreateSubnet": "Ipv4NetmaskLength Ipv6NetmaskLength",
    "CreateVolume": "VolumeInitializationRate",
    "CreateVpc": "Ipv4NetmaskLength Ipv6NetmaskLength VpcEncryptionControl",
    "CreateVpcEndpoint": "ResourceConfigurationArn ServiceNetworkArn SubnetConfigurations",
    "CreateVpcPeeringConnection": "RequesterPeeringConnectionOptions",
    "CreateVpnConnection": "PreSharedKeyStorage!=Standard VpnConcentratorId",
    "DescribeInstanceTypes": "IncludeUnsupportedInRegion",
    "DescribeSnapshots": "RestorableByUserIds",
    "DescribeVpcEndpointServices": "ServiceRegions",
    "DisableTransitGatewayRouteTablePropagation": "TransitGatewayRouteTableAnnouncementId",
    "EnableTransitGatewayRouteTablePropagation": "TransitGatewayRouteTableAnnouncementId",
    "ModifyInstanceAttribute": "Kernel Ramdisk",
    "ModifyManagedPrefixList": "IpamPrefixListResolverSyncEnabled",
    "ModifyVpcEndpoint": "SubnetConfigurations",
    "MonitorInstances": "MetricCategoryIds",
    "StopInstances": "SkipOsShutdown",
    "TerminateInstances": "SkipOsShutdown",
    "UnmonitorInstances": "MetricCategoryIds",
}
