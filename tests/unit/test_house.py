"""Each room of the house knows only the rooms below it, and a service knows of another only what is named here."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import cloudlet

HOUSE = Path(cloudlet.__file__).parent
GROUND = {"config", "errors", "http", "places"}
# Room -> what it may import besides itself and the ground. What is missing (cli, cloud, testing) may import everything.
BELOW = {
    "gateway": {"wire", "services.api", "observe", "control"},
    "wire": set[str](),
    "services": {"wire", "stacks", "observe", "control", "mesh", "engines", "store"},
    "stacks": {"control", "engines", "store"},
    "observe": {"control"},
    "control": {"store"},
    "engines": {"control", "mesh"},
    "mesh": set[str](),
    "store": set[str](),
}
PROGRAMS = {"observe.coverage"}  # run by hand, with the whole house before them
# Service -> the files of other services whose functions it calls; all else goes through operations.
NEIGHBOURS = {
    "acm_pca": {"acm.authority"},  # keys and their forms
    "autoscaling": {"ec2.filters"},
    "dynamodbstreams": {"dynamodb.base", "dynamodb.records", "dynamodb.streams"},  # the other API of one service
    "ecs": {"acm.authority", "appmesh.environment", "appmesh.images", "appmesh.lines", "appmesh.redirect"},
    "servicediscovery": {"route53.names"},
    "sts": {"iam.credentials"},
}


def test_rooms_know_only_the_rooms_below() -> None:
    wrong = []
    for module, imported in imports():
        room = module.partition(".")[0]
        if room in BELOW and module not in PROGRAMS:
            allowed = BELOW[room] | GROUND | {room}
            if not any(f"{imported}.".startswith(f"{one}.") for one in allowed):
                wrong.append(f"{module} imports {imported}")
    assert wrong == []


def test_services_call_each_other_by_operations() -> None:
    services = {path.parent.name for path in HOUSE.glob("services/*/service.py")}
    wrong, used = [], set()
    for module, imported in imports():
        room, *whose = module.split(".")
        other, *where = imported.split(".")
        if room != "services" or other != "services" or where[0] not in services or where[0] == whose[0]:
            continue
        name = ".".join(where[:2])
        used.add((whose[0], name))
        if name not in NEIGHBOURS.get(whose[0], ()):
            wrong.append(f"{module} imports {imported}")
    assert wrong == []
    assert used == {(folder, name) for folder, names in NEIGHBOURS.items() for name in names}


@cache
def imports() -> list[tuple[str, str]]:
    """What each module of the house imports when it runs, both without ``cloudlet.``; types alone do not count."""
    found = []
    for path in sorted(HOUSE.rglob("*.py")):
        module = ".".join(path.relative_to(HOUSE).with_suffix("").parts)
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
                node.body = []
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("cloudlet."):
                origin = (node.module or "").removeprefix("cloudlet.")
                for alias in node.names:
                    below = HOUSE.joinpath(*origin.split("."), alias.name)
                    inner = below.is_dir() or below.with_suffix(".py").exists()
                    found.append((module, f"{origin}.{alias.name}" if inner else origin))
            elif isinstance(node, ast.ImportFrom) and node.module == "cloudlet":
                for alias in node.names:
                    if (HOUSE / alias.name).is_dir() or (HOUSE / f"{alias.name}.py").exists():
                        found.append((module, alias.name))
    return found
