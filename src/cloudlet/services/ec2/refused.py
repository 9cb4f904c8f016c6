"""What EC2's operations take that has no effect here: it is refused by its name (``services/refusing.py``)."""

from __future__ import annotations

REFUSED = {
    "AssignPrivateIpAddresses": "AllowReassignment",
    "AssociateSubnetCidrBlock": "Ipv6NetmaskLength",
    "AssociateVpcCidrBlock": "Ipv4NetmaskLength Ipv6NetmaskLength",
    "AttachNetworkInterface": "EnaQueueCount EnaSrdSpecification",
    "AttachVolume": "EbsCardIndex",
    "CreateFleet": "OnDemandOptions.CapacityReservationOptions OnDemandOptions.MaxTotalPrice "
    "OnDemandOptions.MinTargetCapacity OnDemandOptions.SingleAvailabilityZone OnDemandOptions.SingleInstanceType "
    "SpotOptions.InstancePoolsToUseCount!=1 SpotOptions.MaintenanceStrategies SpotOptions.MaxTotalPrice "
    "SpotOptions.MinTargetCapacity SpotOptions.SingleAvailabilityZone SpotOptions.SingleInstanceType",
    "CreateNetworkInterface": "ConnectionTrackingSpecification Ipv6Addresses.IsPrimaryIpv6",
    "CreatePlacementGroup": "LinkedGroupId ParentGroupId",
    "CreateSubnet": "Ipv4NetmaskLength Ipv6NetmaskLength",
    "CreateVolume": "VolumeInitializationRate",
    "CreateVpc": "Ipv4NetmaskLength Ipv6NetmaskLength VpcEncryptionControl",
    "CreateVpcEndpoint": "DnsOptions.PrivateDnsOnlyForInboundResolverEndpoint DnsOptions.PrivateDnsPreference "
    "DnsOptions.PrivateDnsSpecifiedDomains ResourceConfigurationArn ServiceNetworkArn SubnetConfigurations",
    "CreateVpcPeeringConnection": "RequesterPeeringConnectionOptions",
    "CreateVpnConnection": "PreSharedKeyStorage!=Standard VpnConcentratorId",
    "DescribeInstanceTypes": "IncludeUnsupportedInRegion",
    "DescribeSnapshots": "RestorableByUserIds",
    "DescribeVpcEndpointServices": "ServiceRegions",
    "DisableTransitGatewayRouteTablePropagation": "TransitGatewayRouteTableAnnouncementId",
    "EnableTransitGatewayRouteTablePropagation": "TransitGatewayRouteTableAnnouncementId",
    "ModifyInstanceAttribute": "Kernel Ramdisk",
    "ModifyManagedPrefixList": "IpamPrefixListResolverSyncEnabled",
    "ModifyVpcEndpoint": "DnsOptions.PrivateDnsOnlyForInboundResolverEndpoint DnsOptions.PrivateDnsPreference "
    "DnsOptions.PrivateDnsSpecifiedDomains SubnetConfigurations",
    "ModifyVpcPeeringConnectionOptions": "AccepterPeeringConnectionOptions.AllowMultipathResilience "
    "AccepterPeeringConnectionOptions.MultipathResilienceMode "
    "RequesterPeeringConnectionOptions.AllowMultipathResilience "
    "RequesterPeeringConnectionOptions.MultipathResilienceMode",
    "MonitorInstances": "MetricCategoryIds",
    "RequestSpotInstances": "LaunchSpecification.AddressingType",
    "RunInstances": "BlockDeviceMappings.NoDevice BlockDeviceMappings.VirtualName CpuOptions",
    "StopInstances": "SkipOsShutdown",
    "TerminateInstances": "SkipOsShutdown",
    "UnmonitorInstances": "MetricCategoryIds",
}
