"""AWS's regions and their availability zones."""

from __future__ import annotations

import re

# region -> letters of its zones
_LETTERS = {
    "us-east-1": "abcdef",
    "us-west-1": "ab",
    "us-west-2": "abcd",
    "ap-northeast-1": "acd",
    "ap-northeast-2": "abcd",
    "ca-central-1": "abd",
}
# Where a zone's number is not its letter's place.
_NUMBERS = {"us-east-1": (6, 1, 2, 4, 3, 5)}
ENABLED = (
    *("ap-northeast-1", "ap-northeast-2", "ap-northeast-3", "ap-south-1", "ap-southeast-1", "ap-southeast-2"),
    *("ca-central-1", "eu-central-1", "eu-north-1", "eu-west-1", "eu-west-2", "eu-west-3", "sa-east-1"),
    *("us-east-1", "us-east-2", "us-west-1", "us-west-2"),
)
OPT_IN = (
    *("af-south-1", "ap-east-1", "ap-south-2", "ap-southeast-3", "ap-southeast-4", "ap-southeast-5", "ca-west-1"),
    *("eu-central-2", "eu-south-1", "eu-south-2", "il-central-1", "me-central-1", "me-south-1", "mx-central-1"),
)


def zone_names(region: str) -> list[str]:
    """A region's zones by their names; three of a region that nobody knows."""
    return [f"{region}{letter}" for letter in _LETTERS.get(region, "abc")]


def zones(region: str) -> dict[str, str]:
    """A region's zones: name -> id."""
    names = zone_names(region)
    numbers = _NUMBERS.get(region, range(1, len(names) + 1))
    return {name: f"{_short(region)}-az{number}" for name, number in zip(names, numbers, strict=True)}


def _short(region: str) -> str:
    """``us-east-1`` as ``use1``, ``us-gov-east-1`` as ``usge1``."""
    area, *directions, number = region.split("-")
    parts = [part for word in directions for part in re.findall("north|south|east|west|central|.+", word)]
    return area + "".join(part[0] for part in parts) + number
