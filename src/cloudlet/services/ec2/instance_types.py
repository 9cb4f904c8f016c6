"""The common instance types: https://aws.amazon.com/ec2/instance-types/. On this machine they are what is accounted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cloudlet.errors import AwsError
from cloudlet.places import zones
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.ec2 import filters
from cloudlet.services.ec2.base import Base, page

_GB = 1024
# size -> virtual CPUs, in most families
_CPUS = {"large": 2, "xlarge": 4, "2xlarge": 8, "4xlarge": 16, "8xlarge": 32, "12xlarge": 48, "16xlarge": 64}
# Families that have other big sizes than most.
_BIG = {
    "c5": {"9xlarge": 36, "12xlarge": 48, "18xlarge": 72, "24xlarge": 96},
    "m4": {"10xlarge": 40, "16xlarge": 64},
}
# family -> GiB for each virtual CPU, architecture, Hypervisor
_FAMILIES = {
    "m4": (4, "x86_64", "xen"),
    "m5": (4, "x86_64", "nitro"),
    "m5a": (4, "x86_64", "nitro"),
    "m6a": (4, "x86_64", "nitro"),
    "m6i": (4, "x86_64", "nitro"),
    "m6g": (4, "arm64", "nitro"),
    "m7a": (4, "x86_64", "nitro"),
    "m7i": (4, "x86_64", "nitro"),
    "m7g": (4, "arm64", "nitro"),
    "c5": (2, "x86_64", "nitro"),
    "c5a": (2, "x86_64", "nitro"),
    "c6a": (2, "x86_64", "nitro"),
    "c6i": (2, "x86_64", "nitro"),
    "c6g": (2, "arm64", "nitro"),
    "c7i": (2, "x86_64", "nitro"),
    "c7g": (2, "arm64", "nitro"),
    "r5": (8, "x86_64", "nitro"),
    "r5a": (8, "x86_64", "nitro"),
    "r6i": (8, "x86_64", "nitro"),
    "r6g": (8, "arm64", "nitro"),
    "r7g": (8, "arm64", "nitro"),
}
# What follows no rule: name -> virtual CPUs, MiB.
_OTHERS = {
    "t1.micro": (1, 627),
    "t2.nano": (1, 512),
    "t2.micro": (1, _GB),
    "t2.small": (1, 2 * _GB),
    "t2.medium": (2, 4 * _GB),
    "t2.large": (2, 8 * _GB),
    "t2.xlarge": (4, 16 * _GB),
    "t2.2xlarge": (8, 32 * _GB),
    "m1.small": (1, 1740),
    "m3.medium": (1, 3840),
    "m3.large": (2, 7680),
    "c4.large": (2, 3840),
    "c4.xlarge": (4, 7680),
    "c4.2xlarge": (8, 15360),
    "r4.large": (2, 15616),
    "r4.xlarge": (4, 31232),
    "r4.2xlarge": (8, 62464),
    "i3.large": (2, 15616),
    "i3.xlarge": (4, 31232),
    "i3.2xlarge": (8, 62464),
}
_BURSTING = {"nano": 0.5, "micro": 1, "small": 2, "medium": 4, "large": 8, "xlarge": 16, "2xlarge": 32}
_PATHS = {
    "instance-type": ("InstanceType",),
    "current-generation": ("CurrentGeneration",),
    "vcpu-info.default-cores": ("VCpuInfo", "DefaultCores"),
    "vcpu-info.default-vcpus": ("VCpuInfo", "DefaultVCpus"),
    "memory-info.size-in-mib": ("MemoryInfo", "SizeInMiB"),
    "processor-info.supported-architecture": ("ProcessorInfo", "SupportedArchitectures"),
    "supported-usage-class": ("SupportedUsageClasses",),
    "supported-root-device-type": ("SupportedRootDeviceTypes",),
    "hypervisor": ("Hypervisor",),
    "bare-metal": ("BareMetal",),
    "burstable-performance-supported": ("BurstablePerformanceSupported",),
}
_OFFERED = {"instance-type": ("InstanceType",), "location": ("Location",)}


@dataclass(frozen=True, slots=True)
class InstanceType:
    """What one type has."""

    name: str
    cpus: int
    memory: int  # MiB
    architecture: str = "x86_64"
    hypervisor: str = "nitro"

    @property
    def bursts(self) -> bool:
        """Whether it earns CPU credits."""
        return self.name.startswith("t") and self.name[1:2].isdigit()

    @property
    def threads(self) -> int:
        """Threads of a core."""
        return 1 if self.architecture == "arm64" or self.cpus == 1 or self.name.startswith("t2.") else 2


def _sizes(family: str) -> list[tuple[str, int]]:
    """A family's sizes with their virtual CPUs."""
    small = [(size, cpus) for size, cpus in _CPUS.items() if family not in _BIG or cpus <= 16]
    return small + list(_BIG.get(family, {}).items())


def _table() -> dict[str, InstanceType]:
    made = [
        InstanceType(f"{family}.{size}", cpus, cpus * each * _GB, architecture, hypervisor)
        for family, (each, architecture, hypervisor) in _FAMILIES.items()
        for size, cpus in ([("medium", 1)] if architecture == "arm64" else []) + _sizes(family)
    ]
    made += [
        InstanceType(f"{family}.{size}", 2 if gib <= 8 else int(gib) // 4, int(gib * _GB), architecture)
        for family, architecture in (("t3", "x86_64"), ("t3a", "x86_64"), ("t4g", "arm64"))
        for size, gib in _BURSTING.items()
    ]
    made += [InstanceType(name, cpus, memory, hypervisor="xen") for name, (cpus, memory) in _OTHERS.items()]
    return {one.name: one for one in made}


TYPES = _table()


def get(name: str) -> InstanceType:
    """A type by its name. Raises InvalidParameterValue."""
    if name not in TYPES:
        raise AwsError("InvalidParameterValue", f"Invalid value '{name}' for InstanceType.")
    return TYPES[name]


class InstanceTypes(Base):
    """Operations on instance types."""

    async def DescribeInstanceTypes(self, call: Call, input: Input) -> Output:
        wanted = input.get("InstanceTypes") or sorted(TYPES)
        if unknown := [name for name in wanted if name not in TYPES]:
            raise AwsError(
                "InvalidInstanceType", f"The following supplied instance types do not exist: [{', '.join(unknown)}]"
            )
        shown = filters.chosen([_shown(TYPES[name]) for name in wanted], input.get("Filters", []), _PATHS)
        return page("InstanceTypes", shown, input)

    async def DescribeInstanceTypeOfferings(self, call: Call, input: Input) -> Output:
        kind = input.get("LocationType", "region")
        names = zones(call.region)
        places = {"region": [call.region], "availability-zone": [*names], "availability-zone-id": [*names.values()]}
        if kind not in places:
            raise AwsError("InvalidParameterValue", f"Invalid value '{kind}' for LocationType.")
        shown: list[dict[str, Any]] = [
            {"InstanceType": name, "LocationType": kind, "Location": place}
            for place in places[kind]
            for name in sorted(TYPES)
        ]
        return page("InstanceTypeOfferings", filters.chosen(shown, input.get("Filters", []), _OFFERED), input)


def _shown(one: InstanceType) -> dict[str, Any]:
    cores = one.cpus // one.threads
    is_old = one.name.split(".")[0] in ("t1", "m1", "m3", "m4", "c4", "r4")
    return {
        "InstanceType": one.name,
        "CurrentGeneration": not is_old,
        "FreeTierEligible": one.name in ("t2.micro", "t3.micro"),
        "SupportedUsageClasses": ["on-demand", "spot"],
        "SupportedRootDeviceTypes": ["ebs"],
        "SupportedVirtualizationTypes": ["hvm"],
        "BareMetal": False,
        "Hypervisor": one.hypervisor,
        "ProcessorInfo": {
            "SupportedArchitectures": ["i386", "x86_64"] if one.name.startswith("t2.") else [one.architecture]
        },
        "VCpuInfo": {"DefaultVCpus": one.cpus, "DefaultCores": cores, "DefaultThreadsPerCore": one.threads},
        "MemoryInfo": {"SizeInMiB": one.memory},
        "InstanceStorageSupported": one.name.startswith("i3."),
        "EbsInfo": {
            "EbsOptimizedSupport": "unsupported" if one.name.startswith("t2.") else "default",
            "EncryptionSupport": "supported",
            "NvmeSupport": "required" if one.hypervisor == "nitro" else "unsupported",
        },
        "NetworkInfo": {
            "MaximumNetworkInterfaces": 2 if one.cpus < 2 else 3 if one.cpus < 4 else 4,
            "MaximumNetworkCards": 1,
            "DefaultNetworkCardIndex": 0,
            "Ipv4AddressesPerInterface": 2 if one.cpus < 2 else 10,
            "Ipv6AddressesPerInterface": 2 if one.cpus < 2 else 10,
            "Ipv6Supported": True,
            "EnaSupport": "required" if one.hypervisor == "nitro" else "unsupported",
            "EfaSupported": False,
        },
        "PlacementGroupInfo": {"SupportedStrategies": ["partition", "spread"]},
        "HibernationSupported": False,
        "BurstablePerformanceSupported": one.bursts,
        "DedicatedHostsSupported": False,
        "AutoRecoverySupported": True,
        "SupportedBootModes": ["legacy-bios", "uefi"],
    }
