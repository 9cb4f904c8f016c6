"""``docs/coverage.md`` from the code: every operation of every service, there or not, and every CloudFormation type."""

from __future__ import annotations

import importlib
import os

from cloudlet.cloud import SERVICES, services
from cloudlet.stacks.api import ResourceType
from cloudlet.wire import Wire

_HEAD = """# Coverage

Generated from the code by `make coverage`; do not edit. An operation that is not listed as implemented answers
`NotImplemented` by its name, and a parameter that is not supported does so too. Settings that are kept and have no
effect yet are listed in [ADR 10](adr/0010-settings-that-are-kept-and-have-no-effect.md).
"""


def document() -> str:
    """The whole page."""
    known = services()
    wire = Wire(known)
    rows, details = [], []
    for name, folder in sorted(known.items()):
        service = importlib.import_module(f"cloudlet.services.{folder}.service").Service
        operations = sorted(wire.model(name).model.operations)
        there = [operation for operation in operations if hasattr(service, operation)]
        missing = [operation for operation in operations if operation not in there]
        rows.append(f"| [{name}](#{name}) | {len(there)} of {len(operations)} | {', '.join(types_of(folder)) or '-'} |")
        details.append(f"## {name}\n\nImplemented: {', '.join(there)}.\n")
        if missing:
            details.append(f"Not implemented: {', '.join(missing)}.\n")
        for kind in kinds_of(folder):
            if kind.ignored:
                details.append(f"{kind.type} passes over {', '.join(sorted(kind.ignored))}.\n")
    table = "| service | operations | CloudFormation types |\n| --- | --- | --- |\n" + "\n".join(rows)
    return f"{_HEAD}\n{table}\n\n" + "\n".join(details)


def types_of(folder: str) -> list[str]:
    """The names of the CloudFormation types that a service's folder brings."""
    return [kind.type for kind in kinds_of(folder)]


def kinds_of(folder: str) -> list[type[ResourceType]]:
    """The CloudFormation types that a service's folder brings, by their names."""
    if not os.path.exists(SERVICES / folder / "resources.py"):
        return []
    module = importlib.import_module(f"cloudlet.services.{folder}.resources")
    return sorted(module.TYPES, key=lambda kind: str(kind.type))


if __name__ == "__main__":
    print(document(), end="")
