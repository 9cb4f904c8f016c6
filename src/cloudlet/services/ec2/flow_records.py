"""The records of flow logs: which fields a format may have, and the line of a flow. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from cloudlet.errors import AwsError
from cloudlet.services.ec2.flow_counting import Flow

# By the version of the records that a field came with, in AWS's order.
_FIELDS = {
    2: (
        "version account-id interface-id srcaddr dstaddr srcport dstport protocol packets bytes start end action "
        "log-status"
    ),
    3: "vpc-id subnet-id instance-id tcp-flags type pkt-srcaddr pkt-dstaddr",
    4: "region az-id sublocation-type sublocation-id",
    5: "pkt-src-aws-service pkt-dst-aws-service flow-direction traffic-path",
    7: (
        "ecs-cluster-name ecs-cluster-arn ecs-container-instance-id ecs-container-instance-arn ecs-service-name "
        "ecs-task-definition-arn ecs-task-id ecs-task-arn ecs-container-id ecs-second-container-id"
    ),
    8: "reject-reason",
    9: "resource-id",
    10: "encryption-status",
}
_VERSIONS = {name: version for version, names in _FIELDS.items() for name in names.split()}
DEFAULT = " ".join(f"${{{name}}}" for name in _FIELDS[2].split())


def fields(format: str) -> list[str]:
    """The fields of a log format. Raises InvalidParameter."""
    found = [name for word in format.split(" ") for name in re.findall(r"^\$\{([a-z0-9-]+)\}$", word)]
    if not found or len(found) != len(format.split(" ")) or any(name not in _VERSIONS for name in found):
        words = f"1 validation error detected: Value '{format}' at 'logFormat' has an invalid format"
        raise AwsError("InvalidParameter", words)
    return found


def line(format: str, known: Mapping[str, str], start: int, end: int, status: str, flow: Flow | None = None) -> str:
    """A record. ``known`` are the fields of the interface; what is not known is ``-``, as AWS writes it."""
    names = fields(format)
    values = {
        **known,
        "version": str(max(_VERSIONS[name] for name in names)),
        "start": str(start),
        "end": str(end),
        "log-status": status,
    }
    if flow is not None:
        values |= {
            "srcaddr": flow.source,
            "dstaddr": flow.target,
            "pkt-srcaddr": flow.source,
            "pkt-dstaddr": flow.target,
            "srcport": str(flow.source_port),
            "dstport": str(flow.target_port),
            "protocol": str(flow.protocol),
            "packets": str(flow.packets),
            "bytes": str(flow.bytes),
            "action": "ACCEPT" if flow.is_accepted else "REJECT",
            "tcp-flags": str(flow.flags),
            "type": "IPv4",
            "flow-direction": "egress" if flow.is_outwards else "ingress",
        }
    return " ".join(values.get(name, "-") for name in names)
