"""A template that was found to be in order, and what depends on what in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from cloudlet.stacks import parameters
from cloudlet.stacks.errors import invalid
from cloudlet.stacks.intrinsics import _SUB, NO_VALUE, UNKNOWN, Context, Lookup, Resolver

_SECTIONS = frozenset(
    (
        "AWSTemplateFormatVersion",
        "Conditions",
        "Description",
        "Mappings",
        "Metadata",
        "Outputs",
        "Parameters",
        "Resources",
        "Rules",
        "Transform",
        "Hooks",
    )
)
_ATTRIBUTES = frozenset(
    (
        "Condition",
        "CreationPolicy",
        "DeletionPolicy",
        "DependsOn",
        "Description",
        "Metadata",
        "Properties",
        "Type",
        "UpdatePolicy",
        "UpdateReplacePolicy",
    )
)
_DELETION = ("Delete", "Retain", "Snapshot", "RetainExceptOnCreate")
_REPLACEMENT = ("Delete", "Retain", "Snapshot")
# What an UpdatePolicy with AutoScalingReplacingUpdate is about.
_OF_INSTANCES = frozenset(("LaunchConfigurationName", "LaunchTemplate", "MixedInstancesPolicy", "VPCZoneIdentifier"))


@dataclass(frozen=True, slots=True)
class Desired:
    """One resource as the template wants it; unknown values are those of resources that are yet to be made."""

    logical_id: str
    type: str
    properties: dict[str, Any]
    depends: frozenset[str] = frozenset()
    deletion_policy: str = "Delete"
    update_replace_policy: str = "Delete"
    metadata: Any = None
    creation_policy: Any = None
    update_policy: Any = None

    @property
    def replaces(self) -> frozenset[str]:
        """Properties whose change makes a new resource by the template's own wish."""
        policy = self.update_policy if isinstance(self.update_policy, dict) else {}
        wish = (policy.get("AutoScalingReplacingUpdate") or {}).get("WillReplace", False)
        return _OF_INSTANCES if str(wish).lower() == "true" else frozenset()


@dataclass(slots=True)
class Template:
    """A template's sections, checked. Raises ValidationError when it is made of a document that is not in order."""

    document: dict[str, Any]
    resources: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        if unknown := [name for name in self.document if name not in _SECTIONS]:
            raise invalid(f"Invalid template property or properties [{', '.join(unknown)}]")
        if self.document.get("AWSTemplateFormatVersion", "2010-09-09") != "2010-09-09":
            raise invalid("Template format error: Invalid AWSTemplateFormatVersion: supported values: [2010-09-09]")
        for section in ("Parameters", "Mappings", "Conditions", "Outputs", "Rules", "Resources"):
            if not isinstance(self.document.get(section, {}), dict):
                raise invalid(f"Template format error: {section} must be an object.")
        if not isinstance(self.document.get("Description", ""), str):
            raise invalid("Template format error: Description must be a string.")
        self.resources = self.document.get("Resources") or {}
        parameters.check_declarations(self.parameters)

    @property
    def parameters(self) -> dict[str, Any]:
        """The declared parameters."""
        return self.document.get("Parameters") or {}

    @property
    def mappings(self) -> dict[str, Any]:
        return self.document.get("Mappings") or {}

    @property
    def conditions(self) -> dict[str, Any]:
        return self.document.get("Conditions") or {}

    @property
    def outputs(self) -> dict[str, Any]:
        return self.document.get("Outputs") or {}

    @property
    def rules(self) -> dict[str, Any]:
        return self.document.get("Rules") or {}

    @property
    def description(self) -> str:
        return str(self.document.get("Description", ""))

    @property
    def transforms(self) -> list[str]:
        """The names of the transforms that the whole template asks for."""
        return transforms_of(self.document)

    def check(self) -> None:
        """Judge the structure of resources and outputs, and that all they name is there. Raises ValidationError."""
        if not self.resources:
            raise invalid("Template format error: At least one Resources member must be defined.")
        no_nulls(self.document, "")
        for name, resource in self.resources.items():
            self._check_resource(name, resource)
        self._check_names("Resources", self.resources)
        for name, output in self.outputs.items():
            if not isinstance(output, dict) or "Value" not in output:
                raise invalid("Template format error: Every Outputs member must contain a Value object")
            if not name.isalnum():
                raise invalid(f"Template format error: Output name {name} is non alphanumeric.")
            self._check_condition(output, "Outputs")
        self._check_names("Outputs", self.outputs)
        if found := sorted(set(references(self.conditions)) - set(self.parameters)):
            raise invalid(
                f"Template format error: Unresolved dependencies [{', '.join(found)}]. Cannot reference resources in "
                "the Conditions block of the template"
            )

    def types(self) -> list[str]:
        """Every resource type, once, in the template's order."""
        return list(dict.fromkeys(str(resource["Type"]) for resource in self.resources.values()))

    def desired(self, logical_id: str, resolver: Resolver, depends: frozenset[str] = frozenset()) -> Desired:
        """One resource with its values resolved. Raises ValidationError."""
        resource = self.resources[logical_id]
        properties = resolver.resolve(resource.get("Properties", {}))
        if properties is NO_VALUE:
            properties = {}
        if not isinstance(properties, dict):
            raise invalid(
                f"Template format error: [/Resources/{logical_id}] Every Properties member must be an object."
            )
        return Desired(
            logical_id,
            resource["Type"],
            {key: _flag(value) for key, value in properties.items()},
            depends,
            self._policy(resource, "DeletionPolicy", _DELETION, resolver),
            self._policy(resource, "UpdateReplacePolicy", _REPLACEMENT, resolver),
            resolver.resolve(resource["Metadata"]) if "Metadata" in resource else None,
            resolver.resolve(resource["CreationPolicy"]) if "CreationPolicy" in resource else None,
            resolver.resolve(resource["UpdatePolicy"]) if "UpdatePolicy" in resource else None,
        )

    def active(self, context: Context) -> list[str]:
        """The resources whose condition holds, in the template's order. Raises ValidationError."""
        resolver = Resolver(context, _nothing)
        return [
            name
            for name, resource in self.resources.items()
            if "Condition" not in resource or resolver.condition(resource["Condition"])
        ]

    def dependencies(self, context: Context) -> dict[str, frozenset[str]]:
        """What each active resource needs first, said by DependsOn or by a reference. Raises ValidationError."""
        active = self.active(context)
        there = set(active)
        found: dict[str, frozenset[str]] = {}
        for name in active:
            used: set[str] = set()
            missing: set[str] = set()

            def lookup(other: str, attribute: str | None, used: set[str] = used, missing: set[str] = missing) -> Any:
                (used if other in there else missing).add(other)
                return UNKNOWN

            resource = self.resources[name]
            resolver = Resolver(context, lookup)
            for part in ("Properties", "Metadata", "CreationPolicy", "UpdatePolicy"):
                if part in resource:
                    resolver.resolve(resource[part])
            if missing:
                raise invalid(
                    f"Template format error: Unresolved resource dependencies [{', '.join(sorted(missing))}] in the "
                    "Resources block of the template"
                )
            # A resource whose condition does not hold is not waited for.
            used.update(other for other in _depends_on(resource) if other in there)
            if name in used:
                raise invalid(f"Circular dependency between resources: [{name}]")
            found[name] = frozenset(used)
        order(found)
        return found

    def _check_resource(self, name: str, resource: Any) -> None:
        if not (name.isalnum() and name.isascii()):
            raise invalid(f"Template format error: Resource name {name} is non alphanumeric.")
        if not isinstance(resource, dict):
            raise invalid(f"Template format error: [/Resources/{name}] Every Resources member must be an object.")
        if not isinstance(resource.get("Type"), str):
            raise invalid(
                f"Template format error: [/Resources/{name}] Every Resources object must contain a Type member."
            )
        known = _ATTRIBUTES | {"Version"} if _is_custom(resource["Type"]) else _ATTRIBUTES
        if unknown := [key for key in resource if key not in known]:
            raise invalid(f"Invalid template resource property '{unknown[0]}'")
        if not isinstance(resource.get("Properties", {}), dict):
            raise invalid(f"Template format error: [/Resources/{name}] Every Properties member must be an object.")
        self._check_condition(resource, "Resources")
        if missing := [other for other in _depends_on(resource) if other not in self.resources]:
            raise invalid(
                f"Template format error: Unresolved resource dependencies [{', '.join(missing)}] in the Resources "
                "block of the template"
            )

    def _check_condition(self, holder: dict[str, Any], block: str) -> None:
        condition = holder.get("Condition")
        if condition is not None and not isinstance(condition, str):
            raise invalid("Template format error: Every Condition member must be a string.")
        if condition is not None and condition not in self.conditions:
            raise invalid(
                f"Template format error: Unresolved condition dependency {condition} in the {block} block of the "
                "template"
            )

    def _check_names(self, block: str, section: dict[str, Any]) -> None:
        missing = set(references(section)) - set(self.resources) - set(self.parameters)
        if missing:
            raise invalid(
                f"Template format error: Unresolved resource dependencies [{', '.join(sorted(missing))}] in the "
                f"{block} block of the template"
            )

    def _policy(self, resource: dict[str, Any], name: str, allowed: tuple[str, ...], resolver: Resolver) -> str:
        if name not in resource:
            return "Delete"
        value = resolver.resolve(resource[name])
        if value is NO_VALUE:
            return "Delete"
        if value not in allowed:
            raise invalid(f"Template format error: Unrecognized {name} {value}")
        return str(value)


def transforms_of(document: Mapping[str, Any]) -> list[str]:
    """The names of the transforms that a whole document asks for; AWS::Include is a macro with parameters."""
    declared = document.get("Transform")
    if declared is None:
        return []
    found = []
    for one in declared if isinstance(declared, list) else [declared]:
        name = one.get("Name") if isinstance(one, dict) else one
        if not isinstance(name, str):
            raise invalid("Template format error: Transform must be the name of a macro or a list of names.")
        found.append(name)
    return found


def references(value: Any) -> Iterator[str]:
    """Every name that a value refers to, whichever way its conditions go; pseudo parameters are left out."""
    if isinstance(value, dict):
        if len(value) == 1:
            ((function, argument),) = value.items()
            if function == "Ref" and isinstance(argument, str):
                if not argument.startswith("AWS::"):
                    yield argument
                return
            if function == "Fn::GetAtt":
                if isinstance(argument, str):
                    yield argument.split(".", 1)[0]
                elif isinstance(argument, list) and argument and isinstance(argument[0], str):
                    yield argument[0]
                    yield from references(argument[1:])
                return
            if function == "Fn::Sub":
                yield from _of_sub(argument)
                return
        for item in value.values():
            yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def _of_sub(argument: Any) -> Iterator[str]:
    own: Any = {}
    if isinstance(argument, list) and len(argument) == 2:
        argument, own = argument
        yield from references(own)
    if isinstance(argument, str):
        for found in _SUB.finditer(argument):
            name = found.group(1).strip()
            if name and not name.startswith(("!", "AWS::")) and not (isinstance(own, dict) and name in own):
                yield name.split(".", 1)[0]


def order(depends: Mapping[str, Iterable[str]]) -> list[str]:
    """The names so that each comes after what it depends on, else in their own order.

    Raises ValidationError that names the resources of a cycle.
    """
    waiting = {name: {other for other in others if other in depends} for name, others in depends.items()}
    followers: dict[str, list[str]] = {name: [] for name in depends}
    for name, others in waiting.items():
        for other in others:
            followers[other].append(name)
    position = {name: number for number, name in enumerate(depends)}
    ready = [name for name, others in waiting.items() if not others]
    done: list[str] = []
    while ready:
        following = []
        for name in ready:
            done.append(name)
            for follower in followers[name]:
                waiting[follower].discard(name)
                if not waiting[follower]:
                    following.append(follower)
        ready = sorted(following, key=position.__getitem__)
    if len(done) < len(waiting):
        raise invalid(f"Circular dependency between resources: [{', '.join(_cycle(waiting, set(done)))}]")
    return done


def _cycle(waiting: dict[str, set[str]], done: set[str]) -> list[str]:
    """What is left when also those are taken away that nothing left depends on."""
    left = {name: others for name, others in waiting.items() if name not in done}
    while True:
        needed = {other for others in left.values() for other in others}
        smaller = {name: others for name, others in left.items() if name in needed}
        if len(smaller) == len(left):
            return sorted(left)
        left = smaller


def no_nulls(value: Any, path: str) -> None:
    """Refuse nulls, as AWS does. Raises ValidationError that says where."""
    if value is None:
        raise invalid(f"Template format error: [{path}] 'null' values are not allowed in templates")
    if isinstance(value, dict):
        for key, below in value.items():
            no_nulls(below, f"{path}/{key}")
    elif isinstance(value, list):
        for number, item in enumerate(value):
            no_nulls(item, f"{path}/{number}")


def _depends_on(resource: dict[str, Any]) -> list[str]:
    given = resource.get("DependsOn") or []
    names = given if isinstance(given, list) else [given]
    if not all(isinstance(name, str) for name in names):
        raise invalid("Template format error: Every DependsOn value must be a string.")
    return names


def _flag(value: Any) -> Any:
    """A property that is a boolean by its text, as a parameter gives it."""
    return value == "true" if value in ("true", "false") else value


def _nothing(name: str, attribute: str | None) -> Any:
    raise invalid(
        f"Template format error: Unresolved dependencies [{name}]. Cannot reference resources in the Conditions block "
        "of the template"
    )


__all__ = ["Desired", "Lookup", "Template", "no_nulls", "order", "references", "transforms_of"]


def _is_custom(type: str) -> bool:
    return type.startswith("Custom::") or type == "AWS::CloudFormation::CustomResource"
