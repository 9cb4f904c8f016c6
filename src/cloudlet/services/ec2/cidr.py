"""Blocks of addresses."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_network

from cloudlet.errors import AwsError
from cloudlet.services.ec2.world import invalid


def network(text: str, parameter: str = "cidrBlock") -> IPv4Network:
    """A block of IPv4 addresses in its canonical form. Raises InvalidParameterValue."""
    try:
        found = ip_network(text, strict=False)
    except ValueError:
        found = None
    if not isinstance(found, IPv4Network) or "/" not in text:
        raise invalid(f"Value ({text}) for parameter {parameter} is invalid. This is not a valid CIDR block.")
    return found


def network6(text: str) -> IPv6Network:
    """A block of IPv6 addresses. Raises InvalidParameterValue."""
    try:
        found = ip_network(text, strict=False)
    except ValueError:
        found = None
    if not isinstance(found, IPv6Network) or "/" not in text:
        raise invalid(f"Value ({text}) for parameter ipv6CidrBlock is invalid. This is not a valid IPv6 CIDR block.")
    return found


def either(text: str) -> IPv4Network | IPv6Network:
    """A block of addresses of either family. Raises InvalidParameterValue."""
    return network6(text) if ":" in text else network(text, "cidr")


def is_within(block: IPv4Network | IPv6Network, outer: str) -> bool:
    """Whether a block is a part of another one, of the same family."""
    whole = either(outer)
    return block.version == whole.version and block.subnet_of(whole)  # type: ignore[arg-type]


def of_vpc(text: str) -> IPv4Network:
    """A block that a VPC may have. Raises InvalidVpc.Range."""
    found = network(text)
    if not 16 <= found.prefixlen <= 28:
        raise AwsError("InvalidVpc.Range", f"The CIDR '{text}' is invalid.")
    return found


def of_subnet(text: str, blocks: Iterable[str], taken: Iterable[str]) -> IPv4Network:
    """A block that a new subnet may have. Raises InvalidSubnet.Range, InvalidSubnet.Conflict."""
    found = network(text)
    inside = any(found.subnet_of(network(block)) for block in blocks)
    if not inside or not 16 <= found.prefixlen <= 28:
        raise AwsError("InvalidSubnet.Range", f"The CIDR '{text}' is invalid.")
    if any(found.overlaps(network(other)) for other in taken):
        raise AwsError("InvalidSubnet.Conflict", f"The CIDR '{text}' conflicts with another subnet")
    return found


def size(block: str) -> int:
    """How many addresses of a subnet can be given: AWS keeps the first four and the last."""
    return network(block).num_addresses - 5


def number_of(block: str, address: str) -> int:
    """An address's place in its block."""
    return int(IPv4Address(address)) - int(network(block).network_address)


def address_of(block: str, number: int) -> str:
    """The address at a place of a block."""
    return str(network(block).network_address + number)


def block6_of(vpc_id: str) -> str:
    """The block of IPv6 addresses that a VPC gets when it asks: of those for documentation, so nobody else has them."""
    digits = vpc_id[-6:]
    return str(IPv6Network(f"2001:db8:{digits[:4]}:{digits[4:]}00::/56"))
